"""Send frames the short way, and on daphne with what it lacks: a ``send`` that waits while the reader does not read.

Between a consumer and its server lie wrappers that frames need not pass: Channels' session wrapper asks the lazy
session twice for each message, to act on HTTP responses alone. That is a fifth of what a frame costs.

daphne hands each frame to Twisted and goes on, and Twisted buffers without a bound. Its transports tell a registered
producer when to pause and when to resume; the way to the transport leads through the ``partial`` that daphne passes as
``send``. Where these ways end, on another server or under other middleware, nothing is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from channels.sessions import InstanceSessionWrapper

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def without_session(send: Send) -> Send:
    """Return ``send`` without Channels' session wrappers; for frames, not for the handshake."""
    inner: Any = send
    while isinstance(wrapper := getattr(inner, "__self__", None), InstanceSessionWrapper):
        inner = wrapper.real_send
    shortest: Send = inner
    return shortest


class PacedSend:
    """Call ``send`` when the transport has room. A Twisted push producer; belongs to the event loop."""

    def __init__(self, send: Send, transport: Any) -> None:
        self._send, self._transport = send, transport
        self._room = asyncio.Event()
        self._room.set()
        # The HTTP channel, which produced the handshake, is still registered and has nothing more to say.
        transport.unregisterProducer()
        transport.registerProducer(self, True)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Send a message; frames wait for room, the end of the connection does not."""
        if message["type"] == "websocket.send":
            await self._room.wait()
        await self._send(message)

    def release(self) -> None:
        """Let go of the transport, which does not close while somebody may still produce."""
        self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Stop: more than Twisted's buffer size waits."""
        self._room.clear()

    def resumeProducing(self) -> None:
        """Go on."""
        self._room.set()

    def stopProducing(self) -> None:
        """Go on: the connection is lost, and who waits must find out."""
        self._room.set()


def pace(send: Send) -> PacedSend | None:
    """Return a ``send`` that waits for a slow reader, ``None`` where the server's own does or cannot be helped.

    ``send`` is the server's, without wrappers. Call it after the handshake: until then the transport is not ours.
    """
    if not isinstance(send, partial) or not send.args:
        return None
    owner = type(getattr(send.func, "__self__", None))
    transport: Any = getattr(send.args[0], "transport", None)
    if owner.__module__ != "daphne.server" or not hasattr(transport, "registerProducer"):
        return None
    return PacedSend(send, transport)
