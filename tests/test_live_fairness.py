"""Snapshots and replays of many clients: no client delays the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from declbind.live import hub as hub_module
from declbind.live import snapshots
from declbind.live.consumers import BindingConsumer
from declbind.live.fair_queue import Client, FairGate, FairQueue, current_client
from declbind.live.hub import get_hub
from declbind.testing import Client as Socket
from declbind.testing import override_bindings
from tests.live import NUMBERS, let_tasks_run, since_of, store, subscribe
from tests.one_queue import OneQueue
from tests.test_live_stampede import Counted


async def connected(address: str) -> Socket:
    """Return an anonymous client of an address."""
    application = BindingConsumer.as_asgi()

    async def from_address(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await application({**scope, "client": [address, 1]}, receive, send)

    socket = Socket(from_address)
    assert await socket.connect()
    return socket


async def ask(socket: Socket, name: str, **payload: object) -> None:
    request = {"action": "subscribe", "params": {"name": name}, **payload}
    await socket.send({"stream": "numbers", "payload": request})


class Gated(Counted):
    """A reader of snapshots that records the group of each read."""

    def __init__(self, function: Callable[..., object], gate: threading.Event) -> None:
        super().__init__(function, gate)
        self.groups: list[str] = []

    def __call__(self, *args: Any) -> Any:
        self.groups.append(args[1])
        return super().__call__(*args)


class Asked:
    """A counter of requests for a place, so that no test depends on time."""

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
    """Let one address request six snapshots, and another one request one, before any of them is read."""
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
    """Six snapshots of one address wait for one place. The only one of another address is read beside the first."""
    gate = threading.Event()
    gated = Gated(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", gated)
    with override_bindings(NUMBERS):
        storm, other = await storm_and_one(gate, Asked(monkeypatch), "mine")
        assert gated.groups.index("name-mine") <= 1
        for socket in (*storm, other):
            await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_a_shared_snapshot_is_read_in_the_order_of_the_other_client(monkeypatch):
    """The group is the last one that the busy client requested. The other client does not wait for all before it."""
    gate = threading.Event()
    gated = Gated(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", gated)
    with override_bindings(NUMBERS):
        storm, other = await storm_and_one(gate, Asked(monkeypatch), "storm5")
        assert gated.groups.index("name-storm5") <= 1
        for socket in (*storm, other):
            await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_one_queue_for_all_is_detected(monkeypatch):
    """Negative control: the snapshot of the other client is read after those of the busy one."""
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
async def test_the_hub_reads_while_all_threads_are_busy(settings):
    """Changes are delivered, though no request of any client is served."""
    settings.DECLBIND = {"DATABASE_THREADS": 2, "THREADS_PER_CLIENT": 2}
    gate = threading.Event()
    with override_bindings(NUMBERS):
        socket = await connected("10.0.0.1")
        await subscribe(socket, "a")
        hub = await get_hub()
        blocked = [asyncio.create_task(hub.requests.run(gate.wait, 20)) for _ in range(4)]
        await let_tasks_run()
        await store("a", 5)
        assert (await socket.receive())["payload"]["data"]["value"] == 5
        assert not any(task.done() for task in blocked)
        gate.set()
        await asyncio.gather(*blocked)
        await socket.disconnect()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("queue", [FairQueue, OneQueue])
async def test_replays_of_two_clients_alternate(queue, monkeypatch, settings):
    """A client with many replays gets one portion between two portions of another client.

    With one queue for all it does not.
    """
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
