"""The change from a snapshot to live events: nothing is missing or repeated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction

from declbind.live import snapshots
from declbind.outbound import sequencer
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject
from tests.live import NUMBERS, in_thread, next_payload, since_of, store, subscribe
from tests.live_snapshots import read_snapshot, values_of

pytestmark = pytest.mark.django_db(transaction=True)
only_sequenced = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="On SQLite the id is the number, and one transaction writes at a time."
)


class Writers:
    """Threads that move, change and delete numbers until they are stopped, in transactions of several rows."""

    def __init__(self, count: int = 4) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.written = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
        assert self.errors == []

    def _run(self, number: int) -> None:
        try:
            step = 0
            while not self.stop.is_set():
                step += 1
                self._write(number, step)
                self.written.release()
        except BaseException as error:
            self.errors.append(error)
        finally:
            connections.close_all()

    def _write(self, number: int, step: int) -> None:
        own = IntegerValue.objects.filter(value__gte=number * 1_000_000, value__lt=(number + 1) * 1_000_000)
        with transaction.atomic():
            IntegerValue.objects.create(name="ab"[step % 2], value=number * 1_000_000 + step)
            row = own.order_by("?").first()
            assert row is not None
            row.name = "b" if row.name == "a" else "a"
            row.save()
            if step % 3 == 0:
                row.delete()
            if step % 5 == 0:
                transaction.set_rollback(True)


class Mirror:
    """A client that applies its frames, and records each gap and each repetition."""

    def __init__(self) -> None:
        self.rows: dict[int, Any] = {}
        self.faults: list[str] = []
        self.snapshots = 0
        self._page_rows: dict[int, Any] = {}
        self._offset = 0

    def take(self, frame: JSONObject) -> None:
        payload, offset = frame["payload"], frame["offset"]
        if payload["action"] == "snapshot":
            self._page_rows |= {row["pk"]: row["data"] for row in payload["objects"]}
            if payload["final"]:
                self.rows, self._page_rows, self._offset = self._page_rows, {}, offset
                self.snapshots += 1
            return
        pk, data = payload["pk"], payload["data"]
        if offset <= self._offset:
            self.faults.append(f"offset {offset} after {self._offset}")
        if (payload["action"] == "create") is (pk in self.rows):
            self.faults.append(f"{payload['action']} of {pk}, {'known' if pk in self.rows else 'unknown'}")
        self._offset = offset
        if payload["action"] == "delete":
            self.rows.pop(pk, None)
        else:
            self.rows[pk] = data

    async def read_until_known(self, client: Client, value: int) -> None:
        while value not in [row["value"] for row in self.rows.values()]:
            self.take(await client.receive())


async def follow_writers(rounds: int) -> Mirror:
    """Take snapshots repeatedly during concurrent writes; return the resulting rows of frames and snapshots."""
    mirror = Mirror()
    async with Client() as client:
        with Writers() as writers:
            for turn in range(1, rounds + 1):
                await subscribe(client, snapshot=True)
                while mirror.snapshots < turn:
                    mirror.take(await client.receive())
                await in_thread(lambda: [writers.written.acquire(timeout=20) for _ in range(10)])
        await store("a", -1)
        await mirror.read_until_known(client, -1)
    return mirror


async def stored_rows() -> dict[int, Any]:
    return {row.pk: {"name": "a", "value": row.value} async for row in IntegerValue.objects.filter(name="a")}


async def test_snapshot_and_changes_neither_miss_nor_repeat_rows(settings):
    """Other threads write all the time. Snapshot and changes together equal the stored rows."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1000, "MESSAGE_BURST": 1000, "SNAPSHOT_PAGE_ROWS": 5}
    with override_bindings(NUMBERS):
        mirror = await follow_writers(rounds=15)
        assert mirror.rows == await stored_rows()
        assert mirror.faults == []


async def test_a_snapshot_that_is_older_than_its_offset_is_detected(settings, monkeypatch):
    """Negative control of the previous test: rows that are read before the head leave a gap."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1000, "MESSAGE_BURST": 1000}
    take_snapshot = snapshots.read_snapshot

    def take_snapshot_early(*args: Any) -> object:
        early = now = take_snapshot(*args)
        # Long enough for writers to come in between, with more than one change of this group.
        until = time.monotonic() + 2
        while now.offset < early.offset + 6 and time.monotonic() < until:
            now = take_snapshot(*args)
        return snapshots.Snapshot(now.offset, early.pages)

    monkeypatch.setattr(snapshots, "read_snapshot", take_snapshot_early)
    with override_bindings(NUMBERS):
        mirror = await follow_writers(rounds=5)
        assert mirror.faults != [] or mirror.rows != await stored_rows()


@contextmanager
def held_open(value: int) -> Iterator[None]:
    """Write a row in a transaction of a separate connection, which ends after the block."""
    written, end = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                IntegerValue.objects.create(name="a", value=value)
                written.set()
                assert end.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert written.wait(20)
        yield
    finally:
        end.set()
        thread.join()


def without_sequencer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave committed events without numbers, as if the relay of another process were slow."""
    monkeypatch.setattr(sequencer, "sequence", lambda using, limit=0: 0)


async def snapshot_while_events_wait(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Take a snapshot with a committed row whose event has no number, while a transaction is open.

    Return the values in the order in which the client received them.
    """
    with override_bindings(NUMBERS):
        async with Client() as client:
            with monkeypatch.context() as patch:
                without_sequencer(patch)
                with held_open(2):
                    await store("a", 1)
                    await subscribe(client, snapshot=True)
                    known = values_of(await read_snapshot(client))
            await store("a", 3)
            while 3 not in known:
                known.append((await next_payload(client))["data"]["value"])
            assert await client.is_silent()
            return known


@only_sequenced
async def test_a_row_in_the_snapshot_is_not_sent_again_when_its_event_is_numbered(monkeypatch):
    """The event of a row in the snapshot may be numbered later, before the event of a transaction that was open."""
    assert sorted(await snapshot_while_events_wait(monkeypatch)) == [1, 2, 3]


async def known_after_coming_back(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Take a snapshot of a row whose event has no number, lose the connection, and resume from its offset.

    Return the values in the order in which the client received them, up to a last one.
    """
    with override_bindings(NUMBERS):
        async with Client() as client:
            with monkeypatch.context() as patch:
                without_sequencer(patch)
                await store("a", 1)
                reply = await subscribe(client, snapshot=True)
                known = values_of(await read_snapshot(client))
        async with Client() as client:
            await subscribe(client, since=since_of(reply))
            await store("a", 2)
            while 2 not in known:
                known.append((await next_payload(client))["data"]["value"])
            return known


async def test_resuming_from_a_snapshot_repeats_none_of_its_rows(monkeypatch):
    """The offset alone identifies what the client has seen, in every process."""
    assert await known_after_coming_back(monkeypatch) == [1, 2]


@only_sequenced
async def test_an_offset_without_the_waiting_events_is_detected(monkeypatch):
    """Negative control of the previous test: the events are sent again later."""
    monkeypatch.setattr(sequencer, "unsequenced_ids", lambda using: frozenset())
    assert await known_after_coming_back(monkeypatch) == [1, 1, 2]


@only_sequenced
async def test_a_snapshot_that_ignores_waiting_events_is_detected(monkeypatch):
    """Negative control: without the ids of waiting events, a row arrives twice."""
    monkeypatch.setattr(sequencer, "unsequenced_ids", lambda using: frozenset())
    assert sorted(await snapshot_while_events_wait(monkeypatch)) == [1, 1, 2, 3]
