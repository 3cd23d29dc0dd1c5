"""Comparison of the writers' ledgers, the clients' frames and the database. Pure: no clock, no file, no socket.

A row's committed writes are a chain: each names the stamp that it found, and rows are locked while they are written,
so the chain is the order of the commits. It also settles work of unknown outcome: the work was committed if the
row's last stamp leads back to it.

A subscription is then replayed against the chains. It has a position in each. A frame or a snapshot moves it
forward. Writes between two positions that concerned its group were lost, unless the second position is from a
snapshot, or a `resync` covers them: an earlier one, or one that follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .history import History
from .observations import Asked, Back, Frame, Record, Snapshot, Stale, Write


@dataclass
class Verdict:
    """The number of correct events, and the problems, each as a sentence."""

    committed: int = 0
    delivered: int = 0
    covered: int = 0
    #: How often clients were told that they may be behind. Without a need for it, a resync could hide losses.
    resyncs: int = 0
    #: How often clients reconnected with an offset.
    resumes: int = 0
    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Return all problems."""
        return [
            f"{kind}: {text}"
            for kind, texts in (
                ("lost", self.lost),
                ("invented", self.invented),
                ("out of order", self.disordered),
                ("wrong final state", self.wrong),
            )
            for text in texts
        ]


def seen_as(write: Write, room: int | None) -> str | None:
    """Return the action by which a group gets a write, or ``None`` if it does not."""
    if room is None:
        return write.action
    before, after = write.before == room, write.after == room
    if before and after:
        return "update"
    if before or after:
        return "delete" if before else "create"
    return None


def check(history: History, records: Iterable[Record]) -> Verdict:
    """Replay each record against the history and return the verdict."""
    verdict = Verdict(committed=history.committed)
    events: dict[tuple[str, int], tuple[int, str]] = {}
    for record in records:
        _Replay(history, record, verdict, events).run()
    return verdict


@dataclass
class _Place:
    """A subscription's position in a chain: at ``index``, or, if not ``exact``, there or later, without the row."""

    index: int = -1
    exact: bool = False


