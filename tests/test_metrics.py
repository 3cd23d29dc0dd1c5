"""The counts of a process: always by minute; by second and by event only while an operator watches."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from declbind.core import sampling
from declbind.core.hub import LogEvent
from declbind.core.shape import shape, without_values
from declbind.live import housekeeping, metrics
from declbind.live.hub import get_hub
from declbind.live.metrics import Metrics
from declbind.models import Activity, Event, StreamUse, Traffic, Watch
from declbind.outbound import history, retention
from declbind.testing import Client, override_bindings
from tests.live import NUMBERS, in_thread, next_payload, store, subscribe

MINUTE = 1_800_000_000


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now=MINUTE):
        self.now = float(now)

    def __call__(self):
        return self.now


def event(offset, stream="numbers"):
    return LogEvent(offset, offset, "row", stream, "m", "1", (), "{}", 1)


def rows(seconds):
    return list(Activity.objects.filter(seconds=seconds).order_by("at"))


# Counting -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_process_writes_one_row_for_each_minute():
    """The row is rewritten with each heartbeat. An idle process writes no row."""
    clock = Clock()
    counted = Metrics("n1", clock)
    counted.write_minute(counted.take_fresh(), "default")
    assert rows(60) == []
    counted.count_frames(event(1), 5)
    counted.count(Traffic.REQUEST, "numbers")
    counted.write_minute(counted.take_fresh(), "default")
    clock.now += 30
    counted.count_frames(event(2), 7)
    counted.count(Traffic.REFUSED, "numbers")
    counted.count(Traffic.ERROR, "")
    counted.count(Traffic.CONNECTION, "")
    counted.write_minute(counted.take_fresh(), "default")
    clock.now += 30
    counted.count_frames(event(3, "other"), 1)
    counted.write_minute(counted.take_fresh(), "default")
    first, second = rows(60)
    assert (first.sent, first.received, first.refused, first.errors) == (12, 3, 1, 1)
    assert first.streams == {"numbers": [12, 2, 1]}
    assert (first.at, second.at) == (datetime.fromtimestamp(MINUTE, UTC), datetime.fromtimestamp(MINUTE + 60, UTC))
    assert second.streams == {"other": [1, 0, 0]}


@pytest.mark.django_db
def test_a_minute_that_could_not_be_written_is_written_later(monkeypatch):
    """When the database answers again, the row gets the whole count, although the minute is over."""
    clock = Clock()
    counted = Metrics("n1", clock)
    counted.count_frames(event(1), 5)
    with monkeypatch.context() as broken:
        broken.setattr(metrics, "Activity", None)
        with pytest.raises(AttributeError):
            counted.write_minute(counted.take_fresh(), "default")
    clock.now += 60
    counted.write_minute(counted.take_fresh(), "default")
    assert [row.sent for row in rows(60)] == [5]


@pytest.mark.django_db
def test_streams_record_their_last_use(django_assert_num_queries):
    """The time is exact to the minute, and is written at most once a minute."""
    clock = Clock()
    counted = Metrics("n1", clock)
    StreamUse.objects.create(stream="known")
    for stream in ("known", "new"):
        counted.count_frames(event(1, stream), 1)
    counted.count(Traffic.REQUEST, "asked")
    counted.count(Traffic.REQUEST, "")
    counted.write_minute(counted.take_fresh(), "default")
    at = datetime.fromtimestamp(MINUTE, UTC)
    assert {use.stream: (use.sent_at, use.asked_at) for use in StreamUse.objects.all()} == {
        "known": (at, None), "new": (at, None), "asked": (None, at),
    }  # fmt: skip
    clock.now += 10
    counted.write_minute(counted.take_fresh(), "default")
    counted.count_frames(event(2, "known"), 1)
    fresh = counted.take_fresh()
    with django_assert_num_queries(4):  # the minute's row, in a transaction
        counted.write_minute(fresh, "default")
    clock.now += 60
    counted.count_frames(event(3, "known"), 1)
    counted.write_minute(counted.take_fresh(), "default")
    assert StreamUse.objects.get(stream="known").sent_at == at + timedelta(minutes=1)


def test_only_counts_are_kept_while_nobody_watches():
    """A thousand events leave one count. Control: while an operator watches, they leave a second with its events."""
    clock = Clock()
    counted = Metrics("n1", clock)
    for offset in range(1000):
        counted.count_frames(event(offset), 1)
    assert (counted._seconds, counted.take_seconds()) == ({}, {})
    counted.watch(True)
    for offset in range(100):
        counted.count_frames(event(offset), 2)
    clock.now += 1
    (second,) = counted.take_seconds().values()
    assert (second.sent.total(), len(second.events), second.every) == (200, 100, 1)
    counted.count_frames(event(1), 1)
    counted.watch(False)
    assert counted._seconds == {}


def test_each_second_is_reported_once_when_it_is_over():
    """An empty second is reported too, because a missing one would mean that nothing is known."""
    clock = Clock()
    counted = Metrics("n1", clock)
    counted.watch(True)
    counted.count_frames(event(1), 1)
    assert counted.take_seconds() == {}
    clock.now += 3
    assert {at: second.sent.total() for at, second in counted.take_seconds().items()} == {
        MINUTE: 1, MINUTE + 1: 0, MINUTE + 2: 0,
    }  # fmt: skip
    assert counted.take_seconds() == {}
    clock.now += 1000
    assert len(counted.take_seconds()) == metrics.MAX_WAITING


def test_all_processes_sample_the_same_events_of_a_burst():
    """Two processes that read different parts of the same log record the same events of the common part."""
    noted = []
    for offsets in (range(5000), range(2500, 7500)):
        clock = Clock()
        counted = Metrics("n1", clock)
        counted.watch(True)
        for offset in offsets:
            counted.count_frames(event(offset), 1)
        clock.now += 1
        (second,) = counted.take_seconds().values()
        assert 50 < len(second.events) <= metrics.MAX_DELIVERIES
        assert second.sent.total() == 5000
        noted.append({offset for offset, _, _ in second.events})
    assert {offset for offset in noted[0] if offset >= 2500} == {offset for offset in noted[1] if offset < 5000}


@pytest.mark.django_db
def test_latency_is_measured_from_the_write_to_the_delivery():
    """An event that is no longer in the log has no latency."""
    clock = Clock()
    counted = Metrics("n1", clock)
    counted.watch(True)
    offsets = []
    for wait in (10, 20, 300, -50):
        written = Event.objects.create(stream="s", created_at=datetime.fromtimestamp(MINUTE - wait / 1000, UTC))
        if history.needs_sequencer("default"):
            written.seq = written.pk
            written.save()
        offsets.append(written.pk)
        counted.count_frames(event(written.pk), 3)
    counted.count_frames(event(10**9), 1)
    clock.now += 1
    counted.write_seconds(counted.take_seconds(), "default")
    (row,) = rows(1)
    assert row.deliveries == [[offset, 3, wait] for offset, wait in zip(offsets, (10, 20, 300, 0), strict=True)]
    assert (row.p50, row.p99, row.sent) == (10, 300, 13)


# In the hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_the_hub_counts_frames_and_requests():
    """It counts the frames of all connections, requests and refusals, and seconds as soon as an operator watches."""
    with override_bindings(NUMBERS):
        async with Client() as one, Client() as two:
            for client in (one, two):
                await subscribe(client)
            hub = await get_hub()
            await store(value=1)
            for client in (one, two):
                await next_payload(client)
            await one.request("numbers", "create", data={"nonsense": "x"})
            await one.request("no-such-stream", "create", data={})
            await housekeeping.write_counts(hub)
            (minute,) = await in_thread(rows, 60)
            assert minute.streams == {"numbers": [2, 3, 1]}
            assert (minute.sent, minute.received, minute.refused) == (2, 3, 2)
            assert await Activity.objects.filter(seconds=1).acount() == 0
            await Watch.objects.acreate(viewer="v", until=timezone.now() + timedelta(seconds=30))
            await housekeeping.write_traffic(hub)
            assert hub.metrics.watched
            clock = hub.metrics._clock = Clock(timezone.now().timestamp() + 5)
            await store(value=2)
            for client in (one, two):
                await next_payload(client)
            clock.now += 1
            await housekeeping.write_traffic(hub)
            seconds = [row async for row in Activity.objects.filter(seconds=1, sent__gt=0)]
            assert [(row.sent, [delivery[1] for delivery in row.deliveries]) for row in seconds] == [(2, [2])]


@pytest.mark.django_db(transaction=True)
async def test_a_refusal_is_recorded_without_values():
    """The record has the fields and their problems, and the shape of the request.

    Other origins and our own closing are covered.
    """
    with override_bindings({**NUMBERS, "writable": ["value"]}):
        async with Client() as client:
            await client.request("numbers", "create", data={"name": "hunter2", "value": "topsecret"})
            hub = await get_hub()
            (socket,) = hub.sockets()
            socket.close(4403, "Out.")
            assert await client.wait_closed() == 4403
        assert not await Client(headers=[(b"host", b"testserver"), (b"origin", b"https://evil.example")]).connect()
        await housekeeping.write_traffic(hub)
    refused, closed, foreign = [row async for row in Traffic.objects.order_by("pk")]
    detail = json.loads(refused.detail)
    assert detail["sent"]["data"] == {"name": "text, 7 characters", "value": "text, 9 characters"}
    assert set(detail["fields"]) & {"name", "value"}
    assert "hunter2" not in refused.detail
    assert "topsecret" not in refused.detail
    assert (closed.kind, closed.outcome, closed.message) == (Traffic.CONNECTION, "closed 4403", "Out.")
    assert (foreign.kind, foreign.outcome, foreign.action) == (Traffic.REFUSED, "origin", "connect")
    assert "https://evil.example" in foreign.message


@pytest.mark.django_db
def test_old_counts_are_deleted():
    """Seconds are kept for ten minutes, minutes for a day. Control: newer ones stay."""
    now = timezone.now()
    for seconds, minutes in ((1, 11), (1, 9), (60, 9), (60, 23 * 60), (60, 25 * 60)):
        Activity.objects.create(node="n", seconds=seconds, at=now - timedelta(minutes=minutes))
    retention.sweep("default")
    kept = {(row.seconds, round((now - row.at).total_seconds() / 60)) for row in Activity.objects.all()}
    assert kept == {(1, 9), (60, 9), (60, 23 * 60)}


@pytest.mark.django_db
def test_a_sweep_deletes_counts_in_bounded_batches(monkeypatch):
    """The batches are bounded however many counts there are."""
    monkeypatch.setattr(retention, "ACTIVITY_BATCH", 2)
    for minutes in range(20, 25):
        Activity.objects.create(node="n", seconds=1, at=timezone.now() - timedelta(minutes=minutes))
    retention.sweep("default")
    assert Activity.objects.count() == 3


# The pure parts ------------------------------------------------------------------------------------------------------


def test_a_sample_has_events_of_all_streams():
    """Streams may be written in turn. Control: with `offset % 2`, one stream would be left out."""
    for step in (1, 2, 3, 4, 8):
        offsets = range(1, 8001, step)
        kept, every = sampling.thin(list(offsets), 100)
        assert 25 <= len(kept) <= 100, step
        assert all(sampling.keeps(offset, every) and sampling.keeps(offset, every // 2) for offset in kept)
    assert not [offset for offset in range(1, 8001, 2) if offset % 2 == 0]
    assert sampling.thin([1, 2, 3], 100) == ([1, 2, 3], 1)
    assert sampling.thin([], 100) == ([], 1)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1, 100), (0, 1)]
)  # fmt: skip
def test_percentiles_use_the_nearest_rank(share, expected):
    """The order of the values does not matter. Without values there is no percentile."""
    assert sampling.percentile(range(100, 0, -1), share) == expected
    assert sampling.percentile([], share) is None


def test_shapes_and_messages_contain_no_values():
    """This holds for objects of any size, and for any quotation in a message."""
    wide = shape({f"key{number}": number for number in range(1000)})
    assert isinstance(wide, dict)
    assert len(wide) == 41
    assert wide["…"] == "960 more keys"
    assert without_values("“hunter2” value must be an integer.", ["hunter2"]) == "… value must be an integer."
    assert without_values("At most 100 (it is 500).", [500]) == "At most 100 (it is …)."
    assert without_values("Not a value.", ["a"]) == "Not … value."
