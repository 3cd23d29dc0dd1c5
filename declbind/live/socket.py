"""One accepted WebSocket: its identity, its queue, the sending of its frames, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Sequence

from declbind.asgi_types import Send
from declbind.conf import settings
from declbind.core.hub import Connection, Joiner, Limits, Outbox, Subscription
from declbind.inbound.permissions import Identity, session_digest

from .inline import InlineRunner
from .join_rules import JoinRules
from .sending import send_close

logger = logging.getLogger("declbind")

#: The seconds that a close frame waits for a client that does not read. Then the connection is dropped.
CLOSE_SECONDS = 5.0

#: The maximum number of frames, and of characters, that are joined in one. A slow reader receives it only as a whole.
BATCH_FRAMES, BATCH_CHARACTERS = 200, 65_536

#: The maximum waiting frames and characters of a replay or snapshot, and the seconds in which a fast reader takes a
#: frame.
PACED_FRAMES, PACED_CHARACTERS, PACE_SECONDS = 32, 16_384, 0.1

#: The number of ended subscriptions that are kept for a socket.
MAX_PAST = 100

#: Close codes.
SESSION_OVER, FORBIDDEN, TOO_SLOW, FLOODING = 4401, 4403, 4408, 4429
#: WebSocket's own codes (RFC 6455, section 7.4.1, and its registry): a server fault, a server that is ending, and a
#: server that is temporarily unable to serve.
INTERNAL_ERROR, RESTART, TRY_AGAIN_LATER = 1011, 1012, 1013

#: The reasons of RESTART if no operator gave one.
RESTARTING, PROCESS_ENDED = "The server is restarting.", "The process ended."

#: The reason in the close frame when a token has ended.
TOKEN_OVER = "The token has ended."

#: The seconds that ``leave`` waits for requests in progress.
LEAVE_SECONDS = 2.0


#: Makes all sockets share one ``Limits`` object, which saves memory with ten thousand sockets.
_limits = functools.lru_cache(maxsize=8)(Limits)


class Socket:
    """One accepted WebSocket. All methods belong to the event loop. ``connection`` is the hub's view of the socket."""

    __slots__ = (
        "__weakref__", "_context", "_given_up_at", "_is_sending", "_joiner", "_leaving", "_limits", "_progress",
        "_rest", "_runner", "_send", "_sending_since", "_turn", "_under_way", "_window", "checks", "closed",
        "connection", "id", "identity", "idle_since", "is_listed", "join_rules", "past", "requests", "sent",
        "session", "user_key",
    )  # fmt: skip

    def __init__(
        self,
        identity: Identity,
        send: Send,
        joiner: Joiner | None = None,
    ) -> None:
        #: Joins waiting frames, for a client that accepts several frames in one.
        self._joiner = joiner
        self.id = identity.connection_id
        self.identity = identity
        self.user_key = identity.user_pk
        #: The digest of its session in control events. It is computed once, because each such event is compared with
        #: every socket.
        self.session = session_digest(identity.session_key)
        #: The rules for automatic groups; ``None`` until the socket has joined the groups of its handshake.
        self.join_rules: JoinRules | None = None
        #: Whether it is in the table of connections, and its past subscriptions: (stream, group, until, after, reason).
        self.is_listed = False
        self.past: tuple[tuple[str, str, int, int, str], ...] = ()
        #: Counts permission checks. A grant that began before a check may be outdated.
        self.checks = 0
        self._limits = _limits(settings.QUEUE_BYTES, settings.QUEUE_FRAMES, settings.QUEUE_SECONDS)
        self.connection = Connection(
            Outbox(self._limits), flush=self.flush, overflow=self.overflow, info=self, tenant=identity.tenant
        )
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._send = send
        #: The runner that sends frames, and its context. ``None`` before the handshake is over.
        self._runner: InlineRunner | None = None
        self._context: contextvars.Context | None = None
        self._is_sending = False
        self._rest: asyncio.Task[None] | None = None
        self._sending_since: float | None = None
        #: The number of frames that the server has taken.
        self.sent = 0
        self._given_up_at = -1
        #: The number of frames that are being sent now, and how many of a replay or a snapshot may wait at once.
        self._under_way = 0
        self._window = 1
        #: The number of requests that are being carried out, and how the socket is closed when there are none.
        self.requests = 0
        #: The time since which the socket is known to be idle; ``None`` if it is not.
        self.idle_since: float | None = None
        self._leaving: tuple[int, str] | None = None
        self._progress: asyncio.Future[None] | None = None
        self._turn: asyncio.Lock | None = None

    @property
    def subscriptions(self) -> dict[tuple[str, str], Subscription]:
        """Return the subscriptions by stream and group."""
        return self.connection.subscriptions

    @property
    def takes_control_frames(self) -> bool:
        """Return whether the client knows frames that Channels 1.x did not have.

        A client without an explicit subscription may be a Channels 1.x client.
        """
        subscriptions = self.connection.subscriptions
        return self._joiner is not None or not subscriptions or any(each.tagged for each in subscriptions.values())

    def become(self, identity: Identity) -> None:
        """Replace the identity of this connection."""
        self.identity = identity
        self.user_key = identity.user_pk
        self.session = session_digest(identity.session_key)
        # Requests in progress must repeat their check, because this identity may have other permissions.
        self.checks += 1

    def is_over(self) -> bool:
        """Return whether the socket is closed. If its token has ended, close it first."""
        if self.identity.is_over():
            self.close_expired()
        return self.closed.done()

    def close_expired(self) -> None:
        """Close the socket because its token has ended."""
        self.close(SESSION_OVER, TOKEN_OVER)

    def remember(self, subscription: Subscription, until: int, reason: str) -> None:
        """Keep an ended subscription, with the offset until which it received events."""
        ended = (subscription.stream, subscription.group, until, subscription.after, reason)
        self.past = (*self.past, ended)[-MAX_PAST:]

    def open(self, send: Send, runner: InlineRunner) -> None:
        """Start sending after the handshake, beginning with the waiting frames.

        Args:
            send: The ASGI ``send`` that takes frames.
            runner: Runs ``send`` in the context of the caller, which is that of the connection.
        """
        self._send, self._runner = send, runner
        self._context = contextvars.copy_context()
        self.flush()

    def push(self, text: str) -> None:
        """Queue a frame, and send it if the client reads fast enough. If the token has ended, the frame is dropped."""
        if not self.identity.is_over():
            self.connection.push(text, time.monotonic())

    async def push_paced(self, texts: Sequence[str], is_wanted: Callable[[], bool]) -> None:
        """Send the frames of a replay or a snapshot as fast as the client reads them.

        Each portion is as large as the client has lately read at once, so a slow client has ``QUEUE_SECONDS`` for each
        frame. ``is_wanted`` is called before each portion, so nothing more is sent after the subscription has ended.
        """
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            start = 0
            while start < len(texts) and not self.closed.done() and is_wanted():
                stop = self._end_of_portion(texts, start)
                now = time.monotonic()
                for text in texts[start:stop]:
                    self.connection.queue(text, now)
                self.flush()
                start = stop
                last = self.sent + self._under_way + len(self.connection.outbox)
                if self.sent == last:
                    # A fast reader must not keep the event loop busy.
                    await asyncio.sleep(0)
                while self.sent < last and not self.closed.done():
                    self._progress = asyncio.get_running_loop().create_future()
                    await self._progress
                keeps_up = time.monotonic() - now < PACE_SECONDS
                self._window = min(2 * self._window, PACED_FRAMES, self._limits.frames // 2 or 1) if keeps_up else 1

    def _end_of_portion(self, texts: Sequence[str], start: int) -> int:
        stop, size = start + 1, len(texts[start])
        while stop < min(start + self._window, len(texts)) and size + len(texts[stop]) <= PACED_CHARACTERS:
            size += len(texts[stop])
            stop += 1
        return stop

    def is_stuck(self, now: float) -> bool:
        """Return whether a frame has waited, or been half read, for longer than allowed."""
        since = self._sending_since
        return self.connection.outbox.is_stale(now) or (since is not None and now - since > self._limits.seconds)

    def is_idle(self, now: float) -> bool:
        """Return whether the socket has had no subscription and no request for ``IDLE_SECONDS``. Call it regularly."""
        if self.requests or self.connection.subscriptions:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        limit = settings.IDLE_SECONDS
        return limit is not None and self.idle_since is not None and now - self.idle_since >= limit

    def give_up(self) -> None:
        """Record that the client reads nothing."""
        self._given_up_at = self.sent

    def is_given_up(self) -> bool:
        """Return whether the client has read nothing since ``give_up`` was called."""
        return self._given_up_at == self.sent

    def close(self, code: int, reason: str = "") -> None:
        """Close the socket. Queued frames are dropped."""
        if not self.closed.done():
            self.closed.set_result((code, reason))
            self.connection.outbox.clear()
            self._report_progress()

    def leave(self, code: int, reason: str) -> None:
        """Close the socket when its requests are answered and its frames sent, or after ``LEAVE_SECONDS``."""
        if self._leaving is None:
            self._leaving = code, reason
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, self.close, code, reason)
            self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Close a socket that is leaving and has no more requests or frames."""
        if self._leaving is not None and not (self.requests or self._rest or self.connection.outbox.waiting):
            self.close(*self._leaving)

    def flush(self) -> None:
        """Send queued frames, as many as the server takes at once. A task sends the rest."""
        runner, context = self._runner, self._context
        if self._is_sending or runner is None or not self.connection.outbox.waiting or self.closed.done():
            return
        assert context is not None
        self._is_sending = True
        try:
            rest = runner.run(self._send_waiting(), context)
        except (Exception, asyncio.CancelledError) as error:
            self._fail(error)
            return
        if rest is None:
            self._is_sending = False
        else:
            self._sending_since = time.monotonic()
            self._rest = rest
            rest.add_done_callback(self._sent_rest)

    async def _send_waiting(self) -> None:
        outbox, send, joiner = self.connection.outbox, self._send, self._joiner
        waiting = outbox.waiting
        while waiting and not self.closed.done():
            if joiner is None:
                # The same as ``Outbox.pop``, without a call for every frame.
                text, count = waiting.pop(0)[0], 1
                outbox.size -= len(text)
            else:
                texts = outbox.take(BATCH_FRAMES, BATCH_CHARACTERS)
                text, count = joiner.join(texts), len(texts)
            self._under_way = count
            await send({"type": "websocket.send", "text": text})
            self.sent += count
            if self._rest is not None:
                # Only a frame that had to wait shows how fast the client reads.
                self._sending_since = time.monotonic()
            if self._progress is not None:
                self._under_way = 0
                self._report_progress()
        self._under_way = 0
        self._sending_since = None

    def _sent_rest(self, rest: asyncio.Task[None]) -> None:
        if self._rest is None:
            return
        self._rest = None
        error = asyncio.CancelledError() if rest.cancelled() else rest.exception()
        if error is not None:
            self._fail(error)
            return
        self._is_sending = False
        self.flush()
        self.leave_if_idle()

    def _fail(self, error: BaseException) -> None:
        """Close a socket whose server did not accept a frame. In most cases the client has just disconnected."""
        logger.debug("A frame could not be sent: %r", error)
        self.close(INTERNAL_ERROR)

    def _report_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None and not progress.done():
            progress.set_result(None)

    async def stop_sending(self) -> None:
        """Cancel the sending of frames."""
        self._is_sending = True
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.cancel()
            await asyncio.wait({rest})
            if not rest.cancelled():
                # The connection is over, even if the server fails to send its last frame.
                rest.exception()

    async def send_close(self) -> None:
        """Send the close frame. If the client does not read it in time, give up."""
        code, reason = self.closed.result()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await send_close(self._send, code, reason)

    def overflow(self) -> None:
        """Close the socket of a reader that is too slow."""
        self.close(TOO_SLOW, "Too slow: more frames waited, or longer, than allowed.")

    def time_out(self) -> None:
        """Close a socket that nobody uses."""
        self.leave(TOO_SLOW, "Idle: neither a subscription nor a request for IDLE_SECONDS.")
