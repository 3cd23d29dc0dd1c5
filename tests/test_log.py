"""The event log: events are read as they were appended, in one order; its two ends; and the removal of old events."""

import contextlib
import datetime as dt
import json
import threading

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone

from declbind.models import Event, Head
from declbind.outbound import entries, history, log, sequencer
from declbind.outbound.entries import Draft

pytestmark = pytest.mark.django_db

USING = "default"
IS_SQLITE = connection.vendor == "sqlite"


def append(*streams, **values):
    log.append([Draft(stream=stream, **values) for stream in streams], USING)


def sequenced():
    """Number what waits and return the streams of all events, in the order of the log."""
    sequencer.sequence(USING)
    return [event.stream for event in log.read(0, 10_000, USING)]


def in_thread(work):
    """Run in another thread, on a connection of its own, and wait for it."""
    faults = []

    def run():
        try:
            work()
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert faults == []


@pytest.fixture
def rings(monkeypatch):
    rung: list[str] = []
    monkeypatch.setattr(log, "ring", rung.append)
    return rung


# Appending and reading ----------------------------------------------------------------------------------------------


def test_event_is_read_as_it_was_appended():
    """Every column survives, text as it is, changes as pairs."""
    before = timezone.now()
    draft = Draft(
        stream="s", model="app.note", object_pk='"é\u2028"', changes=(("room-1", "delete"), ("room-2", "create")),
        data='{"x":"\\u0000%s"}', version=7, kind=Event.GONE,
    )  # fmt: skip
    log.append([draft], USING)
    sequencer.sequence(USING)
    (event,) = log.read(0, 10, USING)
    assert {name: getattr(event, name) for name in Draft._fields} == {
        name: getattr(draft, name) for name in Draft._fields
    }
    assert before <= event.created_at <= timezone.now()


ODD = Draft("s", "app.note", '"é\u2028"', (("room-1", "delete"),), '{"x":"\\u0000%s\'\\"\\\\ud800é"}', 7, Event.GONE)
PLAIN = Draft("t", "app.page", "1", (("room-2", "create"),), "{}", 8)


