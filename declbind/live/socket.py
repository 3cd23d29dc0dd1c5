"""Hold one WebSocket: who it is, what waits to be sent, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from declbind.conf import settings
from declbind.core.hub import Connection, Joiner, Limits, Outbox, Subscription
from declbind.inbound.permissions import Identity, session_digest

#: For so long a close frame is tried on a reader that reads nothing; then the connection is dropped.
CLOSE_SECONDS = 5.0

#: What one joined frame holds at most: a reader that is slow must not wait long for the whole of it.
BATCH_FRAMES, BATCH_CHARACTERS = 200, 65_536

#: What of a replay or a snapshot may wait at most, and how soon a reader takes a frame that is not slow.
PACED_FRAMES, PACED_CHARACTERS, PACE_SECONDS = 32, 16_384, 0.1

#: Close codes.
SESSION_OVER, FORBIDDEN, TOO_SLOW, FLOODING = 4401, 4403, 4408, 4429


class Socket:
    """One accepted WebSocket. All methods belong to the event loop; ``connection`` is what the hub sees of it."""

    def __init__(
        self,
        identity: Identity,
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
        joiner: Joiner | None = None,
    ) -> None:
        #: Joins what waits, for a client that takes several frames in one.
        self._joiner = joiner
        self.id = identity.connection_id
        self.identity = identity
        self.user_key = identity.user_pk
        #: What control events call its session; made once, for each of them is compared with every socket.
        self.session = session_digest(identity.session_key)
        #: Counts how often its rights were checked anew: what was granted in between may be void.
        self.checks = 0
        self._limits = Limits(settings.QUEUE_BYTES, settings.QUEUE_FRAMES, settings.QUEUE_SECONDS)
        self.connection = Connection(Outbox(self._limits), wake=self._wake, overflow=self.overflow, info=self)
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        #: How frames leave: the server's own, or what paces it.
        self.send = send
        self._waiting = asyncio.Event()
        self._sending_since: float | None = None
        self._sent = 0
        #: How many frames are being sent just now, and how many of a replay or a snapshot may wait at once.
        self._under_way = 0
        self._window = 1
        self._progress = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def subscriptions(self) -> dict[tuple[str, str], Subscription]:
        """Return the subscriptions by stream and group."""
        return self.connection.subscriptions

    def push(self, text: str) -> None:
        """Queue a frame."""
        self.connection.push(text, time.monotonic())

    async def push_paced(self, text: str) -> None:
        """Queue a frame when the reader keeps up: what comes from the log or a table waits there, not in the queue.

        So many such frames are under way as the reader has lately taken at once, so a slow one has ``QUEUE_SECONDS``
        for each of them.
        """
        async with self._turn:
            if self.closed.done():
                return
            self.push(text)
            last = self._sent + self._under_way + len(self.connection.outbox)
            window = self._window if self.connection.outbox.size < PACED_CHARACTERS else 1
            started = time.monotonic()
            while self._sent <= last - window and not self.closed.done():
                self._progress.clear()
                await self._progress.wait()
            keeps_up = time.monotonic() - started < PACE_SECONDS
            self._window = min(2 * self._window, PACED_FRAMES, self._limits.frames // 2 or 1) if keeps_up else 1

    def is_stuck(self, now: float) -> bool:
        """Tell whether the reader has left a frame waiting, or half read, for longer than allowed."""
        since = self._sending_since
        return self.connection.outbox.is_stale(now) or (since is not None and now - since > self._limits.seconds)

    def close(self, code: int, reason: str = "") -> None:
        """End the socket: nothing that waits is sent any more."""
        if not self.closed.done():
            self.closed.set_result((code, reason))
            self.connection.outbox.clear()
            self._progress.set()

    async def write(self) -> None:
        """Send what is queued, in order, until cancelled."""
        outbox = self.connection.outbox
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while outbox and not self.closed.done():
                self._sending_since = time.monotonic()
                if self._joiner is None:
                    text, count = outbox.pop(), 1
                else:
                    texts = outbox.take(BATCH_FRAMES, BATCH_CHARACTERS)
                    text, count = self._joiner.join(texts), len(texts)
                self._under_way = count
                await self.send({"type": "websocket.send", "text": text})
                self._sending_since = None
                self._under_way = 0
                self._sent += count
                self._progress.set()

    async def send_close(self) -> None:
        """Tell the client that it is over; gives up on one that does not read."""
        code, reason = self.closed.result()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.send({"type": "websocket.close", "code": code, "reason": reason[:120]})

    def overflow(self) -> None:
        """End a reader that is too slow."""
        self.close(TOO_SLOW, "Too slow: more frames waited, or longer, than allowed.")

    def _wake(self) -> None:
        self._waiting.set()
