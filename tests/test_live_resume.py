"""Coming back: what was missed is replayed from the log, and where that cannot be had the client is told to resync."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import connections, transaction

from declbind.live import replays, subscriptions
from declbind.live.hub import get_hub
from declbind.live.log_reader import Tick
from declbind.live.proofs import Holder
from declbind.models import Event, Head
from declbind.outbound import entries, history, log, relay, sequencer
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import (
    BOARD,
    NUMBERS,
    code_of,
    fail_to_look,
    in_thread,
    next_payload,
    since_of,
    store,
    subscribe,
    trim_all,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def offset_now() -> tuple[str, int]:
    """Return epoch and offset as a client knows them that has just subscribed."""
    async with Client() as client:
        reply = await subscribe(client)
        return reply["epoch"], reply["offset"]


async def resume(client: Client, epoch: str, offset: int, name: str = "a") -> dict[str, Any]:
    proof = Holder(epoch, None, "numbers", f"name-{name}").issue(0)
    return await subscribe(client, name, since={"epoch": epoch, "offset": offset, "resume": proof})


async def next_value(client: Client) -> Any:
    return (await next_payload(client))["data"]["value"]


async def forget_recent() -> None:
    """Have the hub know no more of the past than one that starts now: replays are read from the log."""
    hub = await get_hub()
    await hub.settle()
    hub.recent.start(hub.core.cursor)


async def test_what_was_missed_is_replayed_in_order_before_live():
    """The reply names the head; then come the missed changes of the group, then the later ones."""
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


async def test_who_missed_nothing_gets_nothing():
    """To come back with the offset of the head costs no frame."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await client.is_silent()
            await store("a", 1)
            assert await next_value(client) == 1


async def test_a_replay_longer_than_a_batch_is_whole(monkeypatch):
    """The log is read piece by piece; no event falls between two pieces."""
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


async def test_a_live_subscription_may_ask_for_what_it_missed():
    """Asking again with an older offset repeats from there, once, and stays live."""
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
async def test_an_offset_of_another_history_or_of_the_future_is_a_resync(epoch, ahead):
    """Reply, resync, then live: the client takes a snapshot and misses nothing meanwhile."""
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
async def test_a_since_of_another_shape_is_malformed(since):
    """A broken position is refused rather than taken for none."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await client.request("numbers", "subscribe", params={"name": "a"}, since=since)
            assert code_of(reply) == "malformed"


async def test_what_was_trimmed_is_a_resync(settings):
    """Beyond the retention nothing can be replayed, and the client is told instead of left with a gap."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await store("a", 1)
        await store("a", 2)
        await (await get_hub()).settle()
        await in_thread(trim_all, settings)
        async with Client() as client:
            reply = await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "expired"}
            await store("a", 3)
            assert await next_value(client) == 3
        async with Client() as client:
            await resume(client, epoch, reply["offset"])
            assert await next_value(client) == 3


async def test_what_is_trimmed_while_it_is_replayed_is_a_resync(settings, monkeypatch):
    """The position was good when it was judged; the reading itself notices that it no longer is."""
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


async def test_coming_back_needs_the_right_to_view():
    """A replay is no way around a right that was lost."""
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
    """Read a few frames, leave in the middle, come back with the last offset; return (offset, value) as received."""
    received: list[tuple[int, int]] = []
    while len(received) < wanted:
        async with Client() as client:
            await resume(client, epoch, offset)
            for _ in range(min(9, wanted - len(received))):
                frame = await client.receive()
                received.append((frame["offset"], frame["payload"]["data"]["value"]))
            offset = received[-1][0]
    return received


async def test_a_client_that_keeps_leaving_among_writers_misses_and_repeats_nothing():
    """Replay and live join without gap or overlap, however often and whenever the client comes back."""
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


async def test_a_replay_that_goes_live_too_early_is_noticed(monkeypatch):
    """Negative control of the test before: to start live at the head without reading the log loses changes."""

    async def go_live_at_once(hub: Any, socket: Any, subscription: Any) -> None:
        subscription.live, subscription.offset = True, hub.core.cursor

    monkeypatch.setattr(subscriptions, "catch_up", go_live_at_once)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await store("a", 1)
        await (await get_hub()).settle()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await client.is_silent()


# The hub's own position ----------------------------------------------------------------------------------------------


@transaction.atomic
def forget_all() -> None:
    Event.objects.all().delete()
    Head.objects.all().delete()


async def test_a_new_history_is_told_to_open_subscriptions():
    """A database that was flushed or restored under open sockets: who asked is told, who did not ask is not."""
    with override_bindings(NUMBERS, BOARD):
        async with Client() as client:
            await subscribe(client)
            await in_thread(forget_all)
            frame = await client.receive()
            assert frame == {
                "stream": "numbers",
                "group": "name-a",
                "offset": (await in_thread(log.load_head, database_alias())).offset,
                "payload": {"action": "resync", "reason": "epoch"},
            }
            assert await client.is_silent()
            await store("a", 1)
            values = {await next_value(client) for _ in range(2)}
            assert values == {1}


@transaction.atomic
def write_and_lose(lost: slice) -> None:
    """Write three changes and take some of all events out of the log, before anybody can have read them."""
    for value in (1, 2, 3):
        IntegerValue.objects.create(name="a", value=value)
    sequencer.sequence(database_alias())
    ids = list(Event.objects.order_by("id").values_list("id", flat=True))
    Event.objects.filter(id__in=ids[lost]).delete()


