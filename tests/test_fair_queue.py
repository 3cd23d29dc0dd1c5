"""Clients of one process are served in turn, whatever one of them asks for: an order, not a time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from declbind.live import hub as hub_module
from declbind.live import snapshots
from declbind.live.consumers import BindingConsumer
from declbind.live.fair_queue import NOBODY, Client, FairGate, FairQueue, client_of, current_client, working_for
from declbind.live.hub import get_hub
from declbind.live.threads import RequestThreads
from declbind.testing import Client as Socket
from declbind.testing import override_bindings
from tests.live import NUMBERS, since_of, store, subscribe
from tests.test_live_stampede import Counted, end

STORM = [Client("storm", str(number)) for number in range(5)]
OTHER = Client("other", "1")


class OneQueue(FairQueue[Any]):
    """The queue that there was: first come, first served, for all clients."""

    def put(self, client: Client, item: Any) -> None:
        super().put(Client("all", ""), item)


def order_of(queue: FairQueue[Any], items: list[tuple[Client, Any]]) -> list[Any]:
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


def wait_of(order: list[Any], item: str) -> int:
    return order.index(item)


def test_a_client_waits_for_one_call_of_each_other():
    """Fifty calls on five sockets of a user are in front, and one of them is served before each of another's."""
    order = order_of(FairQueue(8), storm_then_others())
    assert (wait_of(order, "other 1"), wait_of(order, "third")) == (1, 2)
    assert wait_of(order, "other 2") == 4


def test_one_queue_for_all_is_noticed():
    """Control: in the queue that there was, the others are served last."""
    order = order_of(OneQueue(8), storm_then_others())
    assert wait_of(order, "other 1") == 50


def test_the_sockets_of_one_client_take_turns():
    """Behind a proxy that is not trusted, all visitors are one client, and one socket must not delay the others."""
    items: list[tuple[Client, Any]] = [(STORM[0], number) for number in range(9)]
    order = order_of(FairQueue(8), [*items, (STORM[1], "other")])
    assert order == [0, "other", *range(1, 9)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=60), st.integers(1, 4))
def test_nothing_is_lost_and_each_socket_keeps_its_order(puts, each):
    """Whatever is put, all of it comes out, in the order of each socket, and one owner has no more than its share."""
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


def test_what_no_client_has_asked_for_is_not_limited():
    """Calls of the hub itself take their turn, and no limit of a client holds them back."""
    queue: FairQueue[int] = FairQueue(1)
    for number in range(3):
        queue.put(NOBODY, number)
        queue.put(OTHER, number)
    assert [(taken := queue.take()) and taken[0].owner for _ in range(5)] == ["", "other", "", "", None]


def test_who_is_a_client():
    """A user with all sockets, an address without a user, and a socket that has neither."""
    assert client_of("7", "10.0.0.1", "a").owner == client_of("7", "10.0.0.2", "b").owner
    assert client_of(None, "10.0.0.1", "a").owner == client_of(None, "10.0.0.1", "b").owner
    assert len({client_of(pk, address, "a").owner for pk in (None, "7") for address in ("", "7", "a")}) == 4


# Threads -------------------------------------------------------------------------------------------------------------


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


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_threads_serve_clients_in_turn():
    """One thread, busy with a storm: another client's call is the next, not the last."""
    work = Work(1, 1)
    asked = [work.ask(STORM[number % 5], "storm") for number in range(20)]
    await asyncio.to_thread(work.await_call, "storm")
    asked.append(work.ask(OTHER, "other"))
    await settle()
    work.gate.set()
    await asyncio.gather(*asked)
    assert work.began.index("other") <= 2
    await end(work.threads)


async def test_one_client_does_not_get_all_threads():
    """Slow calls of one user leave threads free, and another user's call begins at once."""
    work = Work(4, 2)
    asked = [work.ask(STORM[number % 5], "storm") for number in range(20)]
    await settle()
    asked.append(work.ask(OTHER, "other"))
    await asyncio.to_thread(work.await_call, "other")
    assert work.began.count("storm") == 2
    work.gate.set()
    await asyncio.gather(*asked)
    assert work.began.count("storm") == 20
    await end(work.threads)