@pytest.mark.parametrize("count", [2, entries.MANY - 1, entries.MANY, 2_500])
@pytest.mark.parametrize("kinds", [[ODD], [PLAIN], [ODD, PLAIN], [ODD, ODD._replace(data="[1]"), PLAIN]])
def test_many_events_are_read_as_they_were_appended(kinds, count):
    """In their order, however many statements they take and whatever they have in common."""
    drafts = [kinds[place % len(kinds)]._replace(version=place // 2) for place in range(count)]
    with entries.acting("Ann"):
        log.append(drafts, USING)
    sequencer.sequence(USING)
    read = log.read(0, 10_000, USING)
    assert [Draft(**{name: getattr(event, name) for name in Draft._fields}) for event in read] == drafts
    assert set(Event.objects.values_list("actor", flat=True)) == {"Ann"}


def test_many_events_without_a_difference_are_as_many():
    """Equal events differ only in their number."""
    log.append([PLAIN] * 50, USING)
    assert sequenced() == ["t"] * 50


def test_events_are_read_in_the_order_of_their_drafts():
    """One call's events follow each other, and the next call's come after."""
    append("a", "b")
    append("c")
    assert sequenced() == ["a", "b", "c"]


def test_reading_goes_on_after_a_cursor():
    """Each page starts after the last offset of the one before."""
    append(*"abcde")
    sequencer.sequence(USING)
    first = log.read(0, 2, USING)
    second = log.read(first[-1].offset, 2, USING)
    third = log.read(second[-1].offset, 2, USING)
    assert [[event.stream for event in page] for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert log.read(third[-1].offset, 2, USING) == []


def test_reading_one_stream_includes_control_events():
    """A replay must see a change of rights at its place among the changes."""
    append("a", "b")
    log.append_control({"type": "kick"}, USING)
    append("a")
    sequencer.sequence(USING)
    assert [(event.stream, event.kind) for event in log.read(0, 10, USING, "a")] == [
        ("a", "row"), ("", "control"), ("a", "row"),
    ]  # fmt: skip


def test_control_event_carries_its_content():
    """What changed, of which stream, under which version."""
    log.append_control({"type": "config", "x": ["é"]}, USING, stream="s", version=3)
    sequencer.sequence(USING)
    (event,) = log.read(0, 10, USING)
    assert (event.kind, event.stream, event.version, event.changes) == ("control", "s", 3, ())
    assert json.loads(event.data) == {"type": "config", "x": ["é"]}


def test_any_number_of_events_can_be_appended_at_once():
    """More than one statement can take is cut into several, in order."""
    names = [f"s{number}" for number in range(4_000)]
    append(*names)
    assert sequenced() == names


def test_actor_is_noted_inside_of_the_block_only():
    """The actor is for people. A long name is cut to the size of the column."""
    with entries.acting("ann" * 100):
        append("a")
    append("b")
    assert list(Event.objects.order_by("id").values_list("actor", flat=True)) == [("ann" * 50), ""]


def test_nothing_to_append_is_nothing_done(rings, django_assert_num_queries):
    """A write without subscribers costs no statement and rings no bell."""
    with django_assert_num_queries(0):
        log.append([], USING)
    assert rings == []


# The bell -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_bell_rings_after_the_commit_and_once(rings):
    """However many events a transaction has, and never before they can be read."""
    with transaction.atomic():
        append("a")
        append("b")
        with transaction.atomic():
            append("c")
        assert rings == []
    assert rings == [USING]


@pytest.mark.django_db(transaction=True)
def test_bell_does_not_ring_for_rolled_back_work(rings):
    """There is nothing to be read."""
    with contextlib.suppress(LookupError), transaction.atomic():
        append("a")
        raise LookupError
    assert rings == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails_first", [True, False])
def test_bell_rings_for_what_a_rolled_back_savepoint_leaves(rings, fails_first):
    """One bell for all must not go with the part that is undone."""

    def fail():
        with contextlib.suppress(LookupError), transaction.atomic():
            append("undone")
            raise LookupError

    with transaction.atomic():
        if fails_first:
            fail()
        append("kept")
        if not fails_first:
            fail()
    assert rings == [USING]
    assert sequenced() == ["kept"]


@pytest.mark.django_db(transaction=True)
def test_fault_of_the_bell_does_not_reach_the_writer(monkeypatch, caplog):
    """The write is committed. A missing ring costs latency only."""

    def fail(using):
        raise OSError("no bell")

    monkeypatch.setattr(log, "ring", fail)
    with transaction.atomic():
        append("a")
    assert sequenced() == ["a"]
    assert "no bell" in caplog.text


# Numbers ------------------------------------------------------------------------------------------------------------


def test_offsets_are_dense_from_one():
    """There is no gap that a reader could take for a loss."""
    for batch in ("ab", "c", "def"):
        append(*batch)
        sequencer.sequence(USING)
    events = log.read(0, 10, USING)
    first = events[0].offset
    assert [event.offset - first for event in events] == list(range(6))


@pytest.mark.django_db(transaction=True)
def test_offsets_are_dense_over_roll_backs():
    """An id that a rolled-back transaction used up leaves no gap in the offsets."""
    for stream in "abc":
        append(stream)
        with contextlib.suppress(LookupError), transaction.atomic():
            append("undone")
            raise LookupError
    assert sequenced() == list("abc")
    offsets = [event.offset for event in log.read(0, 10, USING)]
    assert offsets == list(range(offsets[0], offsets[0] + 3))


def test_sequencing_numbers_the_oldest_first_up_to_a_limit():
    """A relay with much to do works in batches."""
    append(*"abcde")
    counts = [sequencer.sequence(USING, limit=2) for _ in range(4)]
    assert counts == ([0] * 4 if IS_SQLITE else [2, 2, 1, 0])
    assert [event.stream for event in log.read(0, 10, USING)] == list("abcde")


def test_events_without_a_number_are_not_read_and_are_known():
    """Until it is numbered an event is not in the log for readers; a snapshot must know which those are."""
    append("a")
    sequencer.sequence(USING)
    append("b")
    waiting = sequencer.unsequenced_ids(USING)
    if IS_SQLITE:
        assert waiting == frozenset()
        assert sequenced() == ["a", "b"]
    else:
        assert waiting == {Event.objects.get(stream="b").pk}
        assert [event.stream for event in log.read(0, 10, USING)] == ["a"]
        sequencer.sequence(USING)
        assert sequencer.unsequenced_ids(USING) == frozenset()


def test_sequencing_without_work_takes_no_lock(django_assert_max_num_queries):
    """Every hub does it several times a second."""
    history.ensure_head(USING)
    with django_assert_max_num_queries(1):
        assert sequencer.sequence(USING) == 0


# The two ends -------------------------------------------------------------------------------------------------------


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
    """Emptying the tables by hand starts another history, and clients start again."""
    before = log.load_head(USING).epoch
    Head.objects.all().delete()
    assert log.load_head(USING).epoch != before


def test_trim_takes_what_is_older_than_the_retention(settings):
    """By age: old events are deleted, and ``min_offset`` is the first one left."""
    settings.DECLBIND = {"RETENTION_SECONDS": 60}
    append("old", "old", "new")
    sequencer.sequence(USING)
    Event.objects.filter(stream="old").update(created_at=timezone.now() - dt.timedelta(seconds=61))
    assert log.trim(USING) == 2
    (left,) = log.read(0, 10, USING)
    assert left.stream == "new"
    assert log.load_head(USING).min_offset == left.offset
    assert log.trim(USING) == 0


def test_trim_takes_what_is_more_than_the_retention(settings):
    """By number: the newest stay."""
    settings.DECLBIND = {"RETENTION_EVENTS": 2}
    append(*"abcde")
    sequencer.sequence(USING)
    assert log.trim(USING) == 3
    assert sequenced() == ["d", "e"]


def test_trim_goes_in_small_batches(settings, monkeypatch):
    """No statement of the relay holds up writers for long."""
    settings.DECLBIND = {"RETENTION_EVENTS": 1}
    monkeypatch.setattr(log, "TRIM_BATCH", 2)
    append(*"abcdef")
    sequencer.sequence(USING)
    assert [log.trim(USING) for _ in range(4)] == [2, 2, 1, 0]
    assert sequenced() == ["f"]


def test_trimmed_log_keeps_its_head(settings):
    """When everything has gone the next event still gets the next offset."""
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


def check_that_the_first_offset_never_turns_back(settings, monkeypatch):
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


def test_relay_that_was_held_up_does_not_turn_the_first_offset_back(settings, monkeypatch):
    """Two relays trim at once: the slower one must not promise events that the other has deleted."""
    check_that_the_first_offset_never_turns_back(settings, monkeypatch)


def test_first_offset_that_turns_back_would_be_caught(settings, monkeypatch):
    """A variant that stores what it worked out without a look at what is there."""
    original = type(Head.objects.all()).filter

    def careless(self, *args, min_seq__lte=None, **kwargs):
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(Head.objects.all()), "filter", careless)
        with pytest.raises(AssertionError):
            check_that_the_first_offset_never_turns_back(settings, patched)


# Where the log is, and reading it together with rows -----------------------------------------------------------------


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
    """What another connection commits meanwhile is not seen before the block is over."""
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
def test_numbered_read_sees_what_its_head_names_and_no_more():
    """Events that wait get their numbers, and what is committed during the read lies after its head."""
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
def test_plain_reads_would_be_caught():
    """The check above is not vacuous: without the block the second look sees what came in between."""
    append("a")
    assert Event.objects.count() == 1
    in_thread(lambda: append("b"))
    assert Event.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_consistent_read_ends_when_its_block_fails():
    """The connection is as it was."""
    with pytest.raises(LookupError), sequencer.consistent_read(USING):
        raise LookupError
    with pytest.raises(DatabaseError), sequencer.consistent_read(USING), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
    append("a")
    assert sequenced() == ["a"]
    assert not connections[USING].in_atomic_block


def test_consistent_read_joins_a_transaction_that_is_open():
    """Inside of the host's transaction it changes nothing."""
    append("a")
    with sequencer.consistent_read(USING):
        assert Event.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_head_that_was_lost_goes_on_where_the_events_are():
    """A truncated head gets another epoch, and neither gives numbers again nor claims events that are gone."""
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
def test_a_log_that_was_emptied_begins_after_its_last_number():
    """Earlier offsets lie before the first kept one, so a client that resumes from them gets a resync."""
    append("a")
    while sequencer.sequence(USING):
        pass
    Event.objects.all().delete()
    Head.objects.all().delete()
    head = log.load_head(USING)
    assert head.min_offset == head.offset + 1
