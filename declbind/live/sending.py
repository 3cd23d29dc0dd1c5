"""Shortcuts to the server: past wrappers that frames need not pass, and around what daphne lacks.

Channels' session wrapper asks the lazy session twice for each message, to act on HTTP responses alone. That is a fifth
of what a frame costs.

daphne hands each frame to Twisted and goes on, and Twisted buffers without a bound. Its transports tell a registered
producer when to pause and when to resume. daphne also drops the reason of a close, and refuses the codes that WebSocket
has for servers (1011 to 1014): autobahn's ``sendClose`` is meant for applications. The way to the transport and the
protocol leads through the ``partial`` that daphne passes as ``send``. Nothing changes under other servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from channels import sessions

#: Bytes of a close frame's reason.
MAX_REASON = 120

#: What Channels wraps around ``send``; nothing in a release that has no such class (see ``outbound.seams``).
SESSION_WRAPPER: Any = getattr(sessions, "InstanceSessionWrapper", ())

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def without_session(send: Send) -> Send:
    """Return ``send`` without Channels' session wrappers; for frames, not for the handshake."""
    inner: Any = send
    while isinstance(wrapper := getattr(inner, "__self__", None), SESSION_WRAPPER) and hasattr(wrapper, "real_send"):
        inner = wrapper.real_send
    shortest: Send = inner
    return shortest


class PacedSend:
    """Call ``send`` when the transport has room. A Twisted push producer; belongs to the event loop."""

    def __init__(self, send: Send, transport: Any) -> None:
        self.inner, self._transport = send, transport
        self._room = asyncio.Event()
        self._room.set()
        # The HTTP channel, which produced the handshake, is still registered and has nothing more to say.
        transport.unregisterProducer()
        transport.registerProducer(self, True)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Send a message; frames wait for room, the end of the connection does not."""
        if message["type"] == "websocket.send":
            await self._room.wait()
        await self.inner(message)

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
    """Return a ``send`` that waits for a slow reader, or ``None`` if the server's own does or cannot be helped.

    Args:
        send: The server's, without wrappers. The handshake must be over: until then the transport is the server's.
    """
    transport: Any = getattr(_daphne_protocol(send), "transport", None)
    return PacedSend(send, transport) if hasattr(transport, "registerProducer") else None


async def send_close(send: Send, code: int, reason: str) -> None:
    """Close an accepted WebSocket. Raises what ``send`` raises."""
    inner = send.inner if isinstance(send, PacedSend) else without_session(send)
    # RFC 6455, section 5.5: 125 bytes with the code. A server refuses a longer one, and the code with it.
    said = reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")
    close_frame = getattr(_daphne_protocol(inner), "sendCloseFrame", None)
    if close_frame is not None:
        close_frame(code=code, reasonUtf8=said.encode())
    else:
        await send({"type": "websocket.close", "code": code, "reason": said})


def find_transport(send: Send) -> Any:
    """Return the Twisted transport of a connection, or ``None`` on another server than daphne."""
    return getattr(_daphne_protocol(without_session(send)), "transport", None)


def _daphne_protocol(send: Send) -> Any:
    """Return daphne's protocol object of a connection, or ``None`` on another server."""
    if not isinstance(send, partial) or not send.args:
        return None
    owner = type(getattr(send.func, "__self__", None))
    return send.args[0] if owner.__module__ == "daphne.server" else None