async def test_closed_threads_end_the_calls_of_a_client_over_its_share():
    """A pool that is closed carries out what waits, also of a client that may not have more threads."""
    work = Work(4, 1)
    asked = [work.ask(STORM[0], "storm") for _ in range(5)]
    asked += [work.ask(OTHER, "other") for _ in range(5)]
    await settle()
    work.threads.close()
    work.gate.set()
    await asyncio.gather(*asked)
    await end(work.threads)
    assert not any(thread.is_alive() for thread in work.threads._threads)


async def test_a_cancelled_call_does_not_keep_its_clients_place():
    """The caller of a call that waits has left: the share of its client is whole."""
    work = Work(2, 1)
    asked = [work.ask(STORM[0], "first"), work.ask(STORM[0], "second"), work.ask(STORM[0], "third")]
    await asyncio.to_thread(work.await_call, "first")
    await settle()
    asked[1].cancel()
    await settle()
    work.gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert work.began == ["first", "third"]
    await end(work.threads)


# Places --------------------------------------------------------------------------------------------------------------


async def test_a_place_is_given_in_turn_and_one_to_each_client():
    """The second place waits for another client, however much the first one asks for."""
    gate = FairGate(2)
    inside: list[str] = []
    leave = asyncio.Event()

    async def work(client: Client) -> None:
        with working_for(client):
            async with gate.hold():
                inside.append(client.owner)
                await leave.wait()

    tasks = [asyncio.create_task(work(client)) for client in STORM]
    await settle()
    assert inside == ["storm"]
    tasks.append(asyncio.create_task(work(OTHER)))
    await settle()
    assert inside == ["storm", "other"]
    leave.set()
    await asyncio.gather(*tasks)
    assert len(inside) == 6


async def test_whoever_is_cancelled_gives_the_place_back():
    """A place may be given to a task in the moment in which it is cancelled."""
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


# Sockets -------------------------------------------------------------------------------------------------------------


async def connected(address: str) -> Socket:
    """Return an anonymous client of an address."""
    application = BindingConsumer.as_asgi()

    async def from_address(scope: Any, receive: Any, send: Any) -> None:
        await application({**scope, "client": [address, 1]}, receive, send)

    socket = Socket(from_address)
    assert await socket.connect()
    return socket


async def ask(socket: Socket, name: str, **payload: Any) -> None:
    request = {"action": "subscribe", "params": {"name": name}, **payload}
    await socket.send({"stream": "numbers", "payload": request})


class Gated(Counted):
    """Note for which group each snapshot is read."""

    def __init__(self, function: Callable[..., Any], gate: threading.Event) -> None:
        super().__init__(function, gate)
        self.groups: list[str] = []

    def __call__(self, *args: Any) -> Any:
        self.groups.append(args[1])
        return super().__call__(*args)


