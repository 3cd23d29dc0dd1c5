"""A limit on how much is read from one connection before other connections are served.

An event loop reads up to 256 KiB of a connection at once (Twisted: 64 KiB), and the server parses all of it before it
does anything else. An honest client sends one message in that space. An attacker may send 40 000 fragments of one byte
or 2 500 pings, which take a second to parse, never reach the application, and block all other clients. With smaller
portions, the other clients are served in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .sending import find_transport

#: The bytes that are read from one connection at once. Most client messages are smaller.
READ_BYTES = 4_096


def read_in_portions(receive: object, send: Any) -> bool:
    """Make the server read less of a connection at once; return whether the server supports this.

    uvicorn on asyncio's own loop supports it, and daphne does. uvloop does not. granian reads in its own threads, so a
    flood does not block the event loop. hypercorn does not expose its transport, and middleware that replaces
    ``receive`` and ``send`` hides it.

    Args:
        receive: The ``receive`` of an ASGI connection.
        send: Its ``send``, which may be wrapped by Channels.
    """
    # All protocol implementations of uvicorn pass a method of the protocol.
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    if isinstance(getattr(transport, "max_size", None), int):
        transport.max_size = READ_BYTES
        return True
    transport = find_transport(send)
    if isinstance(getattr(transport, "bufferSize", None), int) and hasattr(transport, "doRead"):
        transport.doRead = _in_portions(transport, transport.doRead)
        return True
    return False


def _in_portions(transport: Any, do_read: Callable[[], Any]) -> Callable[[], Any]:
    def read() -> Any:
        # The same attribute also limits the data that waits to be sent, so it is changed only during the read.
        size, transport.bufferSize = transport.bufferSize, READ_BYTES
        try:
            return do_read()
        finally:
            transport.bufferSize = size

    return read
