"""The event log: appending, reading, wake-ups after the commit, and offsets."""

import contextlib
import json

import pytest
from django.db import transaction
from django.utils import timezone

from declbind.models import Event
from declbind.outbound import entries, history, log, sequencer
from declbind.outbound.entries import Draft
from tests.log_events import IS_SQLITE, USING, append, sequenced

pytestmark = pytest.mark.django_db


@pytest.fixture
def rings(monkeypatch):
    rung: list[str] = []
    monkeypatch.setattr(log, "ring", rung.append)
    return rung


#: What readers of the log get. Only the console reads the code.
READ = [name for name in Draft._fields if name != "code"]

# Appending and reading ------------------------------------------------------------------------------------------------


def test_event_is_read_as_it_was_appended():
    """Every column is unchanged: text as it is, changes as pairs."""
    before = timezone.now()
    draft = Draft(
        stream="s", model="app.note", object_pk='"é\u2028"', changes=(("room-1", "delete"), ("room-2", "create")),
        data='{"x":"\\u0000%s"}', version=7, kind=Event.GONE,
    )  # fmt: skip
    log.append([draft], USING)
    sequencer.sequence(USING)
    (event,) = log.read(0, 10, USING)
    assert {name: getattr(event, name) for name in READ} == {name: getattr(draft, name) for name in READ}
    assert before <= event.created_at <= timezone.now()


ODD = Draft("s", "app.note", '"é\u2028"', (("room-1", "delete"),), '{"x":"\\u0000%s\'\\"\\\\ud800é"}', 7, Event.GONE)
PLAIN = Draft("t", "app.page", "1", (("room-2", "create"),), "{}", 8)


@pytest.mark.parametrize("count", [2, entries.MANY - 1, entries.MANY, 2_500])
@pytest.mark.parametrize("kinds", [[ODD], [PLAIN], [ODD, PLAIN], [ODD, ODD._replace(data="[1]"), PLAIN]])
def test_many_events_are_read_as_they_were_appended(kinds, count):
    """They keep their order, however many statements they need and however similar they are."""
    drafts = [kinds[place % len(kinds)]._replace(version=place // 2) for place in range(count)]
    with entries.acting("Ann"):
        log.append(drafts, USING)
    sequencer.sequence(USING)
    read = log.read(0, 10_000, USING)
    assert [Draft(**{name: getattr(event, name) for name in READ}) for event in read] == drafts
    assert set(Event.objects.values_list("actor", flat=True)) == {"Ann"}


def test_equal_events_are_all_appended():
    """They differ only in their number."""
    log.append([PLAIN] * 50, USING)
    assert sequenced() == ["t"] * 50


def test_events_are_read_in_the_order_of_their_drafts():
    """The events of one call follow each other, before those of the next call."""
    append("a", "b")
    append("c")
    assert sequenced() == ["a", "b", "c"]


def test_reading_continues_after_a_cursor():
    """Each page starts after the last offset of the one before."""
    append(*"abcde")
    sequencer.sequence(USING)
    first = log.read(0, 2, USING)
    second = log.read(first[-1].offset, 2, USING)
    third = log.read(second[-1].offset, 2, USING)
    assert [[event.stream for event in page] for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert log.read(third[-1].offset, 2, USING) == []


def test_reading_one_stream_includes_control_events():
    """A replay needs a revocation at its place among the changes."""
    append("a", "b")
    log.append_control({"type": "kick"}, USING)
    append("a")
    sequencer.sequence(USING)
    assert [(event.stream, event.kind) for event in log.read(0, 10, USING, "a")] == [
        ("a", "row"), ("", "control"), ("a", "row"),
    ]  # fmt: skip


def test_control_event_has_its_content():
    """It has the change, the stream and the version."""
    log.append_control({"type": "config", "x": ["é"]}, USING, stream="s", version=3)
    sequencer.sequence(USING)
    (event,) = log.read(0, 10, USING)
    assert (event.kind, event.stream, event.version, event.changes) == ("control", "s", 3, ())
    assert json.loads(event.data) == {"type": "config", "x": ["é"]}


def test_any_number_of_events_can_be_appended_at_once():
    """If they are too many for one statement, several statements append them in order."""
    names = [f"s{number}" for number in range(4_000)]
    append(*names)
    assert sequenced() == names


def test_actor_is_stored_only_inside_of_the_block():
    """The actor is for people. A long name is cut to the size of the column."""
    with entries.acting("ann" * 100):
        append("a")
    append("b")
    assert list(Event.objects.order_by("id").values_list("actor", flat=True)) == [("ann" * 50), ""]


def test_appending_no_events_does_nothing(rings, django_assert_num_queries):
    """A write without subscribers costs no statement and sends no wake-up."""
    with django_assert_num_queries(0):
        log.append([], USING)
    assert rings == []


# Wake-ups -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_wake_up_is_sent_once_after_the_commit(rings):
    """The number of events does not matter, and they can be read by then."""
    with transaction.atomic():
        append("a")
        append("b")
        with transaction.atomic():
            append("c")
        assert rings == []
    assert rings == [USING]


@pytest.mark.django_db(transaction=True)
def test_no_wake_up_is_sent_for_rolled_back_work(rings):
    """There is nothing to read."""
    with contextlib.suppress(LookupError), transaction.atomic():
        append("a")
        raise LookupError
    assert rings == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails_first", [True, False])
def test_wake_up_is_sent_for_events_outside_of_a_rolled_back_savepoint(rings, fails_first):
    """The one wake-up of the transaction must not be rolled back with the savepoint."""

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
def test_error_of_the_wake_up_does_not_reach_the_writer(monkeypatch, caplog):
    """The write is committed. A missing wake-up costs latency only."""

    def fail(using):
        raise OSError("no bell")

    monkeypatch.setattr(log, "ring", fail)
    with transaction.atomic():
        append("a")
    assert sequenced() == ["a"]
    assert "no bell" in caplog.text


# Numbers --------------------------------------------------------------------------------------------------------------


def test_offsets_are_dense_from_one():
    """There is no gap that a reader could take for a loss."""
    for batch in ("ab", "c", "def"):
        append(*batch)
        sequencer.sequence(USING)
    events = log.read(0, 10, USING)
    first = events[0].offset
    assert [event.offset - first for event in events] == list(range(6))


@pytest.mark.django_db(transaction=True)
def test_offsets_are_dense_over_rollbacks():
    """An id that a rolled-back transaction used leaves no gap in the offsets."""
    for stream in "abc":
        append(stream)
        with contextlib.suppress(LookupError), transaction.atomic():
            append("undone")
            raise LookupError
    assert sequenced() == list("abc")
    offsets = [event.offset for event in log.read(0, 10, USING)]
    assert offsets == list(range(offsets[0], offsets[0] + 3))


def test_sequencing_numbers_the_oldest_first_up_to_a_limit():
    """A relay with many events works in batches."""
    append(*"abcde")
    counts = [sequencer.sequence(USING, limit=2) for _ in range(4)]
    assert counts == ([0] * 4 if IS_SQLITE else [2, 2, 1, 0])
    assert [event.stream for event in log.read(0, 10, USING)] == list("abcde")


def test_events_without_a_number_are_not_read():
    """Readers do not see an event until it is numbered, but a snapshot must know which events wait."""
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
    """Every hub calls it several times a second."""
    history.ensure_head(USING)
    with django_assert_max_num_queries(1):
        assert sequencer.sequence(USING) == 0
