"""The baseline of the server: a bare ASGI application that sends one text to all its WebSockets.

It needs neither Django nor a log. A GET says what to send: `/?do=burst&saves=n`, answered as `writer.py` answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from .texts import text_of

Message = Mapping[str, object]
Send = Callable[[Message], Awaitable[None]]
_sends: dict[Send, None] = {}
_sent = 0


async def application(scope: Mapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    if scope["type"] == "http":
        await _answer(dict(parse_qsl(scope["query_string"].decode())), send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    _sends[send] = None
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        del _sends[send]


async def _answer(command: Mapping[str, str], send: Send) -> None:
    global _sent
    started = time.monotonic()
    saves = int(command.get("saves", 0))
    for _ in range(saves):
        _sent += 1
        text = text_of(_sent)
        for send_one in list(_sends):
            await send_one({"type": "websocket.send", "text": text})
        await asyncio.sleep(0)
    body = json.dumps({"saves": saves, "started": started, "ended": time.monotonic()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
