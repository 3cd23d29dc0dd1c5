"""The subscriptions of one process, the fan-out of events to them, and the bounded queues of their connections.

The hub knows connections, their subscriptions and the cursor: the offset of the last event that was dispatched. It has
no clock, no socket and no database. Time is passed as an argument, and frames leave through ``Connection.outbox``. The
owner of the socket sends them when ``Connection.flush`` is called. A hub belongs to one thread, that of the event loop,
so nothing here locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import frames


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of the log in the form that a reader needs; ``object_pk`` and ``data`` are JSON text."""

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
    #: The tenant whose subscribers it is for, "" for all.
    tenant: str = ""

    @property
    def tells_every_group(self) -> bool:
        """Tell whether the event is for all groups of its stream, as nobody knows for which."""
        return bool(self.changes) and self.changes[0][0] == frames.EVERY_GROUP

    def is_for(self, tenant: str) -> bool:
        """Return whether the event is for the subscribers of a tenant."""
        return self.tenant == "" or self.tenant == tenant

    def concerns(self, group: str) -> bool:
        """Return whether subscribers of a group of the event's stream are sent the event."""
        return self.tells_every_group or any(name == group for name, _ in self.changes)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what may wait for one connection: whichever of the three is passed first ends it."""

    bytes: int = 1_048_576
    frames: int = 1_000
    seconds: float = 10.0


class Outbox:
    """Hold the frames that wait for one connection. Full means the reader is too slow: ``push`` answers False."""

    __slots__ = ("limits", "size", "waiting")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        #: (text, when it was pushed), oldest first.
        # A list: an empty deque takes 600 bytes, for each of thousands of connections that have nothing waiting.
        self.waiting: list[tuple[str, float]] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def push(self, text: str, now: float) -> bool:
        """Add a frame; False, and the frame is not added, when a limit is passed. A text counts by its characters."""
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
        """Take the oldest frame; raises ``IndexError`` when none waits."""
        text, _ = self.waiting.pop(0)
        self.size -= len(text)
        return text

    def take(self, frames: int, characters: int) -> tuple[str, ...]:
        """Take the oldest frames, at least one if any waits, as many as fit both limits."""
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
        """Tell whether more than half of what may wait does."""
        return 2 * len(self.waiting) > self.limits.frames or 2 * self.size > self.limits.bytes

    def is_stale(self, now: float) -> bool:
        """Tell whether the oldest frame has waited longer than allowed."""
        return bool(self.waiting) and now - self.waiting[0][1] > self.limits.seconds

    def clear(self) -> None:
        """Drop what waits."""
        self.waiting.clear()
        self.size = 0


class Joiner:
    """Join the frames that wait for a connection; connections with the same backlog share the joined text."""

    #: Backlogs remembered at once. Connections that keep up have the same one, those that do not have few in common.
    SIZE = 32

    __slots__ = ("_joined",)

    def __init__(self) -> None:
        self._joined: dict[tuple[str, ...], str] = {}

    def join(self, texts: tuple[str, ...]) -> str:
        """Return one frame for one or more."""
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
    """One socket as the hub sees it.

    ``flush`` has its owner send what waits, as far as the reader takes it at once; ``overflow`` tells it that the
    reader is too slow.
    """

    outbox: Outbox
    flush: Callable[[], None]
    overflow: Callable[[], None]
    subscriptions: dict[tuple[str, str], Subscription] = field(default_factory=dict)
    info: Any = None
    #: The tenant whose events it is sent; "" on a site without tenants.
    tenant: str = ""

    def queue(self, text: str, now: float) -> bool:
        """Queue a frame that somebody will flush; False when the queue is full.

        A full one is flushed first: slow is only who does not read.
        """
        outbox = self.outbox
        if not outbox.push(text, now):
            self.flush()
            if not outbox.push(text, now):
                self.overflow()
                return False
        return True

    def push(self, text: str, now: float) -> bool:
        """Queue a frame and flush; False when the queue is full."""
        queued = self.queue(text, now)
        self.flush()
        return queued


@dataclass(eq=False, slots=True)
class Subscription:
    """The subscription of one connection to one group of one stream.

    Events up to ``offset`` are known to the client already. While the subscription is not ``live``, the hub sends it no
    events, because it catches up from the log or waits for a snapshot.
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
        """Tell whether the event is news for this subscription."""
        return event.offset > self.offset and event.is_for(self.connection.tenant)


