"""Resumption: missed events are replayed from the log, or the client is sent a resync."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections, transaction

from declbind.live import replays, subscriptions
from declbind.live.hub import get_hub
from declbind.outbound import relay
from declbind.registry import database_alias
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import (
    NUMBERS,
    code_of,
    in_thread,
    next_payload,
    next_value,
    offset_now,
    resume,
    settle_hub,
    since_of,
    store,
    subscribe,
    trim_all,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def forget_recent() -> None:
    """Clear the hub's memory of recent events, so that replays are read from the log."""
    hub = await get_hub()
    await hub.settle()
    hub.recent.start(hub.core.cursor)


async def test_missed_changes_are_replayed_in_order_before_live_ones():
    """The reply has the offset of the head. Then the missed changes of the group follow, and then the later ones."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        row = await store("a", 1)
        await store("b", 2)
        row.value = 3
        await row.asave()
        await row.adelete()
        await in_thread(relay.run_once, database_alias())
        async with Client() as client:
            reply = await resume(client, epoch, offset)
            frames = [await client.receive() for _ in range(3)]
            assert [frame["payload"]["action"] for frame in frames] == ["create", "update", "delete"]
            assert [frame["payload"]["data"]["value"] for frame in frames] == [1, 3, 3]
            offsets = [frame["offset"] for frame in frames]
            assert offset < offsets[0] < offsets[1] < offsets[2] == reply["offset"]
            assert {frame["group"] for frame in frames} == {"name-a"}
            await store("a", 4)
            assert await next_value(client) == 4


async def test_resuming_without_missed_changes_sends_no_frame():
    """The client resumes from the offset of the head."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await client.is_silent()
            await store("a", 1)
            assert await next_value(client) == 1


async def test_a_replay_longer_than_a_batch_is_complete(monkeypatch):
    """The log is read in batches, and no event is lost between two of them."""
    monkeypatch.setattr(replays, "READ_BATCH", 3)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        for value in range(10):
            await store("ab"[value % 3 == 2], value)
        await forget_recent()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert [await next_value(client) for _ in range(7)] == [0, 1, 3, 4, 6, 7, 9]
            assert await client.is_silent()


async def test_a_live_subscription_may_request_a_replay():
    """A request with an older offset repeats the changes since then, once, and the subscription stays live."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            first = await subscribe(client)
            await store("a", 1)
            assert await next_value(client) == 1
            await resume(client, first["epoch"], first["offset"])
            assert await next_value(client) == 1
            await store("a", 2)
            assert await next_value(client) == 2
            assert await client.is_silent()


@pytest.mark.parametrize(("epoch", "ahead"), [("another", 0), (None, 1), (None, 10**15)])
async def test_an_offset_of_another_epoch_or_of_the_future_is_a_resync(epoch, ahead):
    """The reply, a resync and live changes follow each other, so the client can take a snapshot and misses nothing."""
    with override_bindings(NUMBERS):
        own, offset = await offset_now()
        async with Client() as client:
            await resume(client, epoch or own, offset + ahead)
            frame = await client.receive()
            assert frame.keys() == {"stream", "payload", "group", "offset"}
            assert frame["payload"] == {"action": "resync", "reason": "epoch"}
            await store("a", 1)
            assert await next_value(client) == 1


@pytest.mark.parametrize("since", [{}, 5, {"epoch": "e"}, {"epoch": 1, "offset": 1}, {"epoch": "e", "offset": -1}])
async def test_a_malformed_since_is_refused(since):
    """It is not treated as if it were missing."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await client.request("numbers", "subscribe", params={"name": "a"}, since=since)
            assert code_of(reply) == "malformed"


async def test_resuming_from_before_the_retention_is_a_resync(settings):
    """The events are deleted, so the client is sent a resync instead of a replay with a gap."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await store("a", 1)
        await store("a", 2)
        await settle_hub()
        await in_thread(trim_all, settings)
        async with Client() as client:
            reply = await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "expired"}
            await store("a", 3)
            assert await next_value(client) == 3
        async with Client() as client:
            await resume(client, epoch, reply["offset"])
            assert await next_value(client) == 3


async def test_trimming_during_a_replay_is_a_resync(settings, monkeypatch):
    """The offset was valid when it was checked. The read itself detects that it no longer is."""
    monkeypatch.setattr(replays, "find_obstacle", lambda *args: None)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await store("a", 1)
        await forget_recent()
        await in_thread(trim_all, settings)
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "expired"}
            await store("a", 2)
            assert await next_value(client) == 2


async def test_resuming_needs_the_permission_to_view():
    """A user who has lost the permission gets no replay."""
    user = await in_thread(make_user, "example.view_integervalue")
    with override_bindings({**NUMBERS, "permissions": {}}):
        async with Client(user=user) as client:
            reply = await subscribe(client)
        await store("a", 1)
        await in_thread(user.user_permissions.clear)
        async with Client(user=user) as client:
            since = since_of(reply)
            refused = await client.request("numbers", "subscribe", params={"name": "a"}, since=since)
            assert code_of(refused) == "denied"
            assert await client.is_silent()


class Writer:
    """A thread that writes numbers of one name until it has written all, some of them in rolled-back transactions."""

    def __init__(self, count: int, first: int) -> None:
        self.values = range(first, first + count)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for value in self.values:
                with transaction.atomic():
                    IntegerValue.objects.create(name="a", value=value)
                    transaction.set_rollback(value % 7 == 0)
        finally:
            connections.close_all()


async def reconnect_until(wanted: int, epoch: str, offset: int) -> list[tuple[int, int]]:
    """Read a few frames, disconnect and resume, repeatedly; return (offset, value) of each received frame."""
    received: list[tuple[int, int]] = []
    while len(received) < wanted:
        async with Client() as client:
            await resume(client, epoch, offset)
            for _ in range(min(9, wanted - len(received))):
                frame = await client.receive()
                value = frame["payload"]["data"]["value"]
                assert isinstance(value, int)
                received.append((frame["offset"], value))
            offset = received[-1][0]
    return received


async def test_a_client_that_keeps_reconnecting_misses_and_repeats_nothing():
    """Replay and live changes join without gap or overlap while other threads write."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        writers = [Writer(60, first) for first in (0, 1000, 2000)]
        committed = {value for writer in writers for value in writer.values if value % 7}
        received = await reconnect_until(len(committed), epoch, offset)
        for writer in writers:
            await in_thread(writer.thread.join)
        assert {value for _, value in received} == committed
        offsets = [offset for offset, _ in received]
        assert offsets == sorted(set(offsets))
        for writer in writers:
            own = [value for _, value in received if value in writer.values]
            assert own == sorted(own)


async def test_a_replay_that_goes_live_too_early_is_detected(monkeypatch):
    """Negative control of the previous test: starting live at the head without reading the log loses changes."""

    async def go_live_at_once(hub: Any, socket: Any, subscription: Any) -> None:
        subscription.live, subscription.offset = True, hub.core.cursor

    monkeypatch.setattr(subscriptions, "catch_up", go_live_at_once)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await store("a", 1)
        await settle_hub()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await client.is_silent()
