"""The use of each stream: current subscribers, frames and refusals by the minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from declbind.models import Node, StreamUse

from .shown import sees_all, shown_activity
from .stored import read_counts, read_subscribers

#: The number of minutes in a small chart.
MINUTES = 30


@dataclass(frozen=True)
class Usage:
    """The use of one stream: counts by minute, oldest first. The last minute is not complete."""

    subscribers: int = 0
    sent: tuple[int, ...] = (0,) * MINUTES
    refused: tuple[int, ...] = (0,) * MINUTES

    @property
    def sent_per_minute(self) -> int:
        """Return the frames of the last complete minute, or of the present one if it has more."""
        return max(self.sent[-2:])

    @property
    def refused_per_minute(self) -> int:
        """Return the refusals of the last complete minute, or of the present one if it has more."""
        return max(self.refused[-2:])


def load_usage(nodes: Iterable[Node], using: str) -> Mapping[str, Usage]:
    """Return the use of every used stream in the live processes ``nodes``. Takes one query."""
    subscribers: Counter[str] = Counter()
    for node in nodes:
        subscribers.update(read_subscribers(node.streams) if sees_all() else {})
    now = timezone.now().replace(second=0, microsecond=0)
    begin = now - timedelta(minutes=MINUTES - 1)
    sent: dict[str, list[int]] = {}
    refused: dict[str, list[int]] = {}
    rows = shown_activity(using).filter(seconds=60, at__gte=begin).order_by()
    for at, streams in rows.values_list("at", "streams"):
        minute = int((at - begin).total_seconds() // 60)
        if not 0 <= minute < MINUTES:
            continue
        for stream, (out, _, no) in read_counts(streams):
            sent.setdefault(stream, [0] * MINUTES)[minute] += out
            refused.setdefault(stream, [0] * MINUTES)[minute] += no
    nothing = [0] * MINUTES
    return {
        stream: Usage(subscribers[stream], tuple(sent.get(stream, nothing)), tuple(refused.get(stream, nothing)))
        for stream in {*subscribers, *sent}
    }


def load_used_streams(days: int, using: str) -> set[str]:
    """Return the streams that sent a frame to a client within this many days. Takes one query."""
    since = timezone.now() - timedelta(days=days)
    return set(StreamUse.objects.using(using).filter(sent_at__gte=since).values_list("stream", flat=True))
