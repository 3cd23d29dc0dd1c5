"""A flood on one connection is read in portions, so that other connections are read in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.sync.client import connect

from declbind.live.reading import READ_BYTES, read_in_portions
from tests.servers import DjangoServer

FLOOD = b"x" * 200_000


class Protocol(asyncio.Protocol):
    """A stand-in for uvicorn's protocol: it has the transport, and passes its own method as ``receive``."""

    def __init__(self, is_limited: bool, order: list[tuple[str, int]], done: asyncio.Event) -> None:
        self.is_limited, self.order, self.done = is_limited, order, done

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.is_limited:
            assert read_in_portions(self.receive, None)
        # Nothing is read until both have sent.
        transport.pause_reading()

    async def receive(self) -> None:
        """Do nothing: only the owner of this method matters."""

    def data_received(self, data: bytes) -> None:
        self.order.append((data[:1].decode(), len(data)))
        if data[:1] == b"y":
            self.done.set()


async def serve_flood(is_limited: bool) -> list[tuple[str, int]]:
    """Let one client send 200 000 bytes and another one a byte, and return what is read, in order."""
    order: list[tuple[str, int]] = []
    done, both = asyncio.Event(), asyncio.Event()
    protocols: list[Protocol] = []

    def make() -> Protocol:
        protocols.append(Protocol(is_limited, order, done))
        if len(protocols) == 2:
            # Called for the second connection just before it is made, so both are there a moment later.
            loop.call_soon(both.set)
        return protocols[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    async with asyncio.timeout(20):
        _, flooder = await asyncio.open_connection(*address)
        _, other = await asyncio.open_connection(*address)
        await both.wait()
        flooder.write(FLOOD)
        other.write(b"y")
        for protocol in protocols:
            protocol.transport.resume_reading()
        await done.wait()
        for writer in (flooder, other):
            writer.transport.abort()
        for protocol in protocols:
            protocol.transport.abort()
        server.close()
        await server.wait_closed()
        # The transports close their sockets in the next step of the loop.
        await asyncio.sleep(0)
    return order


async def test_a_flood_is_read_in_portions():
    """No read takes more than a portion, and the byte of the other client is read between two portions."""
    order = await serve_flood(True)
    assert max(size for _, size in order) <= READ_BYTES
    assert ("y", 1) in order


async def test_a_flood_that_is_read_at_once_is_detected():
    """Negative control: the event loop itself reads as much as there is."""
    assert max(size for _, size in await serve_flood(False)) > READ_BYTES


class TwistedTransport:
    """A stand-in for a transport of Twisted, which reads as much as its buffer size says."""

    bufferSize = 65_536

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def doRead(self) -> str:
        self.sizes.append(self.bufferSize)
        return "read"


def test_the_buffer_of_twisted_is_small_only_while_it_reads(monkeypatch):
    """The same number limits the data that waits to be sent."""
    transport = TwistedTransport()
    monkeypatch.setattr("declbind.live.reading.find_transport", lambda send: transport)
    assert read_in_portions(None, None)
    assert transport.doRead() == "read"
    assert (transport.sizes, transport.bufferSize) == ([READ_BYTES], 65_536)


@pytest.mark.parametrize(
    ("program", "arguments", "is_limited"),
    [
        ("uvicorn", ["--loop", "asyncio", "--ws", "websockets"], True),
        ("uvicorn", ["--loop", "asyncio", "--ws", "websockets-sansio"], True),
        ("uvicorn", ["--loop", "asyncio", "--ws", "wsproto"], True),
        ("uvicorn", ["--loop", "uvloop", "--ws", "websockets-sansio"], False),
        ("daphne", [], True),
    ],
)
def test_the_portion_can_be_set_on_real_servers(program, arguments, is_limited):
    """These are the documented servers. Messages that are larger than a portion arrive whole."""
    with (
        DjangoServer("tests.sites.portions:application", program=program, arguments=arguments) as server,
        connect(server.websocket_url) as connection,
    ):
        assert connection.recv(10) == str(int(is_limited))
        for size in (0, 1, READ_BYTES, 65_536):
            connection.send("x" * size)
            assert connection.recv(10) == str(size)
