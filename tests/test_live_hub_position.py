"""The position of the hub in the log: lost, trimmed and foreign histories."""

from __future__ import annotations

import asyncio

import pytest
from django.db import transaction

from declbind.live import housekeeping, replays
from declbind.live.hub import get_hub
from declbind.live.log_reader import Tick
from declbind.models import Event, Head, Traffic
from declbind.outbound import entries, history, log, sequencer
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import (
    BOARD,
    NUMBERS,
    fail_to_look,
    in_thread,
    next_payload,
    next_value,
    offset_now,
    resume,
    settle_hub,
    store,
    subscribe,
    trim_all,
)

pytestmark = pytest.mark.django_db(transaction=True)


@transaction.atomic
def forget_all() -> None:
    Event.objects.all().delete()
    Head.objects.all().delete()


async def test_a_new_epoch_resyncs_open_subscriptions():
    """The database was flushed or restored under open sockets. Clients without an explicit subscription get nothing."""
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
    """Write three changes, and delete some of all events before any process can have read them."""
    for value in (1, 2, 3):
        IntegerValue.objects.create(name="a", value=value)
    sequencer.sequence(database_alias())
    ids = list(Event.objects.order_by("id").values_list("id", flat=True))
    Event.objects.filter(id__in=ids[lost]).delete()


HOLES = {"all": slice(None), "the first": slice(0, 1), "one of the middle": slice(-2, -1), "the last": slice(-1, None)}


async def check_that_a_loss_is_reported(lost: slice) -> None:
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await in_thread(write_and_lose, lost)
            await store("a", 4)
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            await store("a", 5)
            # A row that was stored meanwhile may come before the resync, which covers it, or after it.
            while (value := await next_value(client)) != 5:
                assert value == 4


@pytest.mark.parametrize("lost", HOLES)
async def test_lost_events_resync_open_subscriptions(lost):
    """Rows of the log that were deleted by hand, or with their whole table, must not be missing silently."""
    await check_that_a_loss_is_reported(HOLES[lost])


@pytest.mark.parametrize("lost", HOLES)
async def test_a_loss_is_reported_once(lost):
    """The new epoch is complete, although the gaps of the old one are still there."""
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
async def test_a_hub_that_compares_only_its_position_is_detected(monkeypatch, lost):
    """Negative control: the head is at the expected offset, and lost events are skipped."""
    monkeypatch.setattr(Tick, "is_whole", lambda self, cursor: True)
    with pytest.raises(AssertionError):
        await check_that_a_loss_is_reported(HOLES[lost])


@pytest.mark.parametrize("lost", HOLES)
async def test_resuming_from_a_log_with_gaps_is_a_resync(lost):
    """Whichever events are missing, an old offset is not valid any more."""
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        await in_thread(write_and_lose, HOLES[lost])
        await settle_hub()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "epoch"}
            await store("a", 4)
            assert await next_value(client) == 4


async def test_a_restored_backup_resyncs_open_subscriptions():
    """The backup lacks the last events and has the same epoch.

    A hub that waited for its old position would lose events.
    """
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


async def test_events_trimmed_before_the_hub_read_them_are_a_resync(settings, monkeypatch):
    """The hub could not read the database for longer than the retention."""
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


async def test_a_hub_continues_after_an_outage_of_the_database(monkeypatch):
    """Nothing is delivered during the outage, and all committed changes afterwards."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await fail_to_look(monkeypatch, lambda: IntegerValue.objects.create(name="a", value=1))
            assert await next_value(client) == 1


async def test_a_hub_that_is_stopped_during_a_wake_up_ends():
    """The cancellation and the wake-up come in one step of the event loop, and the cancellation is not lost."""
    hub = await get_hub()
    for _ in range(3):
        await hub.settle()
    hub.pump.wake()
    await asyncio.wait_for(hub.stop(), PATIENCE)
    assert await get_hub() is not hub


async def test_an_event_that_cannot_be_sent_is_skipped_with_a_resync(caplog):
    """The faulty row of the log is logged, and later events are delivered."""
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
            await housekeeping.write_traffic(await get_hub())
            fault = await Traffic.objects.aget(kind=Traffic.ERROR)
    assert "cannot be sent" in caplog.text
    assert (fault.stream, fault.object_pk) == ("numbers", "1")


async def test_a_client_that_is_too_far_behind_gets_a_resync(monkeypatch):
    """A replay has a limit. Beyond it the client is sent a resync, and then live changes."""
    monkeypatch.setattr(replays, "MAX_REPLAY_EVENTS", 2)
    with override_bindings(NUMBERS):
        epoch, offset = await offset_now()
        for value in range(3):
            await store("a", value)
        await settle_hub()
        async with Client() as client:
            await resume(client, epoch, offset)
            assert await next_payload(client) == {"action": "resync", "reason": "overflow"}
            await store("a", 9)
            assert await next_value(client) == 9