class Variants:
    """Build each form of one event's frames at most once. ``payload`` gives an action's payload text, or ``None``."""

    __slots__ = ("_event", "_payload", "_payloads", "_plain")

    def __init__(self, event: LogEvent, payload: Callable[[str], str | None]) -> None:
        self._event = event
        self._payload = payload
        self._payloads: dict[str, str | None] = {}
        self._plain: dict[str, str] = {}

    def payload(self, action: str) -> str | None:
        """Return the payload text for an action; ``None`` where nothing is to be sent."""
        if action not in self._payloads:
            self._payloads[action] = self._payload(action)
        return self._payloads[action]

    def plain(self, action: str) -> str | None:
        """Return the plain frame for an action; there is none for what is not of Channels 1.x."""
        if action == frames.RESYNC:
            return None
        if action not in self._plain:
            payload = self.payload(action)
            if payload is None:
                return None
            self._plain[action] = frames.encode_plain(self._event.stream, payload)
        return self._plain[action]

    def tagged(self, group: str, action: str) -> str | None:
        """Return the tagged frame for a group and its action (each group has one action, so none is built twice)."""
        payload = self.payload(action)
        if payload is None:
            return None
        return frames.encode_tagged(self._event.stream, group, self._event.offset, payload)


#: The subscriptions to each stream and group.
_Groups = dict[tuple[str, str], dict[Subscription, None]]


class Hub:
    """Fan events out to the connections of this process, in the order of the log."""

    def __init__(self) -> None:
        self.cursor = 0
        self.connections: dict[Connection, None] = {}
        #: Connections for which frames were queued since this was last taken; each has to be flushed.
        self.waiting: list[Connection] = []
        #: The subscriptions to each stream and group, by tenant. Without tenants there is one, whose name is empty.
        self._by_tenant: dict[str, _Groups] = {}

    def attach(self, connection: Connection) -> None:
        """Take a connection in."""
        self.connections[connection] = None

    def detach(self, connection: Connection) -> None:
        """Forget a connection and all it subscribed to."""
        for subscription in list(connection.subscriptions.values()):
            self.unsubscribe(subscription)
        self.connections.pop(connection, None)

    def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription hear its group; one that the connection had for the same group is replaced."""
        key = (subscription.stream, subscription.group)
        earlier = subscription.connection.subscriptions.get(key)
        if earlier is not None:
            self.unsubscribe(earlier)
        subscription.connection.subscriptions[key] = subscription
        groups = self._by_tenant.setdefault(subscription.connection.tenant, {})
        groups.setdefault(key, {})[subscription] = None

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; ending it twice is harmless."""
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
        """Return the subscriptions of a stream, or all; safe against changes while iterating."""
        for groups in list(self._by_tenant.values()):
            for (name, _), members in list(groups.items()):
                if stream is None or name == stream:
                    yield from list(members)

    def hears(self, event: LogEvent) -> bool:
        """Tell whether anybody here is in a group of the event."""
        return any(
            (event.stream, group) in groups
            for groups in self._groups_of(event)
            for group, _ in self._changes(event, groups)
        )

    def _groups_of(self, event: LogEvent) -> Sequence[_Groups]:
        """Return the groups of the tenant that an event is for, or those of each tenant."""
        if event.tenant:
            groups = self._by_tenant.get(event.tenant)
            return () if groups is None else (groups,)
        return tuple(self._by_tenant.values())

    @staticmethod
    def _changes(event: LogEvent, groups: _Groups) -> Sequence[tuple[str, str]]:
        if not event.tells_every_group:
            return event.changes
        return [(group, frames.RESYNC) for stream, group in list(groups) if stream == event.stream]

    def dispatch(self, event: LogEvent, variants: Variants, now: float) -> int:
        """Queue the event's frames for all who hear it and move the cursor; return how many frames were queued.

        Changes come in the order delete, update, create. A plain connection gets each action once, whatever the number
        of its groups; a tagged subscription gets a frame of its own. Nothing is sent: see ``waiting``.
        """
        count = sum(self._dispatch(event, groups, variants, now) for groups in self._groups_of(event))
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
                # What ``wants`` says, without the call: this is done once for every frame that leaves the process.
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
                # And what ``Connection.queue`` does, where there is room.
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
        """Take the connections that have to be flushed."""
        waiting, self.waiting = self.waiting, []
        return waiting


def frames_for(subscription: Subscription, event: LogEvent, variants: Variants) -> Sequence[str]:
    """Return the frames of one event for one subscription that catches up from the log."""
    if not subscription.wants(event):
        return ()
    texts = (
        variants.tagged(subscription.group, action) if subscription.tagged else variants.plain(action)
        for group, action in event.changes
        if group in (subscription.group, frames.EVERY_GROUP)
    )
    return [text for text in texts if text is not None]
