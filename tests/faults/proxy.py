"""A TCP proxy between clients and a server, which can cut them off."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """A proxy to a local port; while it is cut, it refuses connections. Belongs to one event loop."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Disconnect all clients for good."""
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Break all connections, including their traffic in progress, and accept none until `mend()`."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def mend(self) -> None:
        """Accept connections again."""
        self._is_cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers.add(onward_writer)
                try:
                    await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))
                finally:
                    self._writers.discard(onward_writer)
                    onward_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            # One side has ended, so the other is closed too.
            writer.transport.abort()
