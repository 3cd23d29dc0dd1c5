"""The rows of the live page: events of the log and traffic of the processes, merged by time.

There are three queries: the newest rows (a page), the rows since a cursor (a poll or a push, sampled if there are
too many), and the rows after a cursor one page at a time (after a pause, or to read skipped rows).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from admin_ui.common.visible import VisibleRows, parse_key
from admin_ui.traffic.deliveries import load_deliveries
from admin_ui.traffic.rows import ALWAYS_SHOWN, Reader, Row, load_processes
from admin_ui.traffic.wanted import Wanted, narrow_events, narrow_traffic, stream_models
from declbind.console.shown import shown
from declbind.core import sampling
from declbind.models import Event, Traffic
from declbind.outbound import history, log
from declbind.registry import database_alias

#: The rows of a page; further rows that arrive while nobody watches are counted and left out.
MAX_ROWS = 500
#: The rows of an answer to a page that is being watched; of more rows it gets every second, fourth or eighth.
ANSWER_ROWS = 100
#: Up to so many rows of a stream are shown before other streams lose their places to it.
FAIR_ROWS = 100
#: A stream with so few rows in an answer is not sampled.
QUIET_ROWS = 10
#: How many of the newest events a filter searches: nothing but their order has an index.
WINDOW = 20_000
MAX_UNSEQUENCED = 100
#: How far back a poll looks for late traffic rows, where ids appear out of order.
LATE_ROWS, LATE_SECONDS = 300, 10


@dataclass(frozen=True)
class Cursor:
    """How far a page has read: the log's epoch and offset, and the last traffic row."""

    epoch: str
    offset: int
    traffic: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}:{self.traffic}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Parse the result of ``str()``; return None for anything else."""
        epoch, _, rest = text.partition(":")
        offset, _, traffic = rest.partition(":")
        if not (epoch and len(epoch) <= 32 and _is_number(offset) and _is_number(traffic)):
            return None
        return cls(epoch, int(offset), int(traffic))


@dataclass(frozen=True)
class Page:
    """The result of one query. ``rows`` are newest first.

    ``count`` rows arrived, of which ``skipped`` are left out. Of the others one in ``every`` is shown, refusals and
    errors always. ``is_reset`` says that the log has a new epoch, ``is_bounded`` that a filter did not search all
    stored events, and ``has_more`` that there are further rows after these.
    """

    rows: list[Row]
    cursor: Cursor
    count: int = 0
    skipped: int = 0
    every: int = 1
    is_reset: bool = False
    is_bounded: bool = False
    has_more: bool = False


class Window:
    """One query of the log and the traffic; the ends of both are read before the rows.

    Rows that appear in between are thus read twice rather than never. With ``visible`` the rows have values: those of
    the ``readable`` models that the viewer may see.
    """

    def __init__(
        self, wanted: Wanted, *, readable: frozenset[str] = frozenset(), visible: VisibleRows | None = None
    ) -> None:
        self.wanted, self.readable, self.visible = wanted, readable, visible
        self.using = database_alias()
        head = log.load_head(self.using)
        last = shown(Traffic, self.using).aggregate(last=Max("pk"))["last"] or 0
        self.column = history.offset_column(self.using)
        self.min_offset = head.min_offset
        self.cursor = Cursor(head.epoch, head.offset, last)

    def is_lost(self, after: Cursor) -> bool:
        """Return whether a cursor is of another epoch."""
        return after.epoch != self.cursor.epoch or after.offset > self.cursor.offset

    def newest(self, *, is_fair: bool = False) -> Page:
        """Return the newest rows. With ``is_fair`` a busy stream does not take the places of the others."""
        floor = self._floor(0)
        events = list(self._events(floor).order_by(f"-{self.column}")[:MAX_ROWS]) if self.wanted.wants_events else []
        if is_fair:
            events += self._beside(events, floor)
        events += self._unsequenced()
        traffic = list(self._traffic().order_by("-pk")[:MAX_ROWS])
        rows = self._rows(events, traffic)
        rows = (_spare(rows) if is_fair else rows)[:MAX_ROWS]
        is_bounded = floor >= self.min_offset and len(rows) < MAX_ROWS and self.wanted.wants_events
        return Page(rows, self.cursor, len(rows), is_bounded=is_bounded)

    def since(self, after: Cursor, *, whole: bool = False) -> Page:
        """Return the rows after a cursor: sampled to a readable number, or the newest of them with ``whole``."""
        if self.is_lost(after):
            return Page([], self.cursor, is_reset=True)
        if after == self.cursor and not history.needs_sequencer(self.using):
            return Page([], self.cursor)
        floor = max(after.offset, self.cursor.offset - WINDOW)
        numbered, controls = self._offsets(floor)
        fresh = self._traffic().filter(self._late(after.traffic)).order_by("-pk")
        kinds = list(fresh.values_list("pk", "kind", "stream")[: WINDOW + 1])
        # Rows that are read again because they may have been late were already counted.
        count = len(numbered) + len(controls) + sum(pk > after.traffic for pk, _, _ in kinds)
        always = [pk for pk, kind, _ in kinds if kind in ALWAYS_SHOWN]
        ordinary = [(pk, stream) for pk, kind, stream in kinds if kind not in ALWAYS_SHOWN]
        (offsets, rest), every = _sample([numbered, ordinary], len(numbered) + len(ordinary) if whole else ANSWER_ROWS)
        skipped = max(0, floor - after.offset)
        wanted_offsets = sorted((*offsets, *controls), reverse=True)[:MAX_ROWS]
        wanted_pks = sorted((*always, *rest), reverse=True)[:MAX_ROWS]
        events = list(self._numbered(wanted_offsets)) + self._unsequenced()
        traffic = list(shown(Traffic, self.using).filter(pk__in=wanted_pks)) if wanted_pks else []
        rows = self._rows(events, traffic)
        skipped += len(offsets) + len(controls) + len(always) + len(rest) - len(wanted_offsets) - len(wanted_pks)
        skipped += max(0, len(rows) - MAX_ROWS)
        return Page(rows[:MAX_ROWS], self.cursor, count, skipped, every)

    def onward(self, after: Cursor) -> Page:
        """Return the first rows after a cursor, with the cursor behind them; no row of either kind is skipped."""
        if self.is_lost(after):
            return Page([], self.cursor, is_reset=True)
        skipped = max(0, self.min_offset - 1 - after.offset)
        floor = self._floor(after.offset)
        events = list(self._events(floor).order_by(self.column)[: MAX_ROWS + 1]) if self.wanted.wants_events else []
        traffic = list(
            self._traffic().filter(pk__gt=after.traffic, pk__lte=self.cursor.traffic).order_by("pk")[: MAX_ROWS + 1]
        )
        # By time, but each kind in its own order; otherwise a cursor could not represent what was read.
        merged = sorted(
            [*_in_order([(event.created_at, event) for event in events]), *_in_order([(r.at, r) for r in traffic])],
            key=lambda pair: pair[0],
        )
        taken = [row for _, row in merged[:MAX_ROWS]]
        has_more = len(merged) > MAX_ROWS
        shown = [row for row in taken if isinstance(row, Event)], [row for row in taken if isinstance(row, Traffic)]
        rows = self._rows(*shown)
        is_bounded = floor > after.offset
        if not has_more:
            return Page(rows, self.cursor, len(rows), skipped, is_bounded=is_bounded)
        offset = max((getattr(event, self.column) for event in shown[0]), default=after.offset)
        cursor = Cursor(after.epoch, offset, max((row.pk for row in shown[1]), default=after.traffic))
        return Page(rows, cursor, len(rows), skipped, is_bounded=is_bounded, has_more=True)

    # --- parts
    # -------------------------------------------------------------------------------------------------------

    def _floor(self, offset: int) -> int:
        """Return the offset after which to read: with filters only the newest part of the log."""
        return max(offset, self.cursor.offset - WINDOW) if self.wanted.is_filtered else offset

    def _events(self, floor: int) -> QuerySet[Event]:
        stretch = {f"{self.column}__gt": floor, f"{self.column}__lte": self.cursor.offset}
        return narrow_events(shown(Event, self.using).filter(**stretch), self.wanted, self.using)

    def _beside(self, events: Sequence[Event], floor: int) -> list[Event]:
        """Return further events of the streams that busy ones leave no place for; none if all events were read."""
        counted = Counter(event.stream for event in events)
        busy = [stream for stream, count in counted.items() if count > FAIR_ROWS]
        if len(events) < MAX_ROWS or not busy:
            return []
        known = {event.pk for event in events}
        # The search is bounded, because a stream has no index.
        others = self._events(max(floor, self.cursor.offset - WINDOW)).exclude(stream__in=busy)
        return [event for event in others.order_by(f"-{self.column}")[:FAIR_ROWS] if event.pk not in known]

    def _offsets(self, floor: int) -> tuple[list[tuple[int, str]], list[int]]:
        """Return the offsets of the events after the floor with their streams, and those of marks, in order."""
        if not self.wanted.wants_events:
            return [], []
        found = self._events(floor).order_by(self.column).values_list(self.column, "kind", "stream")
        offsets: list[tuple[int, str]] = []
        controls: list[int] = []
        for offset, kind, stream in found:
            if kind == Event.CONTROL:
                controls.append(offset)
            else:
                offsets.append((offset, stream))
        return offsets, controls

    def _numbered(self, offsets: Sequence[int]) -> QuerySet[Event]:
        events = shown(Event, self.using)
        return events.filter(**{f"{self.column}__in": offsets}) if offsets else events.none()

    def _unsequenced(self) -> list[Event]:
        if not (history.needs_sequencer(self.using) and self.wanted.wants_events):
            return []
        waiting = shown(Event, self.using).filter(seq__isnull=True)
        return list(narrow_events(waiting, self.wanted, self.using).order_by("-pk")[:MAX_UNSEQUENCED])

    def _traffic(self) -> QuerySet[Traffic]:
        return narrow_traffic(shown(Traffic, self.using), self.wanted)

    def _late(self, last: int) -> Q:
        fresh = Q(pk__gt=last)
        if history.needs_sequencer(self.using):
            fresh |= Q(pk__gt=last - LATE_ROWS, at__gte=timezone.now() - timedelta(seconds=LATE_SECONDS))
        return fresh

    def _rows(self, events: Sequence[Event], traffic: Sequence[Traffic]) -> list[Row]:
        if not events and not traffic:
            return []
        if self.visible is not None:
            self.visible.load((event.model, parse_key(event.object_pk)) for event in events)
        reader = Reader(
            self.using,
            models=self.readable or self.wanted.models,
            values=self.visible is not None,
            visible=self.visible,
            processes=load_processes(self.using) if traffic else {},
            stream_models=stream_models() if traffic else {},
            deliveries=load_deliveries([event.created_at for event in events], self.using),
        )
        rows = [*map(reader.event_row, events), *map(reader.traffic_row, traffic)]
        return sorted(rows, key=lambda row: (row.at, row.sort), reverse=True)


def load_page(wanted: Wanted, after: Cursor | None = None, *, whole: bool = False) -> Page:
    """Return the newest rows, or with ``after`` those since that cursor."""
    look = Window(wanted)
    return look.newest() if after is None else look.since(after, whole=whole)


def _sample(kinds: Sequence[Sequence[tuple[int, str]]], most: int) -> tuple[list[list[int]], int]:
    """Return the numbers of rows, given with their streams, and of how many one was kept.

    Only busy streams are sampled, unless there are too many others.
    """
    total = Counter((at, stream) for at, rows in enumerate(kinds) for _, stream in rows)
    quiet = {key for key, count in total.items() if count <= QUIET_ROWS}
    if sum(total[key] for key in quiet) > most // 2:
        quiet = set()
    every, kept = 1, [list(rows) for rows in kinds]
    while sum(map(len, kept)) > most:
        every *= 2
        kept = [
            [row for row in rows if (at, row[1]) in quiet or sampling.keeps(row[0], every)]
            for at, rows in enumerate(kept)
        ]
    return [[number for number, _ in rows] for rows in kept], every


def _spare(rows: list[Row]) -> list[Row]:
    """Return at most a page of rows. Of too many, the oldest rows of those that have many equal ones are left out."""
    seen: Counter[str] = Counter()
    first: list[Row] = []
    later: list[Row] = []
    for row in rows:
        seen[row.likeness] += 1
        (first if not row.likeness or seen[row.likeness] <= FAIR_ROWS else later).append(row)
    chosen = {row.key for row in [*first, *later][:MAX_ROWS]}
    return [row for row in rows if row.key in chosen]


def _in_order(rows: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return the rows with times that never decrease."""
    latest = None
    ordered = []
    for at, row in rows:
        latest = at if latest is None else max(latest, at)
        ordered.append((latest, row))
    return ordered


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
