"""``retention`` of a record: values of one stream leave the log and the memory earlier than those of others."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pytest_django import Settings

from declbind.core.recent import Recent
from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.models import Event
from declbind.outbound import expiry, history, log, relay, retention
from declbind.registry import database_alias
from declbind.testing import Client, override_bindings
from tests.core.test_recent import make_event
from tests.live import NUMBERS, in_thread, next_payload, since_of, store, subscribe

SHORT = {**NUMBERS, "retention": 60}
OTHER = {**NUMBERS, "stream": "others", "groups": ["other-{name}"]}
SECRET = "a-value-that-goes"


@pytest.fixture(autouse=True)
def fresh_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test read its log from the beginning."""
    monkeypatch.setattr(expiry, "_reached", {})


def age(seconds: int = 61) -> None:
    """Make all events of the log older, once all of them are numbered."""
    relay.run_once(database_alias())
    for event in Event.objects.all():
        Event.objects.filter(pk=event.pk).update(created_at=event.created_at - timedelta(seconds=seconds))


def sweep() -> None:
    """Run the relay's sweep."""
    while retention.sweep(database_alias()):
        pass
    relay.run_once(database_alias())


def stored(stream: str) -> list[str]:
    return list(Event.objects.filter(stream=stream, kind=Event.ROW).order_by("id").values_list("data", flat=True))


async def expire() -> None:
    """Remove expired values as the relay does, and then as a hub's process does."""
    await in_thread(age)
    await in_thread(sweep)
    await (await get_hub()).settle()


@pytest.mark.django_db(transaction=True)
async def test_a_replay_across_expired_values_resyncs_that_stream_only() -> None:
    """This holds whether or not the process still had the values in memory.

    Other streams are replayed, and offsets have no gap.
    """
    with override_bindings(SHORT, OTHER):
        async with Client() as client:
            mine, other = since_of(await subscribe(client)), since_of(await subscribe(client, stream="others"))
        await store("a", 1)
        await (await get_hub()).settle()
        offsets = await in_thread(lambda: list(Event.objects.order_by("id").values_list("id", flat=True)))
        await expire()
        assert await in_thread(stored, "numbers") == []
        assert len(await in_thread(stored, "others")) == 1
        assert await in_thread(lambda: set(offsets) <= set(Event.objects.values_list("id", flat=True))), (
            "an event keeps its place"
        )
        async with Client() as client:
            await subscribe(client, since=mine)
            assert await next_payload(client) == {"action": "resync", "reason": "expired"}
            await subscribe(client, stream="others", since=other)
            assert (await next_payload(client))["data"]["value"] == 1
            reply = await subscribe(client, "b")
            await store("a", 2)
            assert [(await next_payload(client))["data"]["value"] for _ in range(2)] == [2, 2], "both go on live"
        async with Client() as client:
            # Events after the limit are replayed.
            await subscribe(client, since={**mine, **since_of(reply), "resume": mine["resume"]})
            assert (await next_payload(client))["data"]["value"] == 2


@pytest.mark.django_db(transaction=True)
async def test_without_a_retention_of_its_own_the_same_replay_works() -> None:
    """Control: the `retention` of the record causes the resync above."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            mine = since_of(await subscribe(client))
        await store("a", 1)
        await (await get_hub()).settle()
        await expire()
        async with Client() as client:
            await subscribe(client, since=mine)
            assert (await next_payload(client))["data"]["value"] == 1


@pytest.mark.django_db(transaction=True)
async def test_values_of_the_stream_are_dropped_from_memory_too() -> None:
    """A process keeps the last events for reconnecting clients."""
    with override_bindings(SHORT, OTHER):
        async with Client() as client:
            await subscribe(client)
            await store(SECRET, 1)
            hub = await get_hub()
            await hub.settle()
            assert sum(SECRET in event.data for event in hub.recent._order) == 2, "the control: it was there"
            await expire()
            assert [event.stream for event in hub.recent._order if SECRET in event.data] == ["others"]
            assert hub.recent.since("numbers", 0) is None


@pytest.mark.django_db(transaction=True)
async def test_a_snapshot_is_not_affected() -> None:
    """Rows are read from their own table."""
    with override_bindings(SHORT):
        await store("a", 1)
        await (await get_hub()).settle()
        await expire()
        async with Client() as client:
            await subscribe(client, snapshot=True)
            payload = await next_payload(client)
            assert [row["data"]["value"] for row in payload["objects"]] == [1]


@pytest.mark.django_db(transaction=True)
def test_the_shorter_retention_applies(settings: Settings) -> None:
    """The key of the record shortens the retention of the setting, and never lengthens it. Newer values stay."""
    from example_site.example.models import IntegerValue

    with override_bindings(SHORT):
        IntegerValue.objects.create(name="a", value=1)
        age(59)
        sweep()
        assert len(stored("numbers")) == 1
        settings.DECLBIND = {**settings.DECLBIND, "RETENTION_SECONDS": 30}
        assert expiry.short_retentions() == {}


@pytest.mark.django_db(transaction=True)
def test_a_sweep_is_bounded_and_examines_each_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep examines a bounded number of events, and none twice."""
    from example_site.example.models import IntegerValue

    monkeypatch.setattr(expiry, "BATCH", 2)
    with override_bindings(SHORT):
        for number in range(5):
            IntegerValue.objects.create(name="a", value=number)
        age()
        passed = [expiry.expire_values(database_alias()) for _ in range(4)]
        assert passed[:2] == [2, 2]
        assert sum(passed) == 5
        assert stored("numbers") == []
        column = history.offset_column(database_alias())
        assert Event.objects.filter(kind=Event.EXPIRED, **{f"{column}__gt": 0}).count() == 5


