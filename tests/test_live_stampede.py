"""Many clients at once: equal snapshots are read once, and a short absence is replayed from memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from declbind import conf
from declbind.live import replays, snapshots
from declbind.live.hub import get_hub
from declbind.live.threads import RequestThreads
from declbind.models import Event
from declbind.testing import Client, override_bindings
from tests.json_types import JSONObject
from tests.live import NUMBERS, settle_hub, since_of, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 20


class Counted:
    """A counter of the calls of a function, and of how many of them ran at once."""

    def __init__(self, function: Callable[..., object], gate: threading.Event | None = None) -> None:
        self.function, self.gate = function, gate
        self.calls = self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, *args: object) -> object:
        with self._lock:
            self.calls += 1
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if self.gate is not None:
                self.gate.wait(10)
            return self.function(*args)
        finally:
            with self._lock:
                self._now -= 1


async def ask_at_once(
    clients: list[Client], names: list[str], gate: threading.Event, **payload: Any
) -> list[JSONObject]:
    """Send all requests, wait until all have arrived, then start the read; return the replies."""
    asked = [
        asyncio.create_task(subscribe(client, name, **payload)) for client, name in zip(clients, names, strict=True)
    ]
    hub = await get_hub()
    # Each request has passed the check of its rights when the hub has answered that many calls.
    await asyncio.gather(*(hub.requests.run(lambda: None) for _ in range(3 * CLIENTS)))
    gate.set()
    replies: list[JSONObject] = await asyncio.gather(*asked)
    return replies


async def connect_all() -> list[Client]:
    clients = [Client() for _ in range(CLIENTS)]
    for client in clients:
        assert await client.connect()
    return clients


async def test_concurrent_requests_share_one_snapshot(monkeypatch):
    """The rows of a group are read once for twenty clients, and each of them gets all rows."""
    gate = threading.Event()
    counted = Counted(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", counted)
    await store("a", 1)
    with override_bindings(NUMBERS):
        clients = await connect_all()
        replies = await ask_at_once(clients, ["a"] * CLIENTS, gate, snapshot=True)
        assert len({reply["offset"] for reply in replies}) <= counted.calls
        for client in clients:
            frame = await client.receive()
            assert [row["data"]["value"] for row in frame["payload"]["objects"]] == [1]
        assert counted.calls < CLIENTS / 4
        await store("a", 2)
        for client in clients:
            assert (await client.receive())["payload"]["data"]["value"] == 2
            await client.disconnect()


async def test_different_snapshots_are_read_a_few_at_a_time(monkeypatch):
    """Twenty groups at once use only their share of the threads."""
    gate = threading.Event()
    counted = Counted(snapshots.read_snapshot, gate)
    monkeypatch.setattr(snapshots, "read_snapshot", counted)
    with override_bindings(NUMBERS):
        clients = await connect_all()
        names = [f"group{number}" for number in range(CLIENTS)]
        await ask_at_once(clients, names, gate, snapshot=True)
        assert counted.calls == CLIENTS
        assert counted.most <= conf.settings.SNAPSHOTS_AT_ONCE
        for client in clients:
            await client.disconnect()


async def test_a_client_that_disconnects_does_not_cancel_a_shared_snapshot(monkeypatch):
    """The first client disconnects before the rows are read, and the second one still gets them."""
    gate = threading.Event()
    monkeypatch.setattr(snapshots, "read_snapshot", Counted(snapshots.read_snapshot, gate))
    await store("a", 1)
    with override_bindings(NUMBERS):
        first, second = Client(), Client()
        await first.connect()
        await second.connect()
        request = {"action": "subscribe", "params": {"name": "a"}, "snapshot": True}
        await first.send({"stream": "numbers", "payload": request})
        asked = asyncio.create_task(subscribe(second, "a", snapshot=True))
        hub = await get_hub()
        await asyncio.gather(*(hub.requests.run(lambda: None) for _ in range(20)))
        leaving = asyncio.create_task(first.disconnect())
        gate.set()
        await asked
        assert (await second.receive())["payload"]["final"]
        await leaving
        await second.disconnect()


async def test_a_short_absence_is_replayed_from_memory(monkeypatch):
    """Twenty clients reconnect at once, and their missed events are not read from the log."""
    counted = Counted(replays.read_missed)
    monkeypatch.setattr(replays, "read_missed", counted)
    with override_bindings(NUMBERS):
        clients = await connect_all()
        reply = await subscribe(clients[0], "a")
        await store("a", 1)
        await store("a", 2)
        await settle_hub()
        since = since_of(reply)
        await asyncio.gather(*(subscribe(client, "a", since=since) for client in clients[1:]))
        for client in clients[1:]:
            assert [(await client.receive())["payload"]["data"]["value"] for _ in range(2)] == [1, 2]
        assert counted.calls == 0
        for client in clients:
            await client.disconnect()


# Connections of the database ------------------------------------------------------------------------------------------


class Load:
    """Queries in request threads of a deployment that keeps no connections. It records the opened connections."""

    def __init__(self, size: int) -> None:
        self.threads = RequestThreads(size)
        self.opened: list[BaseDatabaseWrapper] = []

    def ask(self) -> int:
        connections["default"].settings_dict["CONN_MAX_AGE"] = 0
        return Event.objects.count()

    async def run(self, calls: int) -> None:
        def note(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
            self.opened.append(connection)

        connection_created.connect(note)
        try:
            await asyncio.gather(*(self.threads.run(self.ask) for _ in range(calls)))
        finally:
            connection_created.disconnect(note)


async def end(threads: RequestThreads) -> None:
    """Wait until the threads have ended, because all of them must leave the test's database."""
    threads.close()
    for thread in threads._threads:
        await asyncio.to_thread(thread.join, 10)


async def test_many_requests_share_the_connections_of_the_threads():
    """Forty requests at once open one connection per thread, or a few more if a thread was idle in between."""
    load = Load(4)
    await load.run(40)
    assert len(load.opened) <= 8
    await end(load.threads)


async def test_an_idle_thread_keeps_no_connection():
    """After the burst the connections are closed, as after a normal request of Django."""
    load = Load(4)
    await load.run(40)
    deadline = asyncio.get_running_loop().time() + 10
    while any(connection.connection is not None for connection in load.opened):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
    await end(load.threads)


async def test_a_broken_connection_is_not_reused():
    """A connection that one request has broken is not used by the next one."""

    def fail() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    threads = RequestThreads(1)
    results = await asyncio.gather(
        *(threads.run(fail if number % 2 else Event.objects.count) for number in range(6)), return_exceptions=True
    )
    assert [isinstance(result, DatabaseError) for result in results] == [False, True] * 3
    await end(threads)


async def test_closed_threads_finish_queued_calls_and_accept_no_more():
    """No call waits for ever for threads that have ended."""
    threads = RequestThreads(1)
    calls = [asyncio.create_task(threads.run(Event.objects.count)) for _ in range(3)]
    await asyncio.sleep(0)
    await end(threads)
    assert await asyncio.gather(*calls) == [0, 0, 0]
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(Event.objects.count)
