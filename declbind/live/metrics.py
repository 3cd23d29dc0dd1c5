"""Counts of the frames that a process sends and receives, for the charts and for the last use of each stream.

Counting an event costs one addition, whatever its number of frames. Counts by minute are always stored, with the
heartbeat. Counts by second, and the latency and number of recipients of each event, are stored only while an operator
watches.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings as django_settings

from declbind.core import sampling
from declbind.core.hub import LogEvent
from declbind.models import Activity, Event, StreamUse, Traffic
from declbind.outbound import history

#: The number of events per second whose recipients and latency are recorded. Above it, events are sampled: one in 2, in
#: 4, in 8.
MAX_DELIVERIES = 200
#: Minutes and seconds that may wait while the database does not answer. Older ones are dropped.
MAX_WAITING = 10
#: Streams in one statement, because some databases accept at most 999 parameters.
STREAMS_AT_ONCE = 400


@dataclass
class Counts:
    """The numbers of frames and requests, of refusals by stream, and of faults in a period."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    errors: int = 0

    def add(self, kind: str, stream: str) -> None:
        """Count one thing of a kind of ``Traffic``, except the start or end of a connection."""
        if kind == Traffic.CONNECTION:
            return
        if stream or kind != Traffic.REFUSED:
            self.received[stream] += 1
        if kind == Traffic.REFUSED:
            self.refused[stream] += 1
        elif kind == Traffic.ERROR:
            self.errors += 1

    def update(self, other: Counts) -> None:
        """Add the counts of another period."""
        self.sent.update(other.sent)
        self.received.update(other.received)
        self.refused.update(other.refused)
        self.errors += other.errors

    def __bool__(self) -> bool:
        return bool(self.sent or self.received or self.refused or self.errors)

    def values(self) -> dict[str, object]:
        """Return the columns of ``Activity``."""
        return {
            "sent": self.sent.total(),
            "received": self.received.total(),
            "refused": self.refused.total(),
            "errors": self.errors,
            "streams": {
                stream: [self.sent[stream], self.received[stream], self.refused[stream]]
                for stream in sorted({*self.sent, *self.received, *self.refused} - {""})
            },
        }


@dataclass
class Second(Counts):
    """The counts of one second, and its events: offset, time of delivery, and number of frames."""

    every: int = 1
    events: list[tuple[int, float, int]] = field(default_factory=list)

    def note(self, offset: int, at: float, frames: int) -> None:
        """Record the delivery of an event. Above the limit, events are sampled, the same ones in all processes."""
        if not sampling.keeps(offset, self.every):
            return
        self.events.append((offset, at, frames))
        while len(self.events) > MAX_DELIVERIES:
            self.every *= 2
            self.events = [event for event in self.events if sampling.keeps(event[0], self.every)]


