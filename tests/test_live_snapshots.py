"""The age of a snapshot: it is never older than a frame that was sent to the same client before it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from declbind.live import snapshots, subscriptions
from declbind.live.hub import get_hub
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject
from tests.live import BOARD, NUMBERS, code_of, next_payload, settle_hub, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

Read = Callable[..., snapshots.Snapshot]


class HeldReads:
    """Snapshots that have been read but are not returned yet, so that a read takes as long as the test wants.

    Use an instance in place of ``read_snapshot``. Each read ends after one call of ``let_one_end``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read: Read = snapshots.read_snapshot
        self._loop = asyncio.get_running_loop()
        self._ends = threading.Semaphore(0)
        self._was_read = asyncio.Semaphore(0)
        monkeypatch.setattr(snapshots, "read_snapshot", self)

    def __call__(self, *args: object) -> snapshots.Snapshot:
        snapshot = self._read(*args)
        self._loop.call_soon_threadsafe(self._was_read.release)
        assert self._ends.acquire(timeout=PATIENCE)
        return snapshot

    async def wait_for_one(self) -> None:
        """Wait until the rows of the next snapshot have been read."""
        async with asyncio.timeout(PATIENCE):
            await self._was_read.acquire()

    def let_one_end(self) -> None:
        """Let one read return its snapshot."""
        self._ends.release()

    def let_all_end(self) -> None:
        """Let this read and all later ones return their snapshots."""
        for _ in range(100):
            self._ends.release()


class Reader:
    """A client as the documentation describes it: it drops the (group, offset) pairs that it has seen."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rows: dict[int, int] = {}
        self.seen: set[tuple[str, int]] = set()
        #: Offsets of snapshots, each with the highest offset of the frames before it.
        self.snapshots: list[tuple[int, int]] = []
        self._pages: dict[int, int] = {}

    async def take(self) -> JSONObject:
        """Receive a frame and apply it; return its payload."""
        frame = await self.client.receive()
        payload: JSONObject = frame["payload"]
        place = frame["group"], frame["offset"]
        match payload["action"]:
            case "snapshot":
                self._pages |= {row["pk"]: row["data"]["value"] for row in payload["objects"]}
                if payload["final"]:
                    self.rows, self._pages = self._pages, {}
                    self.snapshots.append((place[1], max((offset for _, offset in self.seen), default=0)))
            case "resync":
                self.seen.add(place)
            case _ if place in self.seen:
                pass
            case "delete":
                self.seen.add(place)
                self.rows.pop(payload["pk"])
            case _:
                self.seen.add(place)
                self.rows[payload["pk"]] = payload["data"]["value"]
        return payload

    async def take_until(self, action: str) -> JSONObject:
        while (payload := await self.take())["action"] != action:
            pass
        return payload

    async def take_until_value(self, value: int) -> None:
        while value not in self.rows.values():
            await self.take()

    @property
    def was_sent_back(self) -> bool:
        """Whether a snapshot was older than a frame before it."""
        return any(offset < before for offset, before in self.snapshots)


async def change(row: IntegerValue, value: int) -> None:
    row.value = value
    await row.asave()


async def change_while_a_live_subscription_reads(monkeypatch: pytest.MonkeyPatch) -> tuple[Reader, list[int]]:
    """Request a snapshot on a live subscription that is sent a change while the rows are read.

    Return the final rows of the client, and the stored values.
    """
    row = await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            reader = Reader(client)
            await subscribe(client)
            held = HeldReads(monkeypatch)
            asked = asyncio.create_task(subscribe(client, snapshot=True))
            await held.wait_for_one()
            await change(row, 2)
            await settle_hub()
            held.let_all_end()
            await asked
            await reader.take_until("snapshot")
            await store("a", 9)
            await reader.take_until_value(9)
    return reader, sorted([row.value async for row in IntegerValue.objects.filter(name="a")])


async def test_a_snapshot_on_a_live_subscription_is_not_older_than_a_frame_before_it(monkeypatch):
    """A change that is delivered while the rows are read is in the snapshot that follows."""
    reader, stored = await change_while_a_live_subscription_reads(monkeypatch)
    assert not reader.was_sent_back
    assert sorted(reader.rows.values()) == stored == [2, 9]


async def test_a_snapshot_without_a_lower_bound_is_detected(monkeypatch):
    """Negative control of the previous test: the client drops the change that the snapshot lacks."""
    monkeypatch.setattr(subscriptions, "_is_ahead", lambda hub, subscription, offset: False)
    reader, stored = await change_while_a_live_subscription_reads(monkeypatch)
    assert reader.was_sent_back
    assert sorted(reader.rows.values()) == [1, 9] != stored


async def test_constant_writes_do_not_delay_a_snapshot_forever(monkeypatch):
    """A change overtakes each read, but two reads are enough: the subscription is held during the second one."""
    row = await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            reader = Reader(client)
            await subscribe(client)
            held = HeldReads(monkeypatch)
            asked = asyncio.create_task(subscribe(client, snapshot=True))
            for value in (2, 3):
                await held.wait_for_one()
                await change(row, value)
                await settle_hub()
                held.let_one_end()
            await asked
            assert [(await reader.take())["action"] for _ in range(3)] == ["update", "snapshot", "update"]
            assert list(reader.rows.values()) == [3]
            assert not reader.was_sent_back
            assert await client.is_silent()


async def test_changes_of_other_groups_do_not_repeat_the_read(monkeypatch):
    """Only frames of the subscription itself count."""
    await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            held = HeldReads(monkeypatch)
            asked = asyncio.create_task(subscribe(client, snapshot=True))
            await held.wait_for_one()
            await store("b", 2)
            await settle_hub()
            held.let_one_end()
            await asked
            assert (await next_payload(client))["final"]


async def test_a_resync_counts_as_a_frame(monkeypatch):
    """A snapshot that was read before the events of a ``resync`` would hide that they were missed."""
    await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            reader = Reader(client)
            await subscribe(client)
            hub = await get_hub()
            held = HeldReads(monkeypatch)
            asked = asyncio.create_task(subscribe(client, snapshot=True))
            await held.wait_for_one()
            await store("b", 2)
            await hub.settle()
            for subscription in hub.core.subscriptions("numbers"):
                hub.resync(subscription, "config")
            held.let_all_end()
            await asked
            assert (await reader.take_until("snapshot"))["final"]
            assert not reader.was_sent_back


async def test_a_held_subscription_continues_after_a_refused_snapshot(monkeypatch, settings):
    """The second read finds too many rows. The request is refused, and changes in the meantime are delivered."""
    settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": 2}
    await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            held = HeldReads(monkeypatch)
            request = client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
            asked = asyncio.create_task(request)
            await held.wait_for_one()
            await store("a", 2)
            await store("a", 3)
            await settle_hub()
            held.let_all_end()
            assert code_of(await asked) == "too_large"
            await store("a", 4)
            assert [(await next_payload(client))["data"]["value"] for _ in range(3)] == [2, 3, 4]
            assert await client.is_silent()


async def test_a_snapshot_is_not_older_than_the_plain_frames_before_it(monkeypatch):
    """A client that was subscribed at connect requests a snapshot, which includes the changes that it was sent."""
    with override_bindings(BOARD):
        async with Client() as client:
            held = HeldReads(monkeypatch)
            asked = asyncio.create_task(client.request("board", "subscribe", snapshot=True))
            await held.wait_for_one()
            await store("a", 1)
            await settle_hub()
            held.let_all_end()
            assert (await asked)["ok"]
            assert (await next_payload(client))["action"] == "create"
            [row] = (await next_payload(client))["objects"]
            assert row["data"]["value"] == 1


# Shared reads --------------------------------------------------------------------------------------------------------


def note_calls_of_take(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set when the next snapshot is requested."""
    take, called = snapshots.SnapshotDesk.take, asyncio.Event()

    async def take_and_note(self: snapshots.SnapshotDesk, *args: Any) -> snapshots.Snapshot:
        # Set one step later, when ``take`` waits for the read.
        asyncio.get_running_loop().call_soon(called.set)
        return await take(self, *args)

    monkeypatch.setattr(snapshots.SnapshotDesk, "take", take_and_note)
    return called


