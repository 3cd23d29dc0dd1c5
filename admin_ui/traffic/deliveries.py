"""The recipients of an event, as counted by all processes together, second by second, while someone watches."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from declbind.console.shown import shown_activity
from declbind.console.stored import read_deliveries

#: The rows of one query: ten minutes of one process, one minute of ten.
MAX_ROWS = 600
#: For how long after its write an event may still be delivered by some process.
LATE_SECONDS = 5
#: How far back an answer of the live page looks for new counts.
RECENT_SECONDS = 4


@dataclass(frozen=True)
class Delivery:
    """The number of connections that got an event, and the longest delivery time.

    ``is_least`` says that some were not counted.
    """

    recipients: int
    milliseconds: float | None = None
    is_least: bool = False

    def __str__(self) -> str:
        return f"\N{GREATER-THAN OR EQUAL TO} {self.recipients}" if self.is_least else str(self.recipients)


@dataclass
class Deliveries:
    """The known deliveries of the events of a period."""

    #: By offset: (process, recipients, milliseconds).
    found: dict[int, list[tuple[str, int, float]]] = field(default_factory=dict)
    #: The seconds with known counts, in order, and those in which not every event was recorded.
    seconds: list[float] = field(default_factory=list)
    partial: list[float] = field(default_factory=list)

    def of(self, offset: int | None, written: datetime) -> Delivery | None:
        """Return the delivery of one event, or None if it is unknown."""
        if offset is None:
            return None
        at = written.timestamp()
        is_partial = bisect_right(self.partial, at + LATE_SECONDS) > bisect_left(self.partial, at - 1)
        parts = self.found.get(offset)
        if parts:
            return Delivery(sum(part[1] for part in parts), max(part[2] for part in parts), is_partial)
        # If all seconds in which it could have been delivered are known, it had no recipients.
        is_known = bisect_right(self.seconds, at + LATE_SECONDS) > bisect_left(self.seconds, at + 1)
        return Delivery(0) if is_known and not is_partial else None

    @property
    def known(self) -> tuple[float, float] | None:
        """Return the period in which an event without an entry had no recipients, or None if that is unknown."""
        return None if self.partial or not self.seconds else (self.seconds[0], self.seconds[-1] - 1)


def load_deliveries(times: Iterable[datetime], using: str) -> Deliveries:
    """Return the deliveries of events that were written at these times. Takes one query."""
    known = list(times)
    if not known:
        return Deliveries()
    return _load(min(known) - timedelta(seconds=1), max(known) + timedelta(seconds=LATE_SECONDS), using)


def load_recent(using: str) -> Deliveries:
    """Return what has become known of the newest events. Takes one query."""
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
