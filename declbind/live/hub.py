"""The hub of one event loop: its subscriptions, the frames of events, and the effect of edits and lost permissions.

A hub belongs to its loop and ends with it. What it applies, and in which order, is in ``pump``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from declbind import registry as registries
from declbind.conf import settings
from declbind.core import frames
from declbind.core.hub import Hub, Joiner, LogEvent, Subscription, Variants
from declbind.core.recent import Recent
from declbind.outbound import log, relay

from . import changes, nodes, shutdown
from .admission import Admission
from .connection_log import ConnectionLog
from .doorbell import listen
from .draining import Drain
from .edits import Edits
from .expiry import Expiry
from .fair_queue import FairGate
from .flushing import Flusher
from .housekeeping import run_housekeeping, watch_readers
from .inline import InlineRunner
from .joining import rejoin
from .log_reader import LogReader
from .metrics import Metrics
from .pump import Pump
from .rights import judge_sockets
from .session_ends import SessionEnds
from .snapshots import SnapshotDesk
from .socket import SESSION_OVER
from .starting import look_first
from .threads import HubThread, RequestThreads
from .traffic import TrafficLog

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

#: So many events' frames are kept: a crowd that comes back asks for the same ones.
VARIANTS_KEPT = 1_000

_hubs: dict[asyncio.AbstractEventLoop, LiveHub] = {}


async def get_hub() -> LiveHub:
    """Return the hub of the running loop, started at first use."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = LiveHub()
    await hub.ready()
    return hub


def running_hubs() -> list[LiveHub]:
    """Return the hubs of this process, one for each event loop that serves sockets; from any thread."""
    # A hub that never started is not taken out when its loop ends.
    return [hub for loop, hub in list(_hubs.items()) if not loop.is_closed()]