async def ask_during_the_read_of_another_client(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[Reader], Any]
) -> Reader:
    """Send a client a change while another client's snapshot is read, then let it request the same snapshot.

    Args:
        ask: Sends the client's request, given the frames that it has seen so far.
    """
    row = await store("a", 1)
    with override_bindings(NUMBERS):
        async with Client() as early, Client() as client:
            reader = Reader(client)
            await subscribe(client)
            held = HeldReads(monkeypatch)
            earlier = asyncio.create_task(subscribe(early, snapshot=True))
            await held.wait_for_one()
            await change(row, 2)
            await reader.take_until("update")
            taken = note_calls_of_take(monkeypatch)
            asked = asyncio.create_task(ask(reader))
            async with asyncio.timeout(PATIENCE):
                await taken.wait()
            held.let_all_end()
            await asyncio.gather(earlier, asked)
            await reader.take_until("snapshot")
            await reader.client.disconnect()
    return reader


async def ask_again(reader: Reader) -> None:
    await subscribe(reader.client, snapshot=True)


async def leave_and_ask(reader: Reader) -> None:
    await reader.client.request("numbers", "unsubscribe", params={"name": "a"})
    await subscribe(reader.client, snapshot=True)


async def come_back_and_ask(reader: Reader) -> None:
    await reader.client.disconnect()
    reader.client = Client()
    await reader.client.connect()
    await subscribe(reader.client, snapshot=True)


@pytest.mark.parametrize("ask", [ask_again, leave_and_ask, come_back_and_ask])
async def test_a_shared_snapshot_is_not_older_than_what_a_later_client_has_seen(monkeypatch, ask):
    """A read that began before the request is not shared, because the client may have seen newer frames."""
    reader = await ask_during_the_read_of_another_client(monkeypatch, ask)
    assert not reader.was_sent_back
    assert list(reader.rows.values()) == [2]


@pytest.mark.parametrize("ask", [leave_and_ask, come_back_and_ask])
async def test_sharing_a_read_that_has_begun_is_detected(monkeypatch, ask):
    """Negative control of the previous test: the later client gets rows that are older than its frames."""
    monkeypatch.setattr(snapshots._SharedRead, "read", lambda self: snapshots.read_snapshot(*self._arguments))
    reader = await ask_during_the_read_of_another_client(monkeypatch, ask)
    assert reader.was_sent_back
    assert list(reader.rows.values()) == [1]
