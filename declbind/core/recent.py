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
        #: By stream, the offset up to which its events were forgotten, where that is above ``floor``.
        self._floors: dict[str, int] = {}
        self._characters = 0
        self.floor = 0

    def __len__(self) -> int:
        return len(self._order)

    def start(self, offset: int) -> None:
        """Drop all events; those after ``offset`` will be held."""
        self._order.clear()
        self._by_stream.clear()
        self._floors.clear()
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
        if offset < self.floor or offset < self._floors.get(stream, 0):
            return None
        held = self._by_stream.get(stream, ())
        return list(held)[bisect_right(held, offset, key=attrgetter("offset")) :]

    def forget(self, stream: str, offset: int) -> None:
        """Drop a stream's events up to an offset, which may not be kept any longer. Takes time for all that is held."""
        held = self._by_stream.get(stream)
        if offset <= self.floor or not held or held[0].offset > offset:
            # Nothing of it is held, and what is asked from before the floor is refused anyway.
            if offset > self.floor:
                self._floors[stream] = max(offset, self._floors.get(stream, 0))
            return
        kept = deque(event for event in self._order if event.stream != stream or event.offset > offset)
        self._characters -= sum(len(event.data) for event in held if event.offset <= offset)
        self._order = kept
        rest = deque(event for event in held if event.offset > offset)
        if rest:
            self._by_stream[stream] = rest
        else:
            del self._by_stream[stream]
        self._floors[stream] = max(offset, self._floors.get(stream, 0))

    def _drop_oldest(self) -> None:
        oldest = self._order.popleft()
        self.floor = oldest.offset
        if self._floors:
            self._floors = {stream: floor for stream, floor in self._floors.items() if floor > self.floor}
        self._characters -= len(oldest.data)
        stream = self._by_stream[oldest.stream]
        stream.popleft()
        if not stream:
            del self._by_stream[oldest.stream]
