"""The most recent events of the log, for clients that reconnect after a short time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import attrgetter

from .hub import LogEvent

#: Events are held by stream and tenant.
_Key = tuple[str, str]


class Recent:
    """The newest events by stream, bounded in number and in characters. The oldest are dropped first.

    Events are added in the order of their offsets. Everything after ``floor`` is held. A thousand clients that
    reconnect at once are served from here, not by a thousand reads of the log.
    """

    def __init__(self, events: int = 5_000, characters: int = 8_000_000) -> None:
        self._max_events, self._max_characters = events, characters
        self._order: deque[LogEvent] = deque()
        self._by_stream: dict[_Key, deque[LogEvent]] = {}
        #: By stream, the offset up to which its events were dropped, if that is above ``floor``.
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
        self._by_stream.setdefault((event.stream, event.tenant), deque()).append(event)
        self._characters += len(event.data)
        while len(self._order) > self._max_events or self._characters > self._max_characters:
            self._drop_oldest()

    def since(self, stream: str, offset: int, tenant: str = "") -> list[LogEvent] | None:
        """Return a stream's events for a tenant after an offset, or ``None`` if not all of them are held."""
        if offset < self.floor or offset < self._floors.get(stream, 0):
            return None
        found = self._after((stream, ""), offset)
        if tenant:
            found = sorted([*found, *self._after((stream, tenant), offset)], key=attrgetter("offset"))
        return found

    def _after(self, key: _Key, offset: int) -> list[LogEvent]:
        held = self._by_stream.get(key, ())
        return list(held)[bisect_right(held, offset, key=attrgetter("offset")) :]

    def forget(self, stream: str, offset: int) -> None:
        """Drop a stream's events up to an offset, because their values have expired.

        Takes time proportional to all held events.
        """
        if offset > self.floor:
            self._floors[stream] = max(offset, self._floors.get(stream, 0))
        keys = [key for key in self._by_stream if key[0] == stream]
        if offset <= self.floor or not any(self._by_stream[key][0].offset <= offset for key in keys):
            # No event of it is held, and a request from before the floor is refused anyway.
            return
        self._order = deque(event for event in self._order if event.stream != stream or event.offset > offset)
        for key in keys:
            held = self._by_stream[key]
            while held and held[0].offset <= offset:
                self._characters -= len(held.popleft().data)
            if not held:
                del self._by_stream[key]

    def _drop_oldest(self) -> None:
        oldest = self._order.popleft()
        self.floor = oldest.offset
        if self._floors:
            self._floors = {stream: floor for stream, floor in self._floors.items() if floor > self.floor}
        self._characters -= len(oldest.data)
        key = oldest.stream, oldest.tenant
        stream = self._by_stream[key]
        stream.popleft()
        if not stream:
            del self._by_stream[key]
