"""The order in which a process serves its clients: no client delays the others."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from declbind.live.fair_queue import NOBODY, Client, FairGate, FairQueue, client_of, current_client, working_for
from declbind.live.threads import RequestThreads
from tests.live import let_tasks_run
from tests.one_queue import OneQueue
from tests.test_live_stampede import end

STORM = [Client("storm", str(number)) for number in range(5)]
OTHER = Client("other", "1")


def order_of(queue: FairQueue[Any], items: list[tuple[Client, Any]]) -> list[object]:
    """Put items into a queue, and return them in the order in which one thread gets them."""
    for client, item in items:
        queue.put(client, item)
    order = []
    while (taken := queue.take()) is not None:
        order.append(taken[1])
        queue.done(taken[0])
    assert not queue.has_waiting
    return order


def storm_then_others() -> list[tuple[Client, Any]]:
    storm: list[tuple[Client, Any]] = [(STORM[number % 5], f"storm {number}") for number in range(50)]
    return [*storm, (OTHER, "other 1"), (OTHER, "other 2"), (Client("third"), "third")]


def wait_of(order: Sequence[object], item: str) -> int:
    return order.index(item)


def test_a_client_waits_for_one_call_of_each_other_client():
    """Fifty calls on five sockets of one user come first.

    Only one of them is served before each call of another client.
    """
    order = order_of(FairQueue(8), storm_then_others())
    assert (wait_of(order, "other 1"), wait_of(order, "third")) == (1, 2)
    assert wait_of(order, "other 2") == 4


def test_one_queue_for_all_is_detected():
    """Negative control: in a single queue the other clients are served last."""
    order = order_of(OneQueue(8), storm_then_others())
    assert wait_of(order, "other 1") == 50


def test_the_sockets_of_one_client_are_served_in_rotation():
    """Behind a proxy that is not trusted, all visitors are one client, and one socket must not delay the others."""
    items: list[tuple[Client, Any]] = [(STORM[0], number) for number in range(9)]
    order = order_of(FairQueue(8), [*items, (STORM[1], "other")])
    assert order == [0, "other", *range(1, 9)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=60), st.integers(1, 4))
def test_no_call_is_lost_and_each_socket_keeps_its_order(puts, each):
    """All calls come out in the order of their socket, and no client gets more than its share."""
    queue: FairQueue[int] = FairQueue(each)
    for number, (owner, socket) in enumerate(puts):
        queue.put(Client(owner, socket), number)
    under_way: list[Client] = []
    order: list[int] = []
    while queue.has_waiting or under_way:
        while (taken := queue.take()) is not None:
            under_way.append(taken[0])
            order.append(taken[1])
        assert under_way
        counts = Counter(client.owner for client in under_way)
        assert max(counts.values()) <= each
        queue.done(under_way.pop(0))
    assert sorted(order) == list(range(len(puts)))
    for place in set(puts):
        numbers = [number for number in order if puts[number] == place]
        assert numbers == sorted(numbers)


def test_calls_of_the_hub_are_not_limited():
    """They are queued like others, but no limit of a client applies to them."""
    queue: FairQueue[int] = FairQueue(1)
    for number in range(3):
        queue.put(NOBODY, number)
        queue.put(OTHER, number)
    assert [(taken := queue.take()) and taken[0].owner for _ in range(5)] == ["", "other", "", "", None]


def test_what_counts_as_a_client():
    """A user with all sockets is one client, and so is an address without a user, or a socket without both."""
    assert client_of("7", "10.0.0.1", "a").owner == client_of("7", "10.0.0.2", "b").owner
    assert client_of(None, "10.0.0.1", "a").owner == client_of(None, "10.0.0.1", "b").owner
    assert len({client_of(pk, address, "a").owner for pk in (None, "7") for address in ("", "7", "a")}) == 4


# Threads --------------------------------------------------------------------------------------------------------------


class Work:
    """Calls that wait for each other in a pool, and the order in which they began."""

    def __init__(self, size: int, each: int) -> None:
        self.threads = RequestThreads(size, each)
        self.began: list[str] = []
        self.gate = threading.Event()
        self._begins = threading.Condition()

    def call(self, name: str) -> None:
        with self._begins:
            self.began.append(name)
            self._begins.notify_all()
        assert self.gate.wait(10)

    def await_call(self, name: str) -> None:
        with self._begins:
            assert self._begins.wait_for(lambda: name in self.began, 10)

    def ask(self, client: Client, name: str) -> asyncio.Task[None]:
        with working_for(client):
            return asyncio.create_task(self.threads.run(self.call, name))


async def test_threads_serve_clients_in_rotation():
    """One thread has many calls of a client. The call of another client is the next one, not the last."""
    work = Work(1, 1)
    asked = [work.ask(STORM[number % 5], "storm") for number in range(20)]
    await asyncio.to_thread(work.await_call, "storm")
    asked.append(work.ask(OTHER, "other"))
    await let_tasks_run()
    work.gate.set()
    await asyncio.gather(*asked)
    assert work.began.index("other") <= 2
    await end(work.threads)


async def test_one_client_does_not_get_all_threads():
    """Slow calls of one user leave threads free, and another user's call begins at once."""
    work = Work(4, 2)
    asked = [work.ask(STORM[number % 5], "storm") for number in range(20)]
    await let_tasks_run()
    asked.append(work.ask(OTHER, "other"))
    await asyncio.to_thread(work.await_call, "other")
    assert work.began.count("storm") == 2
    work.gate.set()
    await asyncio.gather(*asked)
    assert work.began.count("storm") == 20
    await end(work.threads)


