"""The pump of a hub, which reads the log and applies events and control events in order.

A single task does this, so no event is delivered before the control events with lower offsets have been applied. The
log is read when the doorbell rings and every ``POLL_SECONDS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from declbind.conf import settings
from declbind.core.hub import Hub, LogEvent
from declbind.models import Event
from declbind.outbound import log
from declbind.registry import BindingRegistry

from .edits import Edits
from .expiry import Expiry
from .flushing import Flusher
from .log_reader import READ_BATCH, LogReader
from .nodes import Heartbeat
from .permission_checks import find_logged_out
from .socket import FORBIDDEN, RESTART, SESSION_OVER, Socket
from .threads import HubThread

logger = logging.getLogger("declbind")

#: Queued frames are sent after this many events, or after this many frames for all connections together.
SLICE_EVENTS, SLICE_FRAMES = 50, 20_000


class PumpedHub(Protocol):
    """The parts of a hub that its pump uses."""

    core: Hub
    epoch: str
    edits: Edits
    expiry: Expiry
    flusher: Flusher
    heartbeat: Heartbeat
    log_reader: LogReader
    thread: HubThread

    def dispatch(self, event: LogEvent) -> int:
        """Queue the frames of an event, and return their number."""

    async def apply_registry(self, new: BindingRegistry) -> None:
        """Put a registry in force for the open subscriptions."""

    async def revalidate(self, sockets: Collection[Socket]) -> None:
        """Check the permissions of sockets, and end connections and subscriptions that are no longer allowed."""

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""

    def forget_recent(self) -> None:
        """Forget the events in memory, because values in them were erased."""

    def forget_values(self, reached: Mapping[str, int]) -> None:
        """Forget events of streams up to these offsets, because their values were removed from the log."""

    def continue_at(self, head: log.HeadState, reason: str) -> None:
        """Continue at the end of the log, and send all subscribers a ``resync``."""


class Pump:
    """The pump of one hub. Belongs to its event loop."""

    def __init__(self, hub: PumpedHub) -> None:
        self._hub = hub
        self._bell = asyncio.Event()
        #: The number of times that the log was read to its end.
        self.readings = 0

    def wake(self) -> None:
        """Read the log now. Must be called in the hub's event loop."""
        self._bell.set()

    async def settle(self) -> None:
        """Wait until the log has been read to its end at least once more."""
        readings = self.readings
        while self.readings < readings + 2:
            self.wake()
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Read the log until cancelled. A failure is logged, and the read is retried."""
        while True:
            # wait_for() is not used: before Python 3.12 it loses a cancellation that arrives together with the
            # doorbell, and never ends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.POLL_SECONDS):
                    await self._bell.wait()
            self._bell.clear()
            try:
                while await self._advance():
                    pass
                self.readings += 1
                self._hub.heartbeat.forget_fault("log")
            except Exception as error:
                self._hub.heartbeat.note_fault("log", error)
                logger.warning("The hub could not read the log and retries: %s", error)

    async def _advance(self) -> bool:
        """Read the log once; return whether there is more to read at once."""
        hub = self._hub
        cursor = hub.core.cursor
        tick = await hub.thread.run(hub.log_reader.look, cursor)
        if tick.blocked is None:
            hub.heartbeat.forget_fault("numbering")
        else:
            hub.heartbeat.note_fault("numbering", tick.blocked)
        # This runs after the log was read, so no event that was committed after a token ended is sent to its socket.
        hub.expiry.enforce()
        await hub.apply_registry(tick.registry)
        if tick.head.epoch == hub.epoch and (tick.head.offset < cursor or not tick.is_whole(cursor)):
            # A backup was restored, or the log was emptied, so events are missing or their offsets will be given to
            # other events. The new epoch prevents a client from resuming from an offset of the lost history.
            head = await hub.thread.run(hub.log_reader.renew_epoch, hub.epoch)
            await self._start_over(head, "epoch")
            return False
        if tick.head.epoch != hub.epoch:
            await self._start_over(tick.head, "epoch")
            return False
        if tick.head.min_offset - 1 > cursor:
            await self._start_over(tick.head, "expired")
            return False
        try:
            await self._hand_out(tick.events)
        finally:
            await hub.flusher.flush()
        return len(tick.events) == READ_BATCH

    async def _hand_out(self, events: list[LogEvent]) -> None:
        hub, queued = self._hub, 0
        for position, event in enumerate(events, 1):
            if event.kind == Event.CONTROL:
                await hub.flusher.flush()
                await self._obey(event)
                hub.core.cursor = event.offset
            else:
                queued += hub.dispatch(event)
            if queued >= SLICE_FRAMES or position % SLICE_EVENTS == 0:
                queued = 0
                await hub.flusher.flush()

    async def _start_over(self, head: log.HeadState, reason: str) -> None:
        """Continue at the end of a log that has a new epoch, or that was trimmed before it was read.

        The lost events may include control events, so everything is checked.
        """
        hub = self._hub
        await hub.apply_registry(await hub.thread.run(hub.log_reader.newest_registry))
        # Any stream may have been edited, and versions from another epoch cannot be compared.
        hub.edits.outdate_all()
        await hub.revalidate(hub.sockets())
        hub.continue_at(head, reason)

    async def _obey(self, event: LogEvent) -> None:
        hub = self._hub
        sockets = [socket for socket in hub.sockets() if event.is_for(socket.identity.tenant)]
        match json.loads(event.data):
            case {"type": "session", "session": digest, **rest}:
                for socket in sockets:
                    # A logout may name no session, and a socket may have none. Two empty values must not match.
                    if digest and socket.session == digest:
                        socket.close(SESSION_OVER, "The session is over.")
                user = rest.get("user")
                others = [s for s in sockets if s.session not in ("", digest) and s.user_key == user is not None]
                for socket in await hub.thread.run(find_logged_out, others) if others else ():
                    socket.close(SESSION_OVER, "The session is over.")
            case {"type": "kick", "connection": connection, "user": user, **rest}:
                for socket in sockets:
                    if socket.id == connection or (user is not None and socket.user_key == user):
                        # A client waits after FORBIDDEN, and connects again after RESTART.
                        code = FORBIDDEN if rest.get("blocked") else RESTART
                        socket.close(code, str(rest.get("reason") or "Disconnected by an operator."))
            case {"type": "users", "users": list(users)}:
                await hub.revalidate([socket for socket in sockets if socket.user_key in users])
            case {"type": "config"} as content:
                streams = hub.edits.note(content, event.version)
                await hub.apply_registry(await hub.thread.run(hub.log_reader.newest_registry))
                hub.edits.follow(streams, event.version)
            case {"type": "written", "streams": list(streams)}:
                for stream in streams:
                    hub.edits.resync(stream)
            case {"type": "expired", "streams": dict(streams)}:
                hub.forget_values(streams)
            case {"type": "forgotten"}:
                hub.forget_recent()
            case _:
                # This concerns all users, or it is a control event of a newer release that this release does not know.
                await hub.revalidate(sockets)
