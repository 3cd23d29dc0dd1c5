"""The most recent events of the log, for clients that reconnect after a short time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import attrgetter

from .hub import LogEvent


class Recent:
    """The newest events by stream, bounded in number and in characters. The oldest are dropped first.

    Events are added in the order of their offsets. Everything after ``floor`` is held. A thousand clients that
    reconnect at once are served from here, not by a thousand reads of the log.
    """

    def __init__(self, events: int = 5_000, characters: int = 8_000_000) -> None:
        self._max_events, self._max_characters = events, characters
        self._order: deque[LogEvent] = deque()
        self._by_stream: dict[str, deque[LogEvent]] = {}
        self._characters = 0
        self.floor = 0

    def __len__(self) -> int:
        return len(self._order)

    def start(self, offset: int) -> None:
        """Drop all events; those after ``offset`` will be held."""
        self._order.clear()
        self._by_stream.clear()
        self._characters = 0
        self.floor = offset

    def add(self, event: LogEvent) -> None:
        """Add the next event."""
        self._order.append(event)
        self._by_stream.setdefault(event.stream, deque()).append(event)
        self._characters += len(event.data)
        while len(self._order) > self._max_events or self._characters > self._max_characters:
            self._drop_oldest()

    def since(self, stream: str, offset: int) -> list[LogEvent] | None:
        """Return a stream's events after an offset, or ``None`` if not all of them are held."""
        if offset < self.floor:
            return None
        held = self._by_stream.get(stream, ())
        return list(held)[bisect_right(held, offset, key=attrgetter("offset")) :]

    def _drop_oldest(self) -> None:
        oldest = self._order.popleft()
        self.floor = oldest.offset
        self._characters -= len(oldest.data)
        stream = self._by_stream[oldest.stream]
        stream.popleft()
        if not stream:
            del self._by_stream[oldest.stream]