@pytest.mark.django_db
def test_values_of_a_field_that_is_not_sent_are_stored_nowhere() -> None:
    """The field is written in every way that makes an event.

    Log, traffic and revisions lack it; the control sends it.
    """
    from tests.test_erasure import is_stored
    from tests.zoo.models import Keeper

    for fields, tables in ((["retired"], []), (["name"], ["declbind_event"])):
        with override_bindings({"stream": "keepers", "model": "zoo.Keeper", "fields": fields}):
            keeper = Keeper.objects.create(name=SECRET)
            keeper.save()
            Keeper.objects.filter(pk=keeper.pk).update(name=f"{SECRET}-2")
            Keeper.objects.bulk_update([keeper], ["name"])
            Keeper.objects.bulk_create([Keeper(name=SECRET)])
            keeper.delete()
        assert Event.objects.filter(stream="keepers").exists()
        assert is_stored(SECRET) == tables


# The memory itself ----------------------------------------------------------------------------------------------------


def test_the_memory_drops_one_stream_up_to_an_offset() -> None:
    """Another stream is not affected, and later events are kept."""
    recent = Recent()
    recent.start(0)
    for offset, stream in ((1, "a"), (2, "b"), (3, "a"), (4, "a")):
        recent.add(make_event(offset, stream))
    recent.forget("a", 3)
    assert recent.since("a", 2) is None
    assert [event.offset for event in recent.since("a", 3) or ()] == [4]
    assert [event.offset for event in recent.since("b", 0) or ()] == [2]
    assert len(recent) == 2


def test_a_replay_of_dropped_events_is_not_empty() -> None:
    """An empty replay would mean that the client missed nothing."""
    recent = Recent()
    recent.start(0)
    recent.add(make_event(1, "b"))
    recent.forget("a", 1)
    assert recent.since("a", 0) is None
    assert recent.since("a", 1) == []
    recent.start(5)
    assert recent.since("a", 5) == []


def test_a_limit_after_a_drop_counts_correctly() -> None:
    """Dropped events are not dropped a second time."""
    recent = Recent(events=2)
    recent.start(0)
    for offset in (1, 2):
        recent.add(make_event(offset, "a"))
    recent.forget("a", 1)
    for offset in (3, 4, 5):
        recent.add(make_event(offset, "a"))
    assert [event.offset for event in recent.since("a", 3) or ()] == [4, 5]
    assert recent.since("a", 2) is None


async def events_after_a_sweep(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> int:
    """Store seven rows; return how many events remain in a process that keeps one and deletes two at a time."""
    with override_bindings(NUMBERS):
        hub = await get_hub()
        for value in range(7):
            await store("a", value)
        await hub.settle()
        monkeypatch.setattr(log, "TRIM_BATCH", 2)
        settings.DECLBIND = {"RETENTION_EVENTS": 1}
        await housekeeping.sweep(hub)
    return await Event.objects.filter(stream="numbers").acount()


@pytest.mark.django_db(transaction=True)
async def test_a_process_deletes_events_as_fast_as_they_come(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """A site needs no relay of its own for that."""
    assert await events_after_a_sweep(monkeypatch, settings) == 1


@pytest.mark.django_db(transaction=True)
async def test_one_batch_for_each_sweep_would_be_caught(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Negative control of the test before."""
    monkeypatch.setattr(housekeeping, "TRIM_BATCHES", 0)
    assert await events_after_a_sweep(monkeypatch, settings) > 1
