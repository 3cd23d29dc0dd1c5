"""Hold one WebSocket: who it is, what waits to be sent, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from declbind.conf import settings
from declbind.core.hub import Connection, Limits, Outbox, Subscription
from declbind.inbound.permissions import Identity

#: For so long a close frame is tried on a reader that reads nothing; then the connection is dropped.
CLOSE_SECONDS = 5.0

TOO_SLOW = 4408


class Socket:
    """One accepted WebSocket. All methods belong to the event loop; ``connection`` is what the hub sees of it."""

    def __init__(self, identity: Identity, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self.id = identity.connection_id
        self.identity = identity
        self.user_key = None if identity.user_pk is None else str(identity.user_pk)
        limits = Limits(settings.QUEUE_BYTES, settings.QUEUE_FRAMES, settings.QUEUE_SECONDS)
        self.connection = Connection(Outbox(limits), wake=self._wake, overflow=self._overflow, info=self)
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._send = send
        self._waiting = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def subscriptions(self) -> dict[tuple[str, str], Subscription]:
        """Return the subscriptions by stream and group."""
        return self.connection.subscriptions

    def push(self, text: str) -> None:
        """Queue a frame."""
        self.connection.push(text, time.monotonic())

    async def push_paced(self, text: str) -> None:
        """Queue a frame when the reader keeps up: what comes from the log or a table waits there, not in the queue."""
        limits = (settings.QUEUE_FRAMES // 2, settings.QUEUE_BYTES // 2)
        while not self.closed.done() and (
            len(self.connection.outbox) >= limits[0] or self.connection.outbox.size >= limits[1]
        ):
            self._room.clear()
            await self._room.wait()
        if not self.closed.done():
            self.push(text)

    def close(self, code: int, reason: str = "") -> None:
        """End the socket: nothing that waits is sent any more."""
        if not self.closed.done():
            self.closed.set_result((code, reason))
            self.connection.outbox.clear()
            self._room.set()

    async def write(self) -> None:
        """Send what is queued, in order, until cancelled."""
        outbox = self.connection.outbox
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while outbox and not self.closed.done():
                await self._send({"type": "websocket.send", "text": outbox.pop()})
                self._room.set()

    async def send_close(self) -> None:
        """Tell the client that it is over; gives up on one that does not read."""
        code, reason = self.closed.result()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(
                self._send({"type": "websocket.close", "code": code, "reason": reason[:120]}), CLOSE_SECONDS
            )

    def _wake(self) -> None:
        self._waiting.set()

    def _overflow(self) -> None:
        self.close(TOO_SLOW, "Too slow: frames waited longer than allowed.")
