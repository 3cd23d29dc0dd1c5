"""Direct access to the server: it bypasses wrappers that frames do not need, and adds features that daphne lacks.

Channels' session wrapper evaluates the lazy session twice for each message, though only HTTP responses need it. This
takes a fifth of the time of a frame.

daphne passes each frame to Twisted without waiting, and Twisted buffers without a limit. Twisted's transports notify a
registered producer when to pause and when to resume. daphne also drops the reason of a close, and refuses WebSocket's
codes for servers (1011 to 1014), because autobahn's ``sendClose`` is meant for applications. The transport and the
protocol are found through the ``partial`` that daphne passes as ``send``. Nothing changes under other servers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Protocol

from channels import sessions

from declbind.asgi_types import Message, Send

#: The maximum bytes of the reason in a close frame.
MAX_REASON = 120

#: The classes that Channels wraps around ``send``; empty in a release without them (see ``outbound.seams``).
SESSION_WRAPPER: Any = getattr(sessions, "InstanceSessionWrapper", ())


def without_session(send: Send) -> Send:
    """Return ``send`` without Channels' session wrappers. For frames, not for the handshake."""
    inner: Any = send
    while isinstance(wrapper := getattr(inner, "__self__", None), SESSION_WRAPPER) and hasattr(wrapper, "real_send"):
        inner = wrapper.real_send
    shortest: Send = inner
    return shortest


class Transport(Protocol):
    """The methods of a Twisted transport that control a producer."""

    def registerProducer(self, producer: PacedSend, streaming: bool) -> None:
        """Register the producer, which is then told when to pause and when to resume."""

    def unregisterProducer(self) -> None:
        """Unregister the producer."""


class PacedSend:
    """A ``send`` that waits until the transport has room. A Twisted push producer; belongs to the event loop."""

    def __init__(self, send: Send, transport: Transport) -> None:
        self.inner, self._transport = send, transport
        self._room = asyncio.Event()
        self._room.set()
        # The HTTP channel is still registered as a producer from the handshake, and has nothing more to send.
        transport.unregisterProducer()
        transport.registerProducer(self, True)

    async def __call__(self, message: Message) -> None:
        """Send a message. A frame waits until the transport has room, and a close does not."""
        if message["type"] == "websocket.send":
            await self._room.wait()
        await self.inner(message)

    def release(self) -> None:
        """Unregister from the transport, which does not close while a producer is registered."""
        self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Pause: more than Twisted's buffer size is waiting."""
        self._room.clear()

    def resumeProducing(self) -> None:
        """Continue sending."""
        self._room.set()

    def stopProducing(self) -> None:
        """Stop waiting, because the connection was lost. Waiting senders then notice the loss."""
        self._room.set()


def pace(send: Send) -> PacedSend | None:
    """Return a ``send`` that waits for a slow reader, or ``None`` if the server's own does this or does not support it.

    Args:
        send: The server's ``send``, without wrappers. The handshake must be finished, because the server uses the
            transport until then.
    """
    transport: Any = getattr(_daphne_protocol(send), "transport", None)
    return PacedSend(send, transport) if hasattr(transport, "registerProducer") else None


async def send_close(send: Send, code: int, reason: str) -> None:
    """Close an accepted WebSocket. Raises the exceptions of ``send``."""
    inner = send.inner if isinstance(send, PacedSend) else without_session(send)
    # RFC 6455, section 5.5: the code and the reason take at most 125 bytes. A server refuses a longer close frame.
    said = reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")
    close_frame = getattr(_daphne_protocol(inner), "sendCloseFrame", None)
    if close_frame is not None:
        close_frame(code=code, reasonUtf8=said.encode())
    else:
        await send({"type": "websocket.close", "code": code, "reason": said})


def find_transport(send: Send) -> object:
    """Return the Twisted transport of a connection, or ``None`` on a server other than daphne."""
    return getattr(_daphne_protocol(without_session(send)), "transport", None)


def _daphne_protocol(send: Send) -> object:
    """Return daphne's protocol object of a connection, or ``None`` on another server."""
    if not isinstance(send, partial) or not send.args:
        return None
    owner = type(getattr(send.func, "__self__", None))
    return send.args[0] if owner.__module__ == "daphne.server" else None
