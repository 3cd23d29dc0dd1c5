"""Who got an event: what all processes together counted, while somebody watches, second by second."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from declbind.console.shown import shown_activity
from declbind.console.stored import read_deliveries

#: Rows of one reading: ten minutes of one process, one minute of ten.
MAX_ROWS = 600
#: So long after it was written an event may still be handed over by some process.
LATE_SECONDS = 5
#: How far back an answer of the live page looks for what has become known since.
RECENT_SECONDS = 4


@dataclass(frozen=True)
class Delivery:
    """How many connections got an event, and the longest that it took; ``is_least`` where some were not counted."""

    recipients: int
    milliseconds: float | None = None
    is_least: bool = False

    def __str__(self) -> str:
        return f"\N{GREATER-THAN OR EQUAL TO} {self.recipients}" if self.is_least else str(self.recipients)


@dataclass
class Deliveries:
    """What is known of the events of some stretch of time."""

    #: By offset: (process, recipients, milliseconds).
    found: dict[int, list[tuple[str, int, float]]] = field(default_factory=dict)
    #: Seconds of which something is known, in order, and those in which not every event was noted.
    seconds: list[float] = field(default_factory=list)
    partial: list[float] = field(default_factory=list)

    def of(self, offset: int | None, written: datetime) -> Delivery | None:
        """Return what is known of one event; None where nothing is."""
        if offset is None:
            return None
        at = written.timestamp()
        is_partial = bisect_right(self.partial, at + LATE_SECONDS) > bisect_left(self.partial, at - 1)
        parts = self.found.get(offset)
        if parts:
            return Delivery(sum(part[1] for part in parts), max(part[2] for part in parts), is_partial)
        # Nobody got it, if the seconds in which somebody could have are told of.
        is_known = bisect_right(self.seconds, at + LATE_SECONDS) > bisect_left(self.seconds, at + 1)
        return Delivery(0) if is_known and not is_partial else None

    @property
    def known(self) -> tuple[float, float] | None:
        """Between which times an event that is not found had no recipients; None where that cannot be told."""
        return None if self.partial or not self.seconds else (self.seconds[0], self.seconds[-1] - 1)


def load_deliveries(times: Iterable[datetime], using: str) -> Deliveries:
    """Read what is known of events that were written at these times. One query."""
    known = list(times)
    if not known:
        return Deliveries()
    return _load(min(known) - timedelta(seconds=1), max(known) + timedelta(seconds=LATE_SECONDS), using)


def load_recent(using: str) -> Deliveries:
    """Read what has become known of the newest events. One query."""
    now = timezone.now()
    return _load(now - timedelta(seconds=RECENT_SECONDS), now, using)


def _load(since: datetime, until: datetime, using: str) -> Deliveries:
    rows = shown_activity(using).filter(seconds=1, at__gte=since, at__lte=until).order_by("-at")
    read: list[Any] = list(rows.values_list("at", "node", "sent", "deliveries")[:MAX_ROWS])
    deliveries = Deliveries()
    for at, node, sent, noted in reversed(read):
        parts = list(read_deliveries(noted))
        deliveries.seconds.append(at.timestamp())
        if sum(recipients for _, recipients, _ in parts) < sent:
            deliveries.partial.append(at.timestamp())
        for offset, recipients, milliseconds in parts:
            deliveries.found.setdefault(offset, []).append((node, recipients, milliseconds))
    return deliveries