class Asked:
    """Count who has asked for a place, so that nothing has to be timed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._wanted: tuple[int, asyncio.Event] | None = None
        original = FairGate.ask

        def ask(gate: FairGate, client: Client, place: asyncio.Future[Client]) -> None:
            original(gate, client, place)
            self._count += 1
            if self._wanted is not None and self._count >= self._wanted[0]:
                self._wanted[1].set()

        monkeypatch.setattr(FairGate, "ask", ask)

    async def wait(self, count: int) -> None:
        """Wait until so many places have been asked for since the last time."""
        if self._count < count:
            self._wanted = count, asyncio.Event()
            await asyncio.wait_for(self._wanted[1].wait(), 20)
            self._wanted = None
        self._count = 0


async def storm_and_one(gate: threading.Event, asked: Asked, name: str) -> tuple[list[Socket], Socket]:
    """Let one address ask for six snapshots, and then another one for one, before any is read."""
    storm = [await connected("10.0.0.1") for _ in range(6)]
    other = await connected("10.0.0.2")
    for number, socket in enumerate(storm):
        await ask(socket, f"storm{number}", snapshot=True)
    await asked.wait(6)
    await ask(other, name, snapshot=True)
    await asked.wait(1)
    gate.set()
    assert (await other.receive())["payload"]["final"]
    return storm, other


@pytest.mark.django_db(transaction=True)
async def test_a_storm_of_snapshots_leaves_a_place_free(monkeypatch):
    """Six snapshots of one address wait for one place; the only one of another address is read beside the first."""
    gate = threading.Event()
    gated = Gated(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", gated)
    with override_bindings(NUMBERS):
        storm, other = await storm_and_one(gate, Asked(monkeypatch), "mine")
        assert gated.groups.index("name-mine") <= 1
        for socket in (*storm, other):
            await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_a_snapshot_that_a_storm_asked_for_is_read_in_the_others_turn(monkeypatch):
    """The other client asks for the group for which the storm has asked last, and does not wait for all before it."""
    gate = threading.Event()
    gated = Gated(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", gated)
    with override_bindings(NUMBERS):
        storm, other = await storm_and_one(gate, Asked(monkeypatch), "storm5")
        assert gated.groups.index("name-storm5") <= 1
        for socket in (*storm, other):
            await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_first_come_first_served_is_noticed(monkeypatch):
    """Control: with one queue for all, the other's snapshot is read after those of the storm."""
    gate = threading.Event()
    gated = Gated(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", gated)
    monkeypatch.setattr("declbind.live.fair_queue.FairQueue", OneQueue)
    monkeypatch.setattr("declbind.live.threads.FairQueue", OneQueue)
    with override_bindings(NUMBERS):
        storm, other = await storm_and_one(gate, Asked(monkeypatch), "mine")
        assert gated.groups.index("name-mine") > 1
        for socket in (*storm, other):
            await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_the_hub_reads_while_all_threads_are_taken(settings):
    """Changes are delivered, though no request of any client is served."""
    settings.DECLBIND = {"DATABASE_THREADS": 2, "THREADS_PER_CLIENT": 2}
    gate = threading.Event()
    with override_bindings(NUMBERS):
        socket = await connected("10.0.0.1")
        await subscribe(socket, "a")
        hub = await get_hub()
        blocked = [asyncio.create_task(hub.requests.run(gate.wait, 20)) for _ in range(4)]
        await settle()
        await store("a", 5)
        assert (await socket.receive())["payload"]["data"]["value"] == 5
        assert not any(task.done() for task in blocked)
        gate.set()
        await asyncio.gather(*blocked)
        await socket.disconnect()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("queue", [FairQueue, OneQueue])
async def test_replays_of_two_clients_are_made_in_turn(queue, monkeypatch, settings):
    """A client with many replays has one portion made between two of another's. Control: not in one queue for all."""
    monkeypatch.setattr("declbind.live.fair_queue.FairQueue", queue)
    settings.DECLBIND = {"REPLAYS_AT_ONCE": 1}
    monkeypatch.setattr("declbind.live.replays.PORTION", 1)
    made: list[str] = []
    variants = hub_module.LiveHub.variants

    def note(self: Any, event: Any) -> Any:
        made.append(current_client().owner)
        return variants(self, event)

    with override_bindings(NUMBERS):
        storm = [await connected("10.0.0.1") for _ in range(4)]
        other = await connected("10.0.0.2")
        sockets = [*storm, other]
        replies = [await subscribe(socket, "a") for socket in sockets]
        for socket in sockets:
            assert (await socket.request("numbers", "unsubscribe", params={"name": "a"}))["ok"]
        for value in range(6):
            await store("a", value)
        hub = await get_hub()
        await hub.settle()
        monkeypatch.setattr(hub_module.LiveHub, "variants", note)
        async with hub.replays.hold():
            asked = Asked(monkeypatch)
            for socket, reply in zip(sockets, replies, strict=True):
                await ask(socket, "a", since=since_of(reply))
            await asked.wait(5)
        for socket in sockets:
            values = [(await socket.receive())["payload"]["data"]["value"] for _ in range(6)]
            assert values == list(range(6))
        first, last = made.index("address 10.0.0.2"), len(made) - 1 - made[::-1].index("address 10.0.0.2")
        # Between two portions of the other client there is at most one of the storm.
        is_fair = made[first : last + 1].count("address 10.0.0.1") <= 6
        assert is_fair is (queue is FairQueue), made
        for socket in sockets:
            await socket.disconnect()
