"""The two ends of the event log, where it is, and reading it together with rows."""

import datetime as dt
import json

import pytest
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from declbind.models import Event, Head
from declbind.outbound import log, sequencer
from declbind.outbound.entries import Draft
from tests.log_events import IS_SQLITE, USING, append, in_thread, sequenced

pytestmark = pytest.mark.django_db

# The two ends ---------------------------------------------------------------------------------------------------------


def test_head_follows_the_last_event():
    """The head's offset is that of the last event that can be read, and the epoch stays."""
    empty = log.load_head(USING)
    append("a", "b")
    sequencer.sequence(USING)
    head = log.load_head(USING)
    assert head.offset == log.read(0, 10, USING)[-1].offset
    assert (head.epoch, head.min_offset) == (empty.epoch, empty.min_offset)
    assert len(head.epoch) == 16


def test_lost_head_is_a_new_epoch():
    """If the tables were emptied by hand, a new epoch begins, and clients start again."""
    before = log.load_head(USING).epoch
    Head.objects.all().delete()
    assert log.load_head(USING).epoch != before


def test_trim_deletes_events_older_than_the_retention(settings):
    """``min_offset`` is the offset of the first event that is left."""
    settings.DECLBIND = {"RETENTION_SECONDS": 60}
    append("old", "old", "new")
    sequencer.sequence(USING)
    Event.objects.filter(stream="old").update(created_at=timezone.now() - dt.timedelta(seconds=61))
    assert log.trim(USING) == 2
    (left,) = log.read(0, 10, USING)
    assert left.stream == "new"
    assert log.load_head(USING).min_offset == left.offset
    assert log.trim(USING) == 0


def test_trim_deletes_events_beyond_the_maximal_number(settings):
    """The newest events stay."""
    settings.DECLBIND = {"RETENTION_EVENTS": 2}
    append(*"abcde")
    sequencer.sequence(USING)
    assert log.trim(USING) == 3
    assert sequenced() == ["d", "e"]


def test_trim_deletes_in_small_batches(settings, monkeypatch):
    """No statement of the relay blocks writers for long."""
    settings.DECLBIND = {"RETENTION_EVENTS": 1}
    monkeypatch.setattr(log, "TRIM_BATCH", 2)
    append(*"abcdef")
    sequencer.sequence(USING)
    assert [log.trim(USING) for _ in range(4)] == [2, 2, 1, 0]
    assert sequenced() == ["f"]


def test_trimmed_log_keeps_its_head(settings):
    """If all events are deleted, the next event still gets the next offset."""
    append("a", "b")
    sequencer.sequence(USING)
    before = log.load_head(USING)
    settings.DECLBIND = {"RETENTION_SECONDS": -1}
    assert log.trim(USING) == 2
    empty = log.load_head(USING)
    assert (empty.offset, empty.min_offset, empty.epoch) == (before.offset, before.offset + 1, before.epoch)
    append("c")
    sequencer.sequence(USING)
    assert log.read(empty.offset, 10, USING)[0].offset == before.offset + 1


def test_event_without_a_number_is_never_trimmed(settings):
    """No process has read it yet. On SQLite each event has its number at once."""
    settings.DECLBIND = {"RETENTION_SECONDS": -1, "RETENTION_EVENTS": 0}
    append("waiting")
    assert log.trim(USING) == (1 if IS_SQLITE else 0)
    assert sequenced() == ([] if IS_SQLITE else ["waiting"])


def check_that_the_first_offset_never_decreases(settings, monkeypatch):
    settings.DECLBIND = {"RETENTION_EVENTS": 1}
    monkeypatch.setattr(log, "TRIM_BATCH", 2)
    append(*"abcdef")
    sequencer.sequence(USING)
    stale = log.load_head(USING)
    log.trim(USING)
    log.trim(USING)
    reached = log.load_head(USING).min_offset
    load_head = log.load_head
    monkeypatch.setattr(log, "load_head", lambda using: stale)
    log.trim(USING)
    assert load_head(USING).min_offset == reached


def test_delayed_relay_does_not_decrease_the_first_offset(settings, monkeypatch):
    """Two relays trim at once. The slower one must not claim events that the other has deleted."""
    check_that_the_first_offset_never_decreases(settings, monkeypatch)


def test_decreasing_first_offset_is_detected(settings, monkeypatch):
    """Negative control: a variant that stores its result without comparing it with the stored one."""
    original = type(Head.objects.all()).filter

    def careless(self, *args, min_seq__lte=None, **kwargs):
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(Head.objects.all()), "filter", careless)
        with pytest.raises(AssertionError):
            check_that_the_first_offset_never_decreases(settings, patched)


# Databases and consistent reads ---------------------------------------------------------------------------------------


def test_log_is_where_its_tables_are():
    """Writes to another database have no log in their transaction."""
    assert log.is_here(USING)
    assert not log.is_here("elsewhere")
    assert not log.is_here(None)


