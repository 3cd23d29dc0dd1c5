"""The checker on its own: it accepts correct records and detects each kind of fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from .checker import Verdict, check
from .history import History, LedgerError
from .observations import Asked, Back, Frame, Observation, Outcome, Record, Snapshot, Stale, Work, Write

INITIAL = {1: {"room": 0, "stamp": "a"}, 2: {"room": 1, "stamp": "b"}}
#: Row 1 is changed, moved to room 1, changed and deleted; row 3 is created and stays.
WRITES = (
    Write(1, "update", "a1", "a", 0, 0),
    Write(1, "update", "a2", "a1", 0, 1),
    Write(3, "create", "c", None, None, 0),
    Write(1, "update", "a3", "a2", 1, 1),
    Write(1, "delete", "a4", "a3", 1, None),
)
FINAL = {2: {"room": 1, "stamp": "b"}, 3: {"room": 0, "stamp": "c"}}
WORKS = [Work((write,), Outcome.COMMITTED) for write in WRITES]
WORKS.append(Work((Write(2, "update", "b1", "b", 1, 0),), Outcome.ROLLED_BACK))
HISTORY = History(INITIAL, WORKS, FINAL)


def frame(offset: int, action: str, pk: int, stamp: str | None, room: int | None, epoch: str = "e") -> Frame:
    return Frame(epoch, offset, action, pk, stamp, room)


def snapshot(offset: int, **stamps: str) -> Snapshot:
    return Snapshot("e", offset, {int(pk[1:]): stamp for pk, stamp in stamps.items()})


ALL: Sequence[Observation] = [
    Asked(),
    snapshot(0, p1="a", p2="b"),
    frame(1, "update", 1, "a1", 0),
    frame(2, "update", 1, "a2", 1),
    frame(3, "create", 3, "c", 0),
    frame(4, "update", 1, "a3", 1),
    frame(5, "delete", 1, "a3", 1),
]
ROOM_0: Sequence[Observation] = [
    Asked(),
    snapshot(0, p1="a"),
    frame(1, "update", 1, "a1", 0),
    frame(2, "delete", 1, None, None),
    frame(3, "create", 3, "c", 0),
]
ROOM_1: Sequence[Observation] = [
    Asked(),
    snapshot(0, p2="b"),
    frame(2, "create", 1, "a2", 1),
    frame(4, "update", 1, "a3", 1),
    frame(5, "delete", 1, "a3", 1),
]


def judge(log: Sequence[Observation], room: int | None = None, rows: Mapping[int, Any] | None = None) -> Verdict:
    held = {pk: row for pk, row in FINAL.items() if room in (None, row["room"])} if rows is None else rows
    return check(HISTORY, [Record("it", room, log, held)])


@pytest.mark.parametrize(("room", "log"), [(None, ALL), (0, ROOM_0), (1, ROOM_1)])
def test_a_whole_record_is_clean(room, log):
    """Each group gets the events that concern it, with the right actions."""
    verdict = judge(log, room)
    assert verdict.problems == []
    assert verdict.delivered == len(log) - 2
    assert verdict.committed == 5


@pytest.mark.parametrize(("room", "log"), [(None, ALL), (0, ROOM_0), (1, ROOM_1)])
def test_no_frame_can_be_left_out(room, log):
    """The checker detects any missing frame, also if its row moved or was deleted later."""
    for place in range(2, len(log)):
        assert judge([*log[:place], *log[place + 1 :]], room).lost != []


@pytest.mark.parametrize(
    ("log", "kind", "text"),
    [
        ([*ALL, frame(6, "update", 2, "b1", 0)], "invented", "was rolled back"),
        ([*ALL, frame(6, "update", 2, "b9", 0)], "invented", "was never committed"),
        ([*ALL, frame(6, "delete", 2, "b", 1)], "invented", "was never committed"),
        ([*ALL[:2], frame(1, "create", 1, "a1", 0), *ALL[3:]], "invented", "create"),
        ([*ALL[:2], frame(1, "update", 1, "a1", 1), *ALL[3:]], "invented", "room=1"),
        ([*ALL, frame(6, "update", 1, "a1", 0)], "disordered", "went back"),
        ([*ALL, frame(2, "update", 1, "a1", 0)], "disordered", "was first"),
        ([*ALL[:4], frame(9, "create", 3, "c", 0), *ALL[5:]], "disordered", "came after"),
        ([*ALL[:4], Asked(), snapshot(2, p1="a1", p2="b"), *ALL[4:]], "disordered", "with a snapshot"),
        ([*ALL, Asked(), snapshot(5, p2="b1", p3="c")], "invented", "was rolled back"),
        ([*ALL, Asked(), snapshot(5, p3="c")], "lost", "never left"),
        ([*ALL, Stale("resync overflow")], "lost", "told to take a snapshot"),
        (ALL[2:], "lost", "told to take a snapshot"),
    ],
)
def test_each_kind_of_fault_is_found(log, kind, text):
    """A problem of the right kind describes the fault."""
    problems = getattr(judge(log), kind)
    assert any(text in problem for problem in problems), problems


def test_a_row_of_another_room_in_a_snapshot_is_found():
    """A room's snapshot may hold only rows of that room."""
    assert judge([*ROOM_0, Asked(), snapshot(5, p2="b", p3="c")], 0).invented != []


def test_a_snapshot_covers_what_it_holds():
    """Changes between two snapshots need no frames; changes after the second do."""
    late: list[Observation] = [Asked(), snapshot(3, p1="a2", p2="b", p3="c")]
    assert judge([*ALL[:2], *late, *ALL[5:]]).problems == []
    assert judge([*ALL[:2], *late, *ALL[6:]]).lost != []