HOLES = {"all": slice(None), "the first": slice(0, 1), "one of the middle": slice(-2, -1), "the last": slice(-1, None)}


async def check_that_a_loss_is_told(lost: slice) -> None:
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await in_thread(write_and_lose, lost)
            await store("a", 4)
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            await store("a", 5)
            # What was stored meanwhile may have come before the resync was told, which covers it, or after it.
            while (value := await next_value(client)) != 5:
                assert value == 4


@pytest.mark.parametrize("lost", HOLES)
async def test_events_that_are_gone_are_told_to_open_subscriptions(lost):
    """A table that was emptied, rows deleted by hand: what nobody trimmed must not be missing in silence."""
    await check_that_a_loss_is_told(HOLES[lost])


@pytest.mark.parametrize("lost", HOLES)
async def test_a_loss_is_told_once(lost):
    """The new history is whole, though holes of the old one are still there and nothing follows them."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            old = (await get_hub()).epoch
            await in_thread(write_and_lose, HOLES[lost])
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            epoch = (await get_hub()).epoch
            assert epoch != old
            assert await client.is_silent()
            assert (await get_hub()).epoch == epoch
            assert (await in_thread(log.load_head, database_alias())).is_whole


@pytest.mark.parametrize("lost", HOLES)
async def test_a_hub_that_goes_by_its_position_alone_is_noticed(monkeypatch, lost):
    """Negative control: the head is where it should be, and lost events are passed over."""
    monkeypatch.setattr(Tick, "is_whole", lambda self, cursor: True)
    with pytest.raises(AssertionError):
        await check_that_a_loss_is_told(HOLES[lost])


@pytest.mark.parametrize("lost", HOLES)
async def test_who_comes_back_to_a_log_with_holes_is_told(lost):
    """Whatever part of the events is gone: an old offset is worth nothing."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await in_thread(write_and_lose, HOLES[lost])
        await (await get_hub()).settle()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            await store("a", 4)
            assert await next_value(client) == 4


async def test_a_history_that_was_cut_is_told_to_open_subscriptions():
    """A backup without the last events has the same epoch: a hub that waited for its old position would lose all."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            for value in (1, 2, 3):
                await store("a", value)
            last = [(await client.receive())["offset"] for _ in range(3)][-1]

            def cut() -> None:
                with transaction.atomic():
                    column = history.offset_column(database_alias())
                    Event.objects.filter(**{f"{column}__gt": last - 2}).delete()
                    Head.objects.filter(seq__gt=0).update(seq=last - 2)

            old_epoch = (await get_hub()).epoch
            await in_thread(cut)
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            for value in (4, 5, 6):
                await store("a", value)
                assert await next_value(client) == value
        # The numbers of what was lost have been given again; a client of the old history must not be fooled by them.
        async with Client() as client:
            reply = await resume(client, old_epoch, last)
            assert reply["epoch"] != old_epoch
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}


async def test_what_was_trimmed_before_the_hub_read_it_is_told(settings, monkeypatch):
    """A hub that was away from the database for longer than the retention says so instead of skipping."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)

            def write_and_trim() -> None:
                IntegerValue.objects.create(name="a", value=1)
                trim_all(settings)

            await fail_to_look(monkeypatch, write_and_trim)
            assert await next_payload(client) == {"action": "resync", "reason": "expired"}
            await store("a", 2)
            assert await next_value(client) == 2


async def test_a_hub_goes_on_where_the_database_left_it(monkeypatch):
    """While the database is away nothing comes, afterwards all that was committed."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await fail_to_look(monkeypatch, lambda: IntegerValue.objects.create(name="a", value=1))
            assert await next_value(client) == 1


async def test_a_hub_that_is_stopped_while_the_bell_rings_ends():
    """The cancellation and the ring meet in one step of the loop, and the cancellation is not lost."""
    hub = await get_hub()
    for _ in range(3):
        await hub.settle()
    hub.pump.wake()
    await asyncio.wait_for(hub.stop(), PATIENCE)
    assert await get_hub() is not hub


async def test_an_event_that_cannot_be_sent_holds_up_nobody(caplog):
    """One broken row of the log is logged and told as a loss; what follows it is delivered."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)

            def write_broken() -> None:
                draft = entries.Draft("numbers", "example.integervalue", "1", (("name-a", "update"),), "{", version=999)
                # Of another version, so that its data is looked at.
                with transaction.atomic():
                    log.append([draft], database_alias())

            await in_thread(write_broken)
            await store("a", 2)
            received = [await next_payload(client) for _ in range(2)]
            assert {"action": "resync", "reason": "config"} in received
            assert 2 in [payload.get("data", {}).get("value") for payload in received]
    assert "cannot be sent" in caplog.text


async def test_who_is_too_far_behind_takes_a_snapshot(monkeypatch):
    """A replay has a bound; beyond it the client is told to resync, and is live."""
    monkeypatch.setattr(replays, "MAX_REPLAY_EVENTS", 2)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        for value in range(3):
            await store("a", value)
        await (await get_hub()).settle()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "overflow"}
            await store("a", 9)
            assert await next_value(client) == 9