async def test_closed_threads_finish_the_queued_calls():
    """This includes calls of a client that may not have more threads."""
    work = Work(4, 1)
    asked = [work.ask(STORM[0], "storm") for _ in range(5)]
    asked += [work.ask(OTHER, "other") for _ in range(5)]
    await let_tasks_run()
    work.threads.close()
    work.gate.set()
    await asyncio.gather(*asked)
    await end(work.threads)
    assert not any(thread.is_alive() for thread in work.threads._threads)


async def test_a_cancelled_call_frees_the_share_of_its_client():
    """The caller left while the call was queued."""
    work = Work(2, 1)
    asked = [work.ask(STORM[0], "first"), work.ask(STORM[0], "second"), work.ask(STORM[0], "third")]
    await asyncio.to_thread(work.await_call, "first")
    await let_tasks_run()
    asked[1].cancel()
    await let_tasks_run()
    work.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert work.began == ["first", "third"]
    await end(work.threads)


# Places ---------------------------------------------------------------------------------------------------------------


async def test_each_client_gets_one_place_in_rotation():
    """The second place waits for another client, however much the first one requests."""
    gate = FairGate(2)
    inside: list[str] = []
    leave = asyncio.Event()

    async def work(client: Client) -> None:
        with working_for(client):
            async with gate.hold():
                inside.append(client.owner)
                await leave.wait()

    tasks = [asyncio.create_task(work(client)) for client in STORM]
    await let_tasks_run()
    assert inside == ["storm"]
    tasks.append(asyncio.create_task(work(OTHER)))
    await let_tasks_run()
    assert inside == ["storm", "other"]
    leave.set()
    await asyncio.gather(*tasks)
    assert len(inside) == 6


async def test_a_cancelled_task_returns_its_place():
    """A task may get a place at the moment in which it is cancelled."""
    gate = FairGate(1)
    loop = asyncio.get_running_loop()
    for moment in range(4):
        place: asyncio.Future[Client] = loop.create_future()
        async with gate.hold():
            gate.ask(STORM[0], place)
            waiting = asyncio.create_task(gate.wait(place))
            await asyncio.sleep(0)
            if moment == 0:
                waiting.cancel()
        if moment > 1:
            waiting.cancel()
        if moment == 1:
            gate.leave(await waiting)
        await asyncio.wait({waiting})
    async with asyncio.timeout(5), gate.hold():
        assert current_client() == Client("")