def test_a_snapshot_may_lack_a_row_that_was_gone():
    """A missing row was deleted or not yet created; later events of it must be consistent with that."""
    assert judge([*ALL[:2], Asked(), snapshot(5, p2="b", p3="c")]).problems == []
    assert judge([*ROOM_1[:2], Asked(), snapshot(5, p2="b")], 1).problems == []
    assert judge([*ROOM_1[:2], Asked(), snapshot(1, p2="b"), *ROOM_1[2:]], 1).problems == []
    assert judge([*ROOM_1[:2], Asked(), snapshot(1, p2="b"), *ROOM_1[3:]], 1).lost != []


def test_changes_that_overtake_a_snapshot_are_applied_to_it():
    """Between request and last page, the old subscription still delivers older and newer changes."""
    asked = [*ALL[:2], Asked(), *ALL[2:4]]
    assert judge([*asked, snapshot(1, p1="a1", p2="b"), *ALL[4:]]).problems == []
    # A client would overwrite the newer row with the old change.
    early = [*ALL[:2], Asked(), ALL[2], snapshot(0, p1="a2", p2="b"), *ALL[4:]]
    assert any("held it already" in problem for problem in judge(early).disordered)


def test_a_resync_covers_what_was_missed_before_and_after_it():
    """It means that something may be missing; the following snapshot corrects it."""
    end: list[Observation] = [Asked(), snapshot(5, p2="b", p3="c")]
    assert judge([*ALL[:2], ALL[4], Stale("resync config"), *end]).problems == []
    assert judge([*ALL[:2], ALL[5], Stale("resync config"), *end]).problems == []
    assert judge([*ALL[:2], ALL[5], *end]).lost != []
    assert judge([*ALL[:3], Stale("resync config"), ALL[5], *end]).resyncs == 1


def test_what_is_repeated_after_coming_back_is_dropped():
    """The same frame under the same offset is not a second event."""
    verdict = judge([*ALL[:5], Back(1), *ALL[3:]])
    assert verdict.problems == []
    assert verdict.resumes == 1


def test_offsets_of_another_epoch_start_again():
    """Offsets must increase within an epoch only."""
    tail = [frame(1, "update", 1, "a3", 1, epoch="f"), frame(2, "delete", 1, "a3", 1, epoch="f")]
    assert judge([*ALL[:5], *tail]).problems == []


def test_one_offset_is_one_event_for_all_clients():
    """Two subscriptions that disagree about an offset have not read the same log."""
    other = [*ALL[:2], frame(7, "update", 1, "a1", 0), *(frame(9 + n, *_rest(f)) for n, f in enumerate(ALL[3:]))]
    records = [Record("one", None, ALL, FINAL), Record("two", None, other, FINAL)]
    assert check(HISTORY, records).problems == []
    shifted = [*ALL[:2], frame(2, "update", 1, "a1", 0), *(frame(3 + n, *_rest(f)) for n, f in enumerate(ALL[3:]))]
    assert check(HISTORY, [records[0], Record("two", None, shifted, FINAL)]).disordered != []


def _rest(observed: Any) -> tuple[Any, ...]:
    return observed.action, observed.pk, observed.stamp, observed.room


def test_final_rows_are_compared():
    """Missing, superfluous and old rows are each named."""
    verdict = judge(ALL, rows={1: {"room": 1, "stamp": "a3"}, 2: {"room": 1, "stamp": "old"}})
    assert len(verdict.wrong) == 3


@pytest.mark.parametrize("happened", [True, False])
def test_work_of_unknown_outcome_is_settled_by_the_row(happened):
    """Work that the row's last stamp leads back to was committed and must have been sent; other work must not."""
    unknown = Work((Write(2, "update", "b1", "b", 1, 1),), Outcome.UNKNOWN)
    later = Work((Write(2, "update", "b2", "b1" if happened else "b", 1, 1),), Outcome.COMMITTED)
    final = {**FINAL, 2: {"room": 1, "stamp": "b2"}}
    history = History(INITIAL, [*WORKS, unknown, later], final)
    heard = [*ALL, frame(6, "update", 2, "b1", 1), frame(7, "update", 2, "b2", 1)]
    assert (check(history, [Record("it", None, heard, final)]).invented == []) is happened
    assert (check(history, [Record("it", None, [*ALL, heard[-1]], final)]).lost == []) is not happened


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_delete_is_settled_by_the_row(happened):
    """It happened if the row is gone."""
    unknown = Work((Write(2, "delete", "b1", "b", 1, None),), Outcome.UNKNOWN)
    final = {3: FINAL[3]} if happened else FINAL
    history = History(INITIAL, [*WORKS, unknown], final)
    assert history.committed == (6 if happened else 5)
    heard = [*ALL, frame(6, "delete", 2, "b", 1)] if happened else ALL
    assert check(history, [Record("it", None, heard, final)]).problems == []


@pytest.mark.parametrize(
    ("works", "final"),
    [
        (WORKS, {**FINAL, 2: {"room": 1, "stamp": "b0"}}),
        ([*WORKS, Work((Write(2, "update", "b2", "b", 1, 1),), Outcome.COMMITTED)], FINAL),
        (WORKS[:3], FINAL),
    ],
)
def test_a_ledger_that_contradicts_the_database_judges_nothing(works, final):
    """A row without a writer, or a missing acknowledged write, is no fault of the tested code."""
    with pytest.raises(LedgerError):
        History(INITIAL, works, final)