class Metrics:
    """The counts of one process.

    ``count_*``, ``watch`` and ``take_*`` belong to the event loop, ``write_*`` to the hub's thread.
    """

    def __init__(self, node: str, clock: Callable[[], float] = time.time) -> None:
        self.node = node
        self.watched = False
        self._clock = clock
        self._fresh = Counts()
        self._seconds: dict[int, Second] = {}
        #: The last second that ``take_seconds`` returned.
        self._taken = 0
        #: The counts of the present minute and of earlier ones that are not stored yet.
        self._minutes: dict[int, Counts] = {}
        #: The last minute of use that was stored for each stream, by column.
        self._used: dict[str, dict[str, int]] = {"sent_at": {}, "asked_at": {}}

    # --- in the event loop -------------------------------------------------------------------------------------------

    def count_frames(self, event: LogEvent, frames: int) -> None:
        """Count the frames of one event."""
        self._fresh.sent[event.stream] += frames
        if self.watched:
            now = self._clock()
            second = self._second(int(now))
            second.sent[event.stream] += frames
            second.note(event.offset, now, frames)

    def count(self, kind: str, stream: str) -> None:
        """Count a request, refusal or fault; ``stream`` is an existing stream or ""."""
        self._fresh.add(kind, stream)
        if self.watched:
            self._second(int(self._clock())).add(kind, stream)

    def watch(self, watched: bool) -> None:
        """Start or stop counting seconds."""
        if watched and not self.watched:
            self._taken = int(self._clock())
        self.watched = watched
        if not watched:
            self._seconds = {}

    def _second(self, at: int) -> Second:
        found = self._seconds.get(at)
        if found is None:
            found = self._seconds[at] = Second()
            while len(self._seconds) > MAX_WAITING:
                del self._seconds[min(self._seconds)]
        return found

    def take_seconds(self) -> dict[int, Second]:
        """Remove and return finished seconds. A second without traffic is included, so that a zero can be stored."""
        if not self.watched:
            return {}
        now = int(self._clock())
        first = max(self._taken, now - MAX_WAITING)
        self._taken = max(now, self._taken)
        return {at: self._seconds.pop(at, Second()) for at in range(first, now)}

    def take_fresh(self) -> Counts:
        """Remove and return the counts since the last call."""
        fresh, self._fresh = self._fresh, Counts()
        return fresh

    # --- in the hub's thread -----------------------------------------------------------------------------------------

    def write_seconds(self, seconds: dict[int, Second], using: str) -> None:
        """Store seconds, with the latencies of their events."""
        if not seconds:
            return
        written = _created([offset for second in seconds.values() for offset, _, _ in second.events], using)
        rows = []
        for at, second in seconds.items():
            # If this clock is behind the writer's, the latency would be negative.
            deliveries = [
                [offset, frames, round(max(0.0, 1000 * (handed_over - written[offset])), 1)]
                for offset, handed_over, frames in second.events
                if offset in written
            ]
            waits = [milliseconds for _, _, milliseconds in deliveries]
            rows.append(
                Activity(
                    node=self.node,
                    at=read_clock(at),
                    seconds=1,
                    p50=sampling.percentile(waits, 0.5),
                    p99=sampling.percentile(waits, 0.99),
                    deliveries=deliveries,
                    **second.values(),
                )
            )
        # There are conflicts only if the clock was set back.
        Activity.objects.using(using).bulk_create(rows, ignore_conflicts=True)

    def write_minute(self, fresh: Counts, using: str) -> None:
        """Add counts to the row of this minute, and store which streams were used in it.

        The row gets the whole count of the minute each time, so the next write makes up for a failed one.
        """
        minute = int(self._clock()) // 60 * 60
        if fresh:
            self._minutes.setdefault(minute, Counts()).update(fresh)
        while len(self._minutes) > MAX_WAITING:
            del self._minutes[min(self._minutes)]
        for at, counts in sorted(self._minutes.items()):
            if fresh or at < minute:
                Activity.objects.using(using).update_or_create(
                    node=self.node, at=read_clock(at), seconds=60, defaults=counts.values()
                )
            self._touch("sent_at", counts.sent, at, using)
            self._touch("asked_at", counts.received, at, using)
            if at < minute:
                del self._minutes[at]

    def _touch(self, column: str, streams: Iterable[str], minute: int, using: str) -> None:
        used = self._used[column]
        new = [stream for stream in streams if stream and used.get(stream, 0) < minute]
        at = read_clock(minute)
        rows = StreamUse.objects.using(using)
        for start in range(0, len(new), STREAMS_AT_ONCE):
            some = new[start : start + STREAMS_AT_ONCE]
            known = set(rows.filter(pk__in=some).values_list("pk", flat=True))
            rows.filter(pk__in=known).update(**{column: at})
            rows.bulk_create(
                [StreamUse(stream=stream, **{column: at}) for stream in some if stream not in known],
                ignore_conflicts=True,
            )
            used.update(dict.fromkeys(some, minute))


def read_clock(seconds: float) -> datetime:
    """Return a time, given in seconds since 1970, as the project's columns store it: naive without ``USE_TZ``."""
    return datetime.fromtimestamp(seconds, UTC if django_settings.USE_TZ else None)


def _created(offsets: list[int], using: str) -> dict[int, float]:
    """Return the times at which events were written, in seconds since 1970, by offset."""
    column = history.offset_column(using)
    created: dict[int, float] = {}
    for start in range(0, len(offsets), MAX_DELIVERIES):
        some = offsets[start : start + MAX_DELIVERIES]
        rows = Event.objects.using(using).filter(**{f"{column}__in": some}).values_list(column, "created_at")
        created.update((offset, at.timestamp()) for offset, at in rows)
    return created
