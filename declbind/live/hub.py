"""The hub of one event loop: its subscriptions, the frames of events, and the effect of edits and lost permissions.

A hub belongs to its loop and ends with it. The ``pump`` module decides what is applied, and in which order.
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
from declbind.models import Traffic
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
from .permission_checks import check_sockets
from .pump import Pump
from .session_ends import SessionEnds
from .snapshots import SnapshotDesk
from .socket import SESSION_OVER
from .starting import look_first
from .threads import HubThread, RequestThreads
from .traffic import TrafficLog

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

#: The number of events whose frames are cached. Clients that reconnect together need the same ones.
VARIANTS_KEPT = 1_000

_hubs: dict[asyncio.AbstractEventLoop, LiveHub] = {}


async def get_hub() -> LiveHub:
    """Return the hub of the running loop, which is started at first use."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = LiveHub()
    await hub.ready()
    return hub


def running_hubs() -> list[LiveHub]:
    """Return the hubs of this process, one for each event loop with sockets. Any thread may call this."""
    # A hub that never started is not removed when its loop ends.
    return [hub for loop, hub in list(_hubs.items()) if not loop.is_closed()]


class LiveHub:
    """The hub of one event loop, which connects ``declbind.core.hub`` to the log, the registry and the clock."""

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
        #: Counts new registries and new epochs of the log. Long operations compare it before and after to notice a
        #: change.
        self.renewals = 0
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
        #: The registry that has been applied to all subscriptions.
        self._announced = self.registry
        #: Cached frames of the last events, by offset, and the registry with which they were built.
        self._variants: dict[int, Variants] = {}
        self._variants_of: registries.BindingRegistry | None = None
        self._started: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def ready(self) -> None:
        """Wait until the hub knows the end of the log.

        Raises:
            Exception: The fault that prevented it. It has been logged, and the next call tries again.
        """
        self.loop = asyncio.get_running_loop()
        started = self._started
        if started is None or (started.done() and (started.cancelled() or started.exception())):
            # The start is a separate task, because the request that began it may be cancelled while others wait. The
            # hub outlives all requests, so the task must not keep their context.
            context = contextvars.Context()
            started = self._started = self.loop.create_task(self._start(), context=context)
            # Retrieve the exception, because all waiting requests may have ended by then.
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
                self.edits.follow(streams, version)
        loop = self.loop
        relay.add_listener(self, loop, self.pump.wake)
        self._tasks = [
            loop.create_task(work)
            for work in (self._run(), run_housekeeping(self), watch_readers(self), listen(self.pump.wake))
        ]
        shutdown.watch(self.loop, running_hubs)

    async def settle(self) -> None:
        """Wait until the hub has read the log once more. For tests and for shutting down."""
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
        # Check this first, because the present groups of the row may have subscribers even if the event's groups have
        # none.
        if self.is_in_force(event) and self.core.has_subscribers(event):
            queued = self.core.dispatch(event, self.variants(event), time.monotonic())
            if queued:
                self.metrics.count_frames(event, queued)
        self.core.cursor = event.offset
        return queued

    def is_in_force(self, event: LogEvent) -> bool:
        """Return whether an event was made under the present rules.

        If not, it is not sent, and every subscriber of its stream is sent a ``resync``, because the groups of the row
        under the present rules are not known.
        """
        if self.edits.is_in_force(event):
            return True
        self.edits.resync_in(event.stream, settings.POLL_SECONDS)
        return False

    def variants(self, event: LogEvent) -> Variants:
        """Return the frames of an event under the present configuration. They are cached for clients that catch up."""
        registry = registries.current_registry()
        if self._variants_of is not registry or len(self._variants) >= VARIANTS_KEPT:
            self._variants, self._variants_of = {}, registry
        found = self._variants.get(event.offset)
        if found is None:
            found = self._variants[event.offset] = Variants(event, partial(self._payload, event))
        return found

    def _payload(self, event: LogEvent, action: str) -> str | None:
        try:
            # Use the newest registry of the process, even if the pump has not reached its edit yet, so that removed
            # fields are no longer sent.
            return changes.payload(registries.current_registry(), event, action)
        except Exception as error:  # An event that cannot be sent must not block later events.
            logger.exception("Event %s of stream %r cannot be sent.", event.id, event.stream)
            self.note(
                None,
                Traffic.ERROR,
                stream=event.stream,
                tenant=event.tenant,
                object_pk=event.object_pk.strip('"'),
                outcome=type(error).__name__,
                message=f"The event at offset {event.offset} could not be sent: {error}",
            )
            self.edits.resync_in(event.stream, settings.POLL_SECONDS)
            return None

    def forget_recent(self) -> None:
        """Drop the events in memory, because values may have been erased from the log. Replays read the log."""
        self.recent.start(self.core.cursor)
        self._variants = {}

    def forget_values(self, reached: Mapping[str, int]) -> None:
        """Drop events of streams up to these offsets from memory, because their values were removed from the log."""
        for stream, offset in reached.items():
            self.recent.forget(stream, offset)
        self._variants = {}

    def continue_at(self, head: log.HeadState, reason: str) -> None:
        """Continue at the end of the log and skip unreadable events. Explicit subscriptions are sent a ``resync``."""
        reached = self.core.cursor
        self.epoch, self.core.cursor = head.epoch, head.offset
        self.recent.start(head.offset)
        self._variants = {}
        self.renewals += 1
        for subscription in self.core.subscriptions():
            self.start_anew(subscription, reached)
            self.resync(subscription, reason)

    async def apply_registry(self, new: registries.BindingRegistry) -> None:
        """Put a registry in force: end subscriptions that it forbids, check changed ones, and join new groups."""
        old = self._announced
        if old is new:
            return
        self.registry = new
        self.renewals += 1
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
        # This comes last, so that the pump repeats everything if the database fails before.
        self._announced = new

    async def revalidate(self, sockets: Collection[Socket]) -> None:
        """Check the identity of each socket and the view permission of each subscription; end those that fail."""
        if not sockets:
            return
        asked = []
        identities = {socket: socket.identity for socket in sockets}
        for socket in sockets:
            socket.checks += 1
            asked.append((socket, [s for s in socket.subscriptions.values() if s.params is not None]))
        verdicts = await self.thread.run(check_sockets, asked, self.registry)
        # Ignore the result if a newer token has replaced the one that was checked.
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
        """Start the delivery of events to a subscription. It replaces one of the same connection and group."""
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
        """Continue a subscription that has received events only up to ``reached`` at the hub's cursor, past the gap."""
        subscription.connection.info.remember(subscription, reached, "resync")
        self.connection_log.changed(subscription.connection.info)
        subscription.live, subscription.offset, subscription.after = True, self.core.cursor, self.core.cursor

    def _remember(self, subscription: Subscription, reason: str) -> None:
        socket: Socket = subscription.connection.info
        socket.remember(subscription, self.core.cursor if subscription.live else subscription.offset, reason)
        self.connection_log.changed(socket)

    def end(self, subscription: Subscription, reason: str) -> None:
        """End a subscription, unless it has ended already. Notify the client if the subscription is explicit."""
        key = (subscription.stream, subscription.group)
        if subscription.connection.subscriptions.get(key) is not subscription:
            return
        self.unsubscribe(subscription, reason)
        if subscription.tagged:
            text = frames.encode_closed(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def resync(self, subscription: Subscription, reason: str) -> None:
        """Send an explicit subscription a ``resync``, because the data of the client may be stale."""
        if subscription.tagged:
            subscription.resynced_at = self.core.cursor
            text = frames.encode_resync(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""
        return [connection.info for connection in self.core.connections]

    def note(self, socket: Socket | None, kind: str, **values: Any) -> None:
        """Record traffic of a socket, or of a handshake that failed."""
        stream = values.get("stream", "")
        # Clients can send any name, so counts are kept only for existing streams.
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