class LiveHub:
    """Join the pure hub to the log, the registry and the clock of one process."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.core = Hub()
        self.flusher = Flusher(self.core)
        self.joiner = Joiner()
        self.inline = InlineRunner()
        self.drain = Drain(self)
        self.edits = Edits(self)
        self.expiry = Expiry()
        self.pump = Pump(self)
        self.recent = Recent()
        self.using = registries.database_alias()
        self.log_reader = LogReader(self.using)
        self.registry = registries.current_registry()
        self.epoch = ""
        #: Counts new registries and new beginnings of the log: whoever works for long compares it before and after.
        self.turns = 0
        self.requests = RequestThreads(settings.DATABASE_THREADS, settings.THREADS_PER_CLIENT)
        self.snapshots = SnapshotDesk(self.requests, settings.SNAPSHOTS_AT_ONCE)
        self.replays = FairGate(settings.REPLAYS_AT_ONCE)
        self.thread = HubThread()
        self.heartbeat = nodes.Heartbeat()
        self.traffic = TrafficLog(self.heartbeat.id)
        self.connection_log = ConnectionLog(self.heartbeat.id)
        self.metrics = Metrics(self.heartbeat.id)
        self.session_ends = SessionEnds()
        self.admission = Admission()
        #: The registry whose changes all subscriptions have been told.
        self._announced = self.registry
        #: Frames of the last events that were built, by offset, and the registry under which.
        self._variants: dict[int, Variants] = {}
        self._variants_of: registries.BindingRegistry | None = None
        self._started: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def ready(self) -> None:
        """Wait until the hub knows where the log ends.

        Raises:
            Exception: What kept it from finding out. The fault has been logged, and the next call tries again.
        """
        self.loop = asyncio.get_running_loop()
        started = self._started
        if started is None or (started.done() and (started.cancelled() or started.exception())):
            # A task of its own: the request that happens to come first may be cancelled while others wait for the hub,
            # which outlives them all and must not carry anybody's context.
            context = contextvars.Context()
            started = self._started = self.loop.create_task(self._start(), context=context)
            # Everybody who waits for it may have left when it fails.
            started.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(started)

    async def _start(self) -> None:
        first, edits = await look_first(self.thread, self.log_reader)
        self.registry = self._announced = first.registry
        self.epoch, self.core.cursor = first.head.epoch, first.head.offset
        self.recent.start(first.head.offset)
        for edit, version, is_over in edits:
            streams = self.edits.note(edit, version)
            if not is_over:
                self.edits.follow(streams)
        loop = self.loop
        relay.add_listener(self, loop, self.pump.wake)
        self._tasks = [
            loop.create_task(work)
            for work in (self._run(), run_housekeeping(self), watch_readers(self), listen(self.pump.wake))
        ]
        shutdown.watch(self.loop, running_hubs)

    async def settle(self) -> None:
        """Wait until the hub has looked at the log once more than it had; for tests and for shutting down."""
        await self.pump.settle()

    async def stop(self) -> None:
        """End the hub's tasks and threads; the loop may go on."""
        tasks = [*self._tasks, *self.drain.tasks, *self.edits.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self.pump.run()
        finally:
            self._close()

    def _close(self) -> None:
        relay.remove_listener(self)
        self.expiry.stop()
        shutdown.unwatch(self.loop)
        self.inline.close()
        for loop in [loop for loop, hub in _hubs.items() if hub is self]:
            del _hubs[loop]
        self.requests.close()
        last_counts = partial(self.metrics.write_minute, self.metrics.take_fresh(), self.using)
        self.thread.close(last_counts, lambda: self.heartbeat.end(self.using))

    def dispatch(self, event: LogEvent) -> int:
        """Queue the frames of one event for its subscribers, and return the number of frames."""
        queued = 0
        self.recent.add(event)
        # In this order: an outdated event may be for groups that have no subscribers any more, while its row is in a
        # group that has some.
        if self.is_in_force(event) and self.core.hears(event):
            queued = self.core.dispatch(event, self.variants(event), time.monotonic())
            if queued:
                self.metrics.count_frames(event, queued)
        self.core.cursor = event.offset
        return queued

    def is_in_force(self, event: LogEvent) -> bool:
        """Return whether an event was made under rules that still hold.

        If it was not, nobody is sent it, and every subscriber of its stream is sent a ``resync``: the groups that the
        row would be in by the present rules are not known.
        """
        if self.edits.is_in_force(event):
            return True
        self.edits.resync_in(event.stream, settings.POLL_SECONDS)
        return False

    def variants(self, event: LogEvent) -> Variants:
        """Return the frames of an event under the configuration in force now: the same for all who catch up on it."""
        registry = registries.current_registry()
        if self._variants_of is not registry or len(self._variants) >= VARIANTS_KEPT:
            self._variants, self._variants_of = {}, registry
        found = self._variants.get(event.offset)
        if found is None:
            found = self._variants[event.offset] = Variants(event, partial(self._payload, event))
        return found

    def _payload(self, event: LogEvent, action: str) -> str | None:
        try:
            # The newest that the process knows, though the pump may not have come to its edit: what was taken out must
            # not be sent any more.
            return changes.payload(registries.current_registry(), event, action)
        except Exception:  # one event that cannot be sent must not hold up all that follow
            logger.exception("Event %s of stream %r cannot be sent.", event.id, event.stream)
            self.edits.resync_in(event.stream, settings.POLL_SECONDS)
            return None

    def forget_recent(self) -> None:
        """Drop the events that are held in memory. Replays read the log, from which values may have been erased."""
        self.recent.start(self.core.cursor)
        self._variants = {}

    def forget_values(self, reached: Mapping[str, int]) -> None:
        """Drop the events of streams up to offsets from memory: their values were taken out of the log."""
        for stream, offset in reached.items():
            self.recent.forget(stream, offset)
        self._variants = {}

    def continue_at(self, head: log.HeadState, reason: str) -> None:
        """Continue at the end of the log, past what cannot be read. Each explicit subscription is sent a ``resync``."""
        reached = self.core.cursor
        self.epoch, self.core.cursor = head.epoch, head.offset
        self.recent.start(head.offset)
        self._variants = {}
        self.turns += 1
        for subscription in self.core.subscriptions():
            self.start_anew(subscription, reached)
            self.resync(subscription, reason)

    async def apply_registry(self, new: registries.BindingRegistry) -> None:
        """Put a registry in force: end what it no longer allows, check what it changed, and join new groups."""
        old = self._announced
        if old is new:
            return
        self.registry = new
        self.turns += 1
        if old.generation != new.generation:
            self.edits.forget()
        changed: set[str] = set()
        for stream in {subscription.stream for subscription in self.core.subscriptions()}:
            before, after = old.by_stream.get(stream), new.by_stream.get(stream)
            if before is not None and after is not None and before.fingerprint() == after.fingerprint():
                continue
            changed.add(stream)
            for subscription in self.core.subscriptions(stream):
                reason = changes.end_of(subscription, new)
                if reason is not None:
                    self.end(subscription, reason)
        if changed:
            await self.revalidate(
                [socket for socket in self.sockets() if any(stream in changed for stream, _ in socket.subscriptions)]
            )
        renewed = {
            stream
            for stream, after in new.by_stream.items()
            if (before := old.by_stream.get(stream)) is not after
            and (before is None or before.fingerprint() != after.fingerprint())
        }
        if renewed:
            await rejoin(self, renewed)
        # Last: if the database fails before this, the pump does all of it again.
        self._announced = new

    async def revalidate(self, sockets: Collection[Socket]) -> None:
        """Check who is still who they were, and every subscription's right to view; end what is over."""
        if not sockets:
            return
        asked = []
        identities = {socket: socket.identity for socket in sockets}
        for socket in sockets:
            socket.checks += 1
            asked.append((socket, [s for s in socket.subscriptions.values() if s.params is not None]))
        verdicts = await self.thread.run(judge_sockets, asked, self.registry)
        # The verdict may be about a token that a newer one has replaced meanwhile.
        await self.revalidate([socket for socket in sockets if socket.identity is not identities[socket]])
        for socket, current, denied in verdicts:
            if socket.identity is not identities[socket]:
                continue
            if not current:
                socket.close(SESSION_OVER, "The session is over.")
                continue
            for subscription in denied:
                self.end(subscription, "permission")

    def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription hear its group, in place of one that the connection had for it."""
        earlier = subscription.connection.subscriptions.get((subscription.stream, subscription.group))
        if earlier is not None:
            self._remember(earlier, "again")
        self.core.subscribe(subscription)
        self.connection_log.changed(subscription.connection.info)

    def unsubscribe(self, subscription: Subscription, reason: str) -> None:
        """End a subscription."""
        self._remember(subscription, reason)
        self.core.unsubscribe(subscription)

    def start_anew(self, subscription: Subscription, reached: int) -> None:
        """Let a subscription that came as far as ``reached`` go on at the cursor, past a gap."""
        subscription.connection.info.remember(subscription, reached, "resync")
        self.connection_log.changed(subscription.connection.info)
        subscription.live, subscription.offset, subscription.after = True, self.core.cursor, self.core.cursor

    def _remember(self, subscription: Subscription, reason: str) -> None:
        socket: Socket = subscription.connection.info
        socket.remember(subscription, self.core.cursor if subscription.live else subscription.offset, reason)
        self.connection_log.changed(socket)

    def end(self, subscription: Subscription, reason: str) -> None:
        """End a subscription, unless it is over already, and tell a client that asked for it."""
        key = (subscription.stream, subscription.group)
        if subscription.connection.subscriptions.get(key) is not subscription:
            return
        self.unsubscribe(subscription, reason)
        if subscription.tagged:
            text = frames.encode_closed(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def resync(self, subscription: Subscription, reason: str) -> None:
        """Send an explicit subscription a ``resync``: what the client holds may be stale."""
        if subscription.tagged:
            subscription.resynced_at = self.core.cursor
            text = frames.encode_resync(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""
        return [connection.info for connection in self.core.connections]

    def note(self, socket: Socket | None, kind: str, **values: Any) -> None:
        """Note traffic of a socket, or of a handshake that did not come to one."""
        stream = values.get("stream", "")
        # A client chooses the name that it asks for; counts are kept of streams that there are.
        self.metrics.count(kind, stream if stream in self.registry.by_stream else "")
        if socket is not None:
            values.update(
                connection=socket.id,
                tenant=socket.identity.tenant,
                user_pk=socket.user_key or "",
                username=socket.identity.username,
            )
        self.traffic.note(kind, **values)


__all__ = ["LiveHub", "get_hub"]
