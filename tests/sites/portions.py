"""An ASGI application that reports whether the server reads in portions: 1, 0, and then each message's length."""

from __future__ import annotations

from typing import Any

from declbind.live.reading import read_in_portions


async def application(scope: object, receive: Any, send: Any) -> None:
    """Accept, send the report, and echo lengths."""
    await receive()
    is_limited = read_in_portions(receive, send)
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(int(is_limited))})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message["text"]))})
