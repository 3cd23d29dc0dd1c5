"""Run the hub of one event loop: read the log, hand events out in order, obey what control events say.

One task does all of it, so nothing is ever delivered before a control event with a lower offset has been obeyed. The
log is read on the doorbell and every ``POLL_SECONDS``. A hub belongs to its loop and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from declbind import registry as registries
from declbind.conf import settings
from declbind.core import frames
from declbind.core.hub import Hub, LogEvent, Subscription, Variants
from declbind.inbound import permissions
from declbind.models import Event, Traffic
from declbind.outbound import log, relay

from . import changes, nodes
from .threads import HubThread, RequestThreads
from .traffic import TrafficLog

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

READ_BATCH = 1_000
#: After this many events the sockets get a turn.
DISPATCH_SLICE = 50

_hubs: dict[asyncio.AbstractEventLoop, LiveHub] = {}


async def get_hub() -> LiveHub:
    """Return the hub of the running loop, started at first use."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = LiveHub()
    await hub.ready()
    return hub


@dataclass(frozen=True)
class Tick:
    """What one look at the log brought."""

    head: log.HeadState
    events: list[LogEvent]
    registry: registries.BindingRegistry


class LiveHub:
    """Join the pure hub to the log, the registry and the clock of one process."""

    def __init__(self) -> None:
        self.core = Hub()
        self.using = registries.database_alias()
        self.registry = registries.current_registry()
        self.epoch = ""
        #: Counts control events and configuration changes: whoever checks a right compares it before and after.
        self.turns = 0
        #: Counts how often the hub has read the log to its end.
        self.looks = 0
        #: Events of a stream made under an older version than this are not delivered: they follow other rules.
        self.floors: dict[str, int] = {}
        self.requests = RequestThreads(settings.DATABASE_THREADS)
        self.thread = HubThread()
        self.heartbeat = nodes.Heartbeat()
        self.traffic = TrafficLog(self.heartbeat.id)
        self._wake = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def ready(self) -> None:
        """Wait until the hub knows where the log ends; raises what kept it from finding out."""
        if self._started is None or (self._started.done() and self._started.exception()):
            self._started = asyncio.get_running_loop().create_future()
            try:
                await self._start()
            except BaseException as error:
                self._started.set_exception(error)
                self._started.exception()
                raise
            self._started.set_result(None)
        await asyncio.shield(self._started)

    async def _start(self) -> None:
        first, recent = await self.thread.run(self._first_look)
        self.registry, self.epoch, self.core.cursor = first.registry, first.head.epoch, first.head.offset
        for event in recent:
            self._raise_floors(json.loads(event.data), event.version)
        loop = asyncio.get_running_loop()
        relay.add_listener(self, loop, self._wake.set)
        # Tasks outlive the request that happens to start the hub, and must not carry its context.
        for work in (self._pump(), self._keep_house(), self._listen()):
            self._tasks.append(loop.create_task(work, context=contextvars.Context()))

    def _first_look(self) -> tuple[Tick, list[LogEvent]]:
        registries.check_version(force=True)
        relay.run_once(self.using)
        head = log.load_head(self.using)
        since = timezone.now() - changes.grace()
        recent = Event.objects.using(self.using).filter(kind=Event.CONTROL, created_at__gte=since).order_by("id")
        notes = [
            LogEvent(0, row.id, row.kind, "", "", "", (), row.data, row.version)
            for row in recent
            if json.loads(row.data).get("type") == "config"
        ]
        return Tick(head, [], registries.get_registry()), notes

    async def settle(self) -> None:
        """Wait until the hub has looked at the log once more than it had; for tests and for shutting down."""
        looks = self.looks
        while self.looks < looks + 2:
            self._wake.set()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End the hub's tasks and threads; the loop may go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self) -> None:
        relay.remove_listener(self)
        for loop in [loop for loop, hub in _hubs.items() if hub is self]:
            del _hubs[loop]
        self.requests.close()
        self.thread.close(lambda: self.heartbeat.end(self.using))

    # --- the pump: the one place where events and control events are put into effect ---------------------------------

    async def _pump(self) -> None:
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), settings.POLL_SECONDS)
                self._wake.clear()
                try:
                    while await self._advance():
                        pass
                    self.looks += 1
                except Exception as error:
                    self.heartbeat.last_error = f"{type(error).__name__}: {error}"
                    logger.warning("The hub could not read the log, it tries again: %s", error)
        finally:
            self._close()

    async def _advance(self) -> bool:
        """Look once; return whether there is more to read at once."""
        tick = await self.thread.run(self._look, self.core.cursor, self.epoch)
        if tick.registry is not self.registry:
            await self._apply_registry(tick.registry)
        if tick.head.epoch != self.epoch:
            self._restart(tick.head)
            return False
        for position, event in enumerate(tick.events, 1):
            if event.kind == Event.CONTROL:
                await self._obey(event)
                self.core.cursor = event.offset
            else:
                self.dispatch(event)
            if position % DISPATCH_SLICE == 0:
                await asyncio.sleep(0)
        return len(tick.events) == READ_BATCH

    def _look(self, cursor: int, epoch: str) -> Tick:
        registries.check_version()
        relay.run_once(self.using)
        head = log.load_head(self.using)
        events = log.read(cursor, READ_BATCH, self.using) if head.epoch == epoch and head.offset != cursor else []
        return Tick(head, events, registries.get_registry())

    def _restart(self, head: log.HeadState) -> None:
        """Go on at the end of another history; whoever asked for a stream is told to take a snapshot."""
        self.epoch, self.core.cursor = head.epoch, head.offset
        self.turns += 1
        for subscription in self.core.subscriptions():
            subscription.offset, subscription.skip = head.offset, frozenset()
            self.resync(subscription, "epoch")

    def dispatch(self, event: LogEvent) -> None:
        """Hand one event to whoever hears it."""
        if event.version < self.floors.get(event.stream, 0) or not self.core.hears(event):
            self.core.cursor = event.offset
            return
        self.core.dispatch(event, self.variants(event), time.monotonic())

    def variants(self, event: LogEvent) -> Variants:
        """Return the frames of an event under the configuration in force now."""
        return Variants(event, lambda action: changes.payload(self.registry, event, action))

    # --- control -----------------------------------------------------------------------------------------------------

    async def _obey(self, event: LogEvent) -> None:
        content: dict[str, Any] = json.loads(event.data)
        self.turns += 1
        sockets = self._sockets()
        match content.get("type"):
            case "session":
                for socket in sockets:
                    if permissions.session_digest(socket.identity.session_key) == content["session"]:
                        socket.close(4401, "The session is over.")
            case "kick":
                for socket in sockets:
                    if content.get("connection") == socket.id or (
                        content.get("user") is not None and content["user"] == socket.user_key
                    ):
                        socket.close(4403, content.get("reason") or "Disconnected by an operator.")
            case "users":
                users = content.get("users")
                await self.revalidate([s for s in sockets if users is None or s.user_key in users])
            case "config":
                self._raise_floors(content, event.version)
                registry = await self.thread.run(self._newest_registry)
                await self._apply_registry(registry)
                self._schedule_resync(content)

    def _newest_registry(self) -> registries.BindingRegistry:
        registries.check_version(force=True)
        return registries.get_registry()

    def _raise_floors(self, content: dict[str, Any], version: int) -> None:
        for stream, (old, new) in content.get("changes", {}).items():
            if changes.moves_rows(old, new):
                self.floors[stream] = max(self.floors.get(stream, 0), version)

    def _schedule_resync(self, content: dict[str, Any]) -> None:
        streams = [stream for stream, (old, new) in content["changes"].items() if changes.shows_more(old, new)]
        if not streams:
            return

        def tell() -> None:
            for stream in streams:
                for subscription in self.core.subscriptions(stream):
                    self.resync(subscription, "config")

        asyncio.get_running_loop().call_later(changes.grace().total_seconds(), tell, context=contextvars.Context())

    async def _apply_registry(self, new: registries.BindingRegistry) -> None:
        """Put a registry in force: end what it no longer allows, check again what it changed."""
        old, self.registry = self.registry, new
        if old is new:
            return
        self.turns += 1
        if old.generation != new.generation:
            self.floors.clear()
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
                [socket for socket in self._sockets() if any(stream in changed for stream, _ in socket.subscriptions)]
            )

    async def revalidate(self, sockets: Collection[Socket]) -> None:
        """Check who is still who they were, and every subscription's right to view; end what is over."""
        if not sockets:
            return
        asked = [
            (
                socket,
                socket.identity,
                [(s, s.stream, s.params) for s in socket.subscriptions.values() if s.params is not None],
            )
            for socket in sockets
        ]
        verdicts = await self.thread.run(_judge_all, asked, self.registry)
        for socket, current, denied in verdicts:
            if not current:
                socket.close(4401, "The session is over.")
                continue
            for subscription in denied:
                self.end(subscription, "permission")

    def end(self, subscription: Subscription, reason: str) -> None:
        """End a subscription and tell a client that asked for it."""
        self.core.unsubscribe(subscription)
        if subscription.tagged:
            text = frames.encode_closed(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def resync(self, subscription: Subscription, reason: str) -> None:
        """Tell a client that asked for a stream that what it holds may be stale."""
        if subscription.tagged:
            text = frames.encode_resync(subscription.stream, subscription.group, self.core.cursor, reason)
            subscription.connection.push(text, time.monotonic())

    def _sockets(self) -> list[Socket]:
        return [connection.info for connection in self.core.connections]

    # --- beside the pump ---------------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Heartbeat, traffic, retention, the batched check of all rights, and readers that stopped reading."""
        beat = revalidated = swept = float("-inf")
        revalidated = time.monotonic()
        while True:
            now = time.monotonic()
            for connection in list(self.core.connections):
                if connection.outbox.is_stale(now):
                    connection.overflow()
            try:
                await self.thread.run(self.traffic.write, self.traffic.take(), self.using)
                if now - beat >= settings.HEARTBEAT_SECONDS:
                    await self.thread.run(self.heartbeat.beat, nodes.describe(self.core, self.registry), self.using)
                    beat = now
                if now - swept >= relay.TRIM_SECONDS:
                    await self.thread.run(relay.sweep, self.using)
                    swept = now
                if now - revalidated >= settings.REVALIDATE_SECONDS:
                    await self.revalidate(self._sockets())
                    revalidated = now
            except Exception as error:
                self.heartbeat.last_error = f"{type(error).__name__}: {error}"
                logger.warning("Housekeeping failed, it tries again: %s", error)
            await asyncio.sleep(1.0)

    async def _listen(self) -> None:
        """Hear the doorbell from other processes; whatever happens to the layer costs latency only."""
        if not relay.carries_doorbell():
            return
        while True:
            layer = None
            try:
                layer = relay.make_layer()
                channel = await layer.new_channel()
                joined_at = float("-inf")
                while True:
                    if time.monotonic() - joined_at > 3600:
                        await layer.group_add(relay.DOORBELL_GROUP, channel)
                        joined_at = time.monotonic()
                    await layer.receive(channel)
                    self._wake.set()
            except Exception as error:
                # An idle consumer is cut after 5 s by redis-py 8's default time-out: no fault, a bell to connect anew.
                logger.info("The doorbell is silent, polling goes on: %s", error)
            finally:
                if layer is not None and hasattr(layer, "close_pools"):
                    with contextlib.suppress(Exception):
                        await layer.close_pools()
            await asyncio.sleep(1.0)

    def note(self, socket: Socket, kind: str, **values: Any) -> None:
        """Note traffic of a socket."""
        self.traffic.note(
            kind,
            connection=socket.id,
            user_pk=socket.user_key or "",
            username=socket.identity.username,
            **values,
        )

    def note_refusal(self, socket: Socket, stream: str, action: str, code: str, message: str) -> None:
        """Note a frame that was refused."""
        self.note(socket, Traffic.REFUSED, stream=stream, action=action, outcome=code, message=message)


def _judge_all(
    asked: Iterable[tuple[Socket, permissions.Identity, list[tuple[Subscription, str, Any]]]],
    registry: registries.BindingRegistry,
) -> list[tuple[Socket, bool, list[Subscription]]]:
    verdicts: list[tuple[Socket, bool, list[Subscription]]] = []
    for socket, identity, subscriptions in asked:
        if not permissions.is_current(identity):
            verdicts.append((socket, False, []))
            continue
        user = permissions.load_user(identity)
        denied = []
        for subscription, stream, params in subscriptions:
            binding = registry.by_stream.get(stream)
            if binding is None or not binding(user=user).has_view_permission(user, params):
                denied.append(subscription)
        verdicts.append((socket, True, denied))
    return verdicts


__all__ = ["LiveHub", "get_hub"]
