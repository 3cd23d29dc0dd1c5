"""Draining: before a process ends, it notifies its clients and closes their sockets one after the other.

Otherwise all sockets would close, and all clients reconnect, at the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from declbind.asgi_types import Send
from declbind.conf import settings
from declbind.core import frames
from declbind.core.hub import Hub

from .shutdown import ServerEnd, find_server_end
from .socket import RESTART, RESTARTING, Socket

logger = logging.getLogger("declbind")

#: The seconds to wait for sockets to end after the last of them was closed. Draining waits no longer for clients that
#: do not read.
LAST_SECONDS = 3.0


class DrainableHub(Protocol):
    """The parts of a hub that draining uses."""

    loop: asyncio.AbstractEventLoop
    core: Hub

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""


class Drain:
    """The end of one hub's sockets. Belongs to the event loop of the hub."""

    def __init__(self, hub: DrainableHub) -> None:
        self._hub = hub
        self._hurry = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._server_end: ServerEnd | None = None
        self._run: asyncio.Task[None] | None = None
        #: The tasks that the hub cancels when it stops.
        self.tasks: list[asyncio.Task[None]] = []
        #: Whether the process is ending. If so, new sockets are refused.
        self.is_moving = False

    def watch_server(self, send: Send) -> None:
        """Drain the sockets if a server without signals for its workers announces its end (see ``find_server_end``)."""
        if self._server_end is None and settings.DRAIN_SECONDS > 0:
            self._server_end = find_server_end(send)
            if self._server_end is not None:
                self.tasks.append(self._hub.loop.create_task(self._start_with(self._server_end)))

    async def _start_with(self, end: ServerEnd) -> None:
        await end.wait()
        self.start(min(settings.DRAIN_SECONDS, end.seconds))

    def start(self, seconds: float) -> asyncio.Task[None]:
        """Start to close all sockets, spread evenly over ``seconds``; return the task, which may already be running.

        The task ends when no socket is open, or ``LAST_SECONDS`` after the last one was closed.
        """
        if self._run is None:
            self._run = self._hub.loop.create_task(self._close_all(seconds))
            self.tasks.append(self._run)
        return self._run

    def hurry(self) -> None:
        """Close all remaining sockets at once."""
        self._hurry.set()

    def socket_ended(self) -> None:
        """Record that a socket has ended."""
        if self.is_moving and not self._hub.core.connections:
            self._is_empty.set()

    async def _close_all(self, seconds: float) -> None:
        self.is_moving = True
        loop = asyncio.get_running_loop()
        sockets = self._hub.sockets()
        if not sockets:
            return
        logger.info("The process is ending: %s sockets are closed within %s s.", len(sockets), seconds)
        text = frames.encode_moving()
        for socket in sockets:
            if socket.takes_control_frames:
                socket.push(text)
        begun = loop.time()
        for position, socket in enumerate(sockets):
            await self._wait_until(begun + seconds * position / len(sockets))
            socket.leave(RESTART, RESTARTING)
        # Some sockets may still have been in their handshake.
        for socket in self._hub.sockets():
            socket.leave(RESTART, RESTARTING)
        if self._hub.core.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._is_empty.wait()

    async def _wait_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= when or self._hurry.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self._hurry.wait()
