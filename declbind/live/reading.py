"""How much is read from one connection before the others have their turn.

An event loop reads up to 256 KiB of a connection at once (Twisted: 64 KiB), and the server takes all of it apart before
anything else happens. That is one message of an honest client. It is also 40 000 fragments of one byte or 2 500 pings,
which take a second, and no application sees them: a client that sends nothing else holds up all others. Less is read at
once here, so a flood takes no more than its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .sending import find_transport

#: Bytes that are read of one connection at once. Most messages of clients are smaller.
READ_BYTES = 4_096


def read_in_portions(receive: Any, send: Any) -> bool:
    """Let the server read less of a connection at once, and return whether it can be told to.

    uvicorn on asyncio's own loop can, and daphne. uvloop reads as it likes. granian reads in threads of its own, so a
    flood takes nothing of the event loop. hypercorn does not show its transport, and middleware that replaces
    ``receive`` and ``send`` hides it.

    Args:
        receive: The ``receive`` of an ASGI connection.
        send: Its ``send``, which may be wrapped by Channels.
    """
    # uvicorn passes a method of its protocol, whichever of its implementations that is.
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
        # The size is also that of what may wait to be sent, so it is another one only while this reads.
        size, transport.bufferSize = transport.bufferSize, READ_BYTES
        try:
            return do_read()
        finally:
            transport.bufferSize = size

    return read