class _Replay:
    """The replay of one record along the chains."""

    def __init__(
        self, history: History, record: Record, verdict: Verdict, events: dict[tuple[str, int], tuple[int, str]]
    ) -> None:
        self.history, self.record, self.verdict = history, record, verdict
        #: The frames of other clients by offset: an offset always has the same event.
        self.events = events
        self.places: defaultdict[int, _Place] = defaultdict(_Place)
        self.seen: dict[tuple[str, int], Frame] = {}
        self.offset: tuple[str, int] = ("", -1)
        #: Before the first snapshot and after a resync only the order is checked.
        self.is_stale = True
        #: The writes that were skipped: they are lost, unless a resync follows.
        self.gaps: list[str] = []
        self.asked: dict[int, int] = {}
        self.between: list[tuple[int, int, int]] | None = None

    def run(self) -> None:
        for observed in self.record.log:
            match observed:
                case Asked():
                    self.asked = {pk: place.index for pk, place in self.places.items()}
                    self.between = []
                case Back():
                    self.verdict.resumes += 1
                case Frame():
                    self._frame(observed)
                case Snapshot():
                    self._snapshot(observed)
                case Stale():
                    self.is_stale = True
                    self.verdict.resyncs += 1
                    self.verdict.covered += len(self.gaps)
                    self.gaps.clear()
        if self.is_stale:
            self._lose("it was told to take a snapshot and has none")
        else:
            for pk, chain in self.history.chains.items():
                self._advance(pk, self.places[pk], len(chain), "the end")
        self.verdict.lost += self.gaps
        self._compare()

    def _frame(self, frame: Frame) -> None:
        key = frame.epoch, frame.offset
        if key in self.seen:
            if self.seen[key] != frame:
                self._disordered(f"offset {frame.offset} was first {self.seen[key]}, then {frame}")
            return
        self.seen[key] = frame
        if self.offset[0] == frame.epoch and frame.offset < self.offset[1]:
            self._disordered(f"offset {frame.offset} came after {self.offset[1]}")
        self.offset = key
        if frame.stamp is not None:
            event = frame.pk, frame.stamp
            if self.events.setdefault(key, event) != event:
                self._disordered(f"offset {frame.offset} is {event} here and {self.events[key]} elsewhere")
        index = self._index(frame)
        if index is None:
            return
        place = self.places[frame.pk]
        if self.between is not None:
            self.between.append((frame.offset, frame.pk, index))
        if index <= place.index:
            self._disordered(f"row {frame.pk} went back from write {place.index} to {index} with {frame}")
            return
        self._advance(frame.pk, place, index, f"offset {frame.offset}")
        self.verdict.delivered += 1
        self.places[frame.pk] = _Place(index, exact=True)

    def _index(self, frame: Frame) -> int | None:
        """Return the write of its row that a frame reports, or ``None`` and a problem if there is none."""
        room = self.record.room
        chain = self.history.chains.get(frame.pk, [])
        index: int | None
        if frame.action != "delete":
            index = self.history.places.get(frame.stamp or "")
        elif frame.stamp is not None:
            index = self.history.ends.get(frame.stamp)
        else:
            # The row only left the group, without a stamp. It is the next such write, or something was lost before
            # it.
            start = self.places[frame.pk].index + 1
            leaves = (
                place
                for place in range(start, len(chain))
                if chain[place].action != "delete" and seen_as(chain[place], room) == "delete"
            )
            index = next(leaves, None)
        if index is None or index >= len(chain) or frame.stamp not in (None, chain[index].stamp, chain[index].base):
            self._invented(f"{frame}, whose write {self.history.explain(frame.stamp)}")
            return None
        write = chain[index]
        held_in = write.before if write.action == "delete" else write.after
        if seen_as(write, room) != frame.action or frame.room not in (None, held_in):
            self._invented(f"{frame} for {write}")
            return None
        return index

    def _snapshot(self, snapshot: Snapshot) -> None:
        room = self.record.room
        for pk in [pk for pk in self.places if pk not in snapshot.rows]:
            chain, place = self.history.chains[pk], self.places[pk]
            reached = self._reached(pk, snapshot.offset)
            if not any(self._is_absent(chain, index) for index in range(reached, len(chain))):
                self._lose(f"row {pk} from the snapshot at {snapshot.offset}: since {chain[reached]} it never left")
            self.places[pk] = _Place(reached if place.exact else place.index, exact=False)
        for pk, stamp in snapshot.rows.items():
            index = self.history.places.get(stamp)
            chain = self.history.chains.get(pk, [])
            if index is None or index >= len(chain) or chain[index].stamp != stamp:
                self._invented(f"row {pk} of the snapshot holds {stamp!r}, which {self.history.explain(stamp)}")
            elif room is not None and chain[index].after != room:
                self._invented(f"row {pk} of the snapshot is in room {chain[index].after}")
            else:
                reached = self._reached(pk, snapshot.offset)
                if index < reached:
                    self._disordered(f"row {pk} went back from write {reached} to {index} with a snapshot")
                self.verdict.covered += len(list(self._heard(chain, self.places[pk].index + 1, index + 1)))
                self.places[pk] = _Place(index, exact=True)
        for offset, pk, index in self.between or ():
            # The client applies them again, on top of the snapshot, so none may be older than the snapshot's rows.
            if offset > snapshot.offset:
                if index < self.places[pk].index:
                    self._disordered(f"offset {offset} of row {pk} is newer than a snapshot that held it already")
                self.places[pk] = _Place(max(index, self.places[pk].index), exact=True)
        self.between = None
        self.is_stale = False

    def _reached(self, pk: int, offset: int) -> int:
        """Return the position in a chain that a snapshot at an offset must have reached, given earlier frames."""
        earlier = [index for at, row, index in self.between or () if row == pk and at <= offset] if self.between else []
        return max([self.asked.get(pk, -1), *earlier])

    def _advance(self, pk: int, place: _Place, target: int, what: str) -> None:
        """Move to just before ``target``; the writes in between were lost, or are covered by a resync."""
        chain = self.history.chains[pk]
        start = place.index
        if self.is_stale:
            start = target - 1
        elif not place.exact:
            # The snapshot did not hold the row: it may have been taken at any position where the row did not exist.
            start = max((index for index in range(start, target) if self._is_absent(chain, index)), default=start)
        self.verdict.covered += len(list(self._heard(chain, place.index + 1, start + 1)))
        for write in self._heard(chain, start + 1, target):
            self._lose(f"{write}, before {what}")

    def _heard(self, chain: list[Write], start: int, stop: int) -> Iterator[Write]:
        return (write for write in chain[start:stop] if seen_as(write, self.record.room) is not None)

    def _is_absent(self, chain: list[Write], index: int) -> bool:
        if index < 0:
            return True
        room = self.record.room
        return chain[index].after is None if room is None else chain[index].after != room

    def _compare(self) -> None:
        room = self.record.room
        expected = {pk: row for pk, row in self.history.final.items() if room is None or row["room"] == room}
        for pk in expected.keys() | self.record.rows.keys():
            held, row = self.record.rows.get(pk), expected.get(pk)
            if held != row:
                self.verdict.wrong.append(f"{self.record.name}: row {pk} is {held}, expected {row}")

    def _lose(self, text: str) -> None:
        self.gaps.append(f"{self.record.name}: {text}")

    def _invented(self, text: str) -> None:
        self.verdict.invented.append(f"{self.record.name}: {text}")

    def _disordered(self, text: str) -> None:
        self.verdict.disordered.append(f"{self.record.name}: {text}")
