"""The subscriptions of one process, the fan-out of events to them, and the bounded queues of their connections.

The hub knows connections, their subscriptions and the cursor: the offset of the last event that was dispatched. It has
no clock, no socket and no database. Time is passed as an argument, and frames leave through ``Connection.outbox``. The
owner of the socket sends them when ``Connection.flush`` is called. A hub belongs to one thread, that of the event loop,
so it uses no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import frames


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of the log in the form that readers need; ``object_pk`` and ``data`` are JSON text."""

    offset: int
    id: int
    kind: str
    stream: str
    model: str
    object_pk: str
    changes: tuple[tuple[str, str], ...]
    data: str
    version: int
    created_at: Any = None
    #: The tenant of the event, "" for all tenants.
    tenant: str = ""

    @property
    def is_for_every_group(self) -> bool:
        """Whether the event is for all groups of its stream, because its groups are not known."""
        return bool(self.changes) and self.changes[0][0] == frames.EVERY_GROUP

    def is_for(self, tenant: str) -> bool:
        """Return whether the event is for the subscribers of a tenant."""
        return self.tenant == "" or self.tenant == tenant

    def concerns(self, group: str) -> bool:
        """Return whether subscribers of a group of the event's stream are sent the event."""
        return self.is_for_every_group or any(name == group for name, _ in self.changes)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a queue. A connection that exceeds any of the three is closed."""

    bytes: int = 1_048_576
    frames: int = 1_000
    seconds: float = 10.0


class Outbox:
    """The frames that wait for one connection. If it is full, the reader is too slow and ``push`` returns ``False``."""

    __slots__ = ("limits", "size", "waiting")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        #: Pairs of a text and the time at which it was pushed, oldest first.
        # A list, because an empty deque takes 600 bytes, for each of thousands of idle connections.
        self.waiting: list[tuple[str, float]] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def push(self, text: str, now: float) -> bool:
        """Add a frame, or return ``False`` if that would exceed a limit. The size of a text is in characters."""
        waiting = self.waiting
        size = self.size + len(text)
        if waiting:
            limits = self.limits
            if len(waiting) >= limits.frames or size > limits.bytes or now - waiting[0][1] > limits.seconds:
                return False
        waiting.append((text, now))
        self.size = size
        return True

    def pop(self) -> str:
        """Remove and return the oldest frame.

        Raises:
            IndexError: No frame waits.
        """
        text, _ = self.waiting.pop(0)
        self.size -= len(text)
        return text

    def take(self, frames: int, characters: int) -> tuple[str, ...]:
        """Remove and return the oldest frames within both limits, at least one if any waits."""
        waiting = self.waiting
        texts = [text for text, _ in waiting[:frames]]
        if self.size > characters:
            size = len(texts[0])
            for count, text in enumerate(texts[1:], 1):
                size += len(text)
                if size > characters:
                    del texts[count:]
                    break
        del waiting[: len(texts)]
        self.size -= sum(map(len, texts))
        return tuple(texts)

    def is_filling(self) -> bool:
        """Return whether the queue is more than half full."""
        return 2 * len(self.waiting) > self.limits.frames or 2 * self.size > self.limits.bytes

    def is_stale(self, now: float) -> bool:
        """Return whether the oldest frame has waited longer than allowed."""
        return bool(self.waiting) and now - self.waiting[0][1] > self.limits.seconds

    def clear(self) -> None:
        """Drop the waiting frames."""
        self.waiting.clear()
        self.size = 0


class Joiner:
    """A cache of joined frames. Connections with the same backlog share the joined text."""

    #: The number of cached backlogs. Connections that keep up have the same one. Slow connections rarely share one.
    SIZE = 32

    __slots__ = ("_joined",)

    def __init__(self) -> None:
        self._joined: dict[tuple[str, ...], str] = {}

    def join(self, texts: tuple[str, ...]) -> str:
        """Return one frame for one or more texts."""
        if len(texts) == 1:
            return texts[0]
        joined = self._joined.get(texts)
        if joined is None:
            if len(self._joined) >= self.SIZE:
                self._joined.clear()
            joined = self._joined[texts] = frames.encode_batch(texts)
        return joined


@dataclass(eq=False, slots=True)
class Connection:
    """The hub's view of one socket.

    ``flush`` asks the owner to send waiting frames as far as the reader takes them at once. ``overflow`` reports that
    the reader is too slow.
    """

    outbox: Outbox
    flush: Callable[[], None]
    overflow: Callable[[], None]
    subscriptions: dict[tuple[str, str], Subscription] = field(default_factory=dict)
    info: Any = None
    #: The tenant of the connection; "" on a site without tenants.
    tenant: str = ""

    def queue(self, text: str, now: float) -> bool:
        """Queue a frame that will be flushed later. Return ``False`` if the queue is full.

        A full queue is flushed first, because only a client that does not read counts as slow.
        """
        outbox = self.outbox
        if not outbox.push(text, now):
            self.flush()
            if not outbox.push(text, now):
                self.overflow()
                return False
        return True

    def push(self, text: str, now: float) -> bool:
        """Queue a frame and flush. Return ``False`` if the queue is full."""
        queued = self.queue(text, now)
        self.flush()
        return queued


@dataclass(eq=False, slots=True)
class Subscription:
    """The subscription of one connection to one group of one stream.

    The client knows all events up to ``offset``. While the subscription is not ``live``, the hub sends it no events,
    because it catches up from the log or waits for a snapshot.
    """

    connection: Connection
    stream: str
    group: str
    tagged: bool
    params: Any = None
    offset: int = 0
    live: bool = True
    #: The offset after which the subscription began. Unlike ``offset``, it does not move.
    after: int = field(init=False)
    #: The offset of the last ``resync`` frame that was sent to it.
    resynced_at: int = 0

    def __post_init__(self) -> None:
        self.after = self.offset

    def wants(self, event: LogEvent) -> bool:
        """Return whether the event is new for this subscription."""
        return event.offset > self.offset and event.is_for(self.connection.tenant)


class Variants:
    """The forms of one event's frames, each built at most once.

    ``payload`` returns the payload text for an action, or ``None`` if nothing is to be sent.
    """

    __slots__ = ("_event", "_payload", "_payloads", "_plain")

    def __init__(self, event: LogEvent, payload: Callable[[str], str | None]) -> None:
        self._event = event
        self._payload = payload
        self._payloads: dict[str, str | None] = {}
        self._plain: dict[str, str] = {}

    def payload(self, action: str) -> str | None:
        """Return the payload text for an action; ``None`` if nothing is to be sent."""
        if action not in self._payloads:
            self._payloads[action] = self._payload(action)
        return self._payloads[action]

    def plain(self, action: str) -> str | None:
        """Return the plain frame for an action; ``None`` if Channels 1.x has no such action."""
        if action == frames.RESYNC:
            return None
        if action not in self._plain:
            payload = self.payload(action)
            if payload is None:
                return None
            self._plain[action] = frames.encode_plain(self._event.stream, payload)
        return self._plain[action]

    def tagged(self, group: str, action: str) -> str | None:
        """Return the tagged frame for a group and its action. Each group has one action, so no frame is built twice."""
        payload = self.payload(action)
        if payload is None:
            return None
        return frames.encode_tagged(self._event.stream, group, self._event.offset, payload)


#: The subscriptions to each stream and group.
_Groups = dict[tuple[str, str], dict[Subscription, None]]


class Hub:
    """The fan-out of events to the connections of this process, in the order of the log."""

    def __init__(self) -> None:
        self.cursor = 0
        self.connections: dict[Connection, None] = {}
        #: Connections with newly queued frames, which must be flushed.
        self.waiting: list[Connection] = []
        #: The subscriptions to each stream and group, by tenant. Without tenants there is one, whose name is empty.
        self._by_tenant: dict[str, _Groups] = {}

    def attach(self, connection: Connection) -> None:
        """Add a connection."""
        self.connections[connection] = None

    def detach(self, connection: Connection) -> None:
        """Remove a connection and all its subscriptions."""
        for subscription in list(connection.subscriptions.values()):
            self.unsubscribe(subscription)
        self.connections.pop(connection, None)

    def subscribe(self, subscription: Subscription) -> None:
        """Start the delivery of events to a subscription. It replaces one of the same connection to the same group."""
        key = (subscription.stream, subscription.group)
        earlier = subscription.connection.subscriptions.get(key)
        if earlier is not None:
            self.unsubscribe(earlier)
        subscription.connection.subscriptions[key] = subscription
        groups = self._by_tenant.setdefault(subscription.connection.tenant, {})
        groups.setdefault(key, {})[subscription] = None

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. It is no error if it has ended already."""
        key = (subscription.stream, subscription.group)
        if subscription.connection.subscriptions.get(key) is subscription:
            del subscription.connection.subscriptions[key]
        groups = self._by_tenant.get(subscription.connection.tenant, {})
        members = groups.get(key)
        if members is not None:
            members.pop(subscription, None)
            if not members:
                del groups[key]
                if not groups:
                    del self._by_tenant[subscription.connection.tenant]

    def subscriptions(self, stream: str | None = None) -> Iterator[Subscription]:
        """Return the subscriptions of a stream, or all. The result is safe against changes while iterating."""
        for groups in list(self._by_tenant.values()):
            for (name, _), members in list(groups.items()):
                if stream is None or name == stream:
                    yield from list(members)

    def has_subscribers(self, event: LogEvent) -> bool:
        """Return whether any connection is subscribed to a group of the event."""
        for groups in self._groups_of(event):
            for group, _ in self._changes(event, groups):
                if (event.stream, group) in groups:
                    return True
        return False

    def _groups_of(self, event: LogEvent) -> Sequence[_Groups]:
        """Return the groups of the event's tenant, or those of each tenant."""
        if event.tenant:
            groups = self._by_tenant.get(event.tenant)
            return () if groups is None else (groups,)
        return tuple(self._by_tenant.values())

    @staticmethod
    def _changes(event: LogEvent, groups: _Groups) -> Sequence[tuple[str, str]]:
        if not event.is_for_every_group:
            return event.changes
        return [(group, frames.RESYNC) for stream, group in list(groups) if stream == event.stream]

    def dispatch(self, event: LogEvent, variants: Variants, now: float) -> int:
        """Queue the event's frames for its subscribers and move the cursor. Return the number of queued frames.

        Changes come in the order delete, update, create. A plain connection gets each action once, for any number of
        its groups. A tagged subscription gets its own frame. Nothing is sent yet: see ``take_waiting``.
        """
        count = 0
        for groups in self._groups_of(event):
            count += self._dispatch(event, groups, variants, now)
        self.cursor = max(self.cursor, event.offset)
        return count

    def _dispatch(self, event: LogEvent, groups: _Groups, variants: Variants, now: float) -> int:
        count = 0
        offset = event.offset
        to_flush = self.waiting
        plain_sent: set[tuple[Connection, str]] = set()
        for group, action in self._changes(event, groups):
            members = groups.get((event.stream, group))
            if not members:
                continue
            tagged: tuple[str, float] | None = None
            built = False
            for subscription in list(members):
                # The same as ``wants``, without a call for every frame that leaves the process.
                if not subscription.live or offset <= subscription.offset:
                    continue
                connection = subscription.connection
                if subscription.tagged:
                    if not built:
                        text = variants.tagged(group, action)
                        tagged, built = None if text is None else (text, now), True
                    entry = tagged
                else:
                    if (connection, action) in plain_sent:
                        continue
                    plain_sent.add((connection, action))
                    text = variants.plain(action)
                    entry = None if text is None else (text, now)
                if entry is None:
                    continue
                # The same as ``Connection.queue`` if there is room.
                outbox = connection.outbox
                waiting, limits = outbox.waiting, outbox.limits
                size = outbox.size + len(entry[0])
                if waiting and (
                    len(waiting) >= limits.frames or size > limits.bytes or now - waiting[0][1] > limits.seconds
                ):
                    if not connection.queue(entry[0], now):
                        continue
                else:
                    waiting.append(entry)
                    outbox.size = size
                count += 1
                if len(waiting) == 1:
                    to_flush.append(connection)
        return count

    def take_waiting(self) -> list[Connection]:
        """Remove and return the connections that must be flushed."""
        waiting, self.waiting = self.waiting, []
        return waiting


def frames_for(subscription: Subscription, event: LogEvent, variants: Variants) -> Sequence[str]:
    """Return the frames of one event for a subscription that catches up from the log."""
    if not subscription.wants(event):
        return ()
    texts = (
        variants.tagged(subscription.group, action) if subscription.tagged else variants.plain(action)
        for group, action in event.changes
        if group in (subscription.group, frames.EVERY_GROUP)
    )
    return [text for text in texts if text is not None]