def test_log_without_its_table_is_not_there(monkeypatch):
    """Before ``migrate`` nothing is captured, and nothing breaks."""
    monkeypatch.setattr(log, "_migrated", set())
    monkeypatch.setattr(Event._meta, "db_table", "not_migrated_yet")
    assert not log.is_here(USING)


@pytest.mark.django_db(transaction=True)
def test_consistent_read_sees_one_state():
    """Commits of another connection are not visible before the end of the block."""
    append("a")
    sequencer.sequence(USING)
    head = log.load_head(USING)
    with sequencer.consistent_read(USING):
        assert Event.objects.count() == 1
        in_thread(lambda: append("b"))
        assert Event.objects.count() == 1
        assert log.load_head(USING) == head
    assert Event.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_numbered_read_sees_exactly_the_events_up_to_its_head():
    """Waiting events get their numbers. Events that are committed during the read come after its head."""
    append("a")
    sequencer.sequence(USING)
    before = log.load_head(USING).offset
    append("b")
    with sequencer.numbered_read(USING) as head:
        assert head.offset == before + 1
        assert Event.objects.count() == 2
        in_thread(lambda: append("c"))
        assert Event.objects.count() == 2
    sequencer.sequence(USING)
    assert sequenced() == ["a", "b", "c"]
    assert [event.offset for event in log.read(head.offset, 10, USING)] == [before + 2]


@pytest.mark.django_db(transaction=True)
def test_numbered_read_numbers_in_the_order_of_the_log():
    """It assigns numbers by the same rule as the sequencer."""
    append("first")
    sequencer.sequence(USING)
    before = log.load_head(USING).offset
    for stream in "abc":
        append(stream)
    with sequencer.numbered_read(USING) as head:
        pass
    append("d")
    sequencer.sequence(USING)
    assert head.offset == before + 3
    events = [(event.offset - before, event.stream) for event in log.read(before, 10, USING)]
    assert events == list(enumerate("abcd", 1))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, sequencer.READ_ATTEMPTS])
def test_numbered_read_names_the_marks_that_it_sees(monkeypatch, count):
    """A mark that is committed just before the read gets its number, however often that happens."""
    append("a")
    settle, waiting = sequencer.settle, [json.dumps({"table": "t", "op": "UPDATE"})] * count

    def settle_too_early(using):
        settle(using)
        if waiting:
            in_thread(lambda: append("b", kind=Event.MARK, data=waiting.pop()))

    monkeypatch.setattr(sequencer, "settle", settle_too_early)
    if not IS_SQLITE:
        settle_too_early(USING)
    monkeypatch.setattr(sequencer, "convert", lambda marks, using: [[Draft(stream="mark")] for _ in marks])
    with sequencer.numbered_read(USING) as head:
        seen = Event.objects.filter(stream__in=["b", "mark"]).count()
    sequencer.sequence(USING)
    told = [event for event in log.read(0, 10, USING) if event.stream == "mark" and event.offset <= head.offset]
    assert len(told) == seen > 0


@pytest.mark.django_db(transaction=True)
def test_plain_reads_are_detected():
    """Negative control: without the block the second read sees a commit in between."""
    append("a")
    assert Event.objects.count() == 1
    in_thread(lambda: append("b"))
    assert Event.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_consistent_read_ends_when_its_block_fails():
    """The connection is restored to its previous state."""
    with pytest.raises(LookupError), sequencer.consistent_read(USING):
        raise LookupError
    with pytest.raises(DatabaseError), sequencer.consistent_read(USING), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    append("a")
    assert sequenced() == ["a"]
    assert not connections[USING].in_atomic_block


def test_consistent_read_joins_an_open_transaction():
    """It changes nothing inside of the host's transaction."""
    append("a")
    with sequencer.consistent_read(USING):
        assert Event.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_lost_head_continues_after_the_stored_events():
    """A truncated head gets another epoch. It neither repeats numbers nor claims events that were deleted."""
    for name in "abc":
        append(name)
    while sequencer.sequence(USING):
        pass
    before = log.load_head(USING)
    Event.objects.filter(stream="a").delete()
    Head.objects.all().delete()
    after = log.load_head(USING)
    assert (after.offset, after.epoch != before.epoch) == (before.offset, True)
    assert after.min_offset in (before.offset - 1, before.offset - 2)
    append("d")
    while sequencer.sequence(USING):
        pass
    assert log.load_head(USING).offset == before.offset + 1


@pytest.mark.django_db(transaction=True)
def test_an_emptied_log_begins_after_its_last_number():
    """Earlier offsets lie before the first kept one, so a client that resumes from them gets a resync."""
    append("a")
    while sequencer.sequence(USING):
        pass
    Event.objects.all().delete()
    Head.objects.all().delete()
    head = log.load_head(USING)
    assert head.min_offset == head.offset + 1
