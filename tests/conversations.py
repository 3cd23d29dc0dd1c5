"""The task of a connection and the `send` of a server, for tests of a socket without a consumer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from declbind.inbound.permissions import Identity
from declbind.live.inline import InlineRunner
from declbind.live.socket import Socket

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody's")


class Server:
    """What a server's ``send`` does with frames: takes them, or waits for room first."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.room.wait()
        self.texts.append(message["text"])


class Conversation:
    """The task of one connection, as a consumer runs it, with its socket open until the end of the block."""

    def __init__(self, send: Callable[[Mapping[str, object]], Awaitable[None]]) -> None:
        self.socket = Socket(Identity(connection_id="one"), send)
        self.runner = InlineRunner()
        self._send = send
        self._opened = asyncio.Event()
        self.task: asyncio.Task[None]

    async def _run(self) -> None:
        NAME.set("the socket's")
        self.socket.open(self._send, self.runner)
        self._opened.set()
        await self.socket.closed

    async def __aenter__(self) -> Conversation:
        self.task = asyncio.create_task(self._run())
        await self._opened.wait()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.socket.stop_sending()
        self.socket.close(1000)
        await asyncio.wait({self.task})
        self.runner.close()
