"""Be N WebSocket clients in one process, as light as can be: raw sockets, and frames counted by their headers.

A client library would need more time for a frame than the server that is measured. So the handshake is written by
hand, compression is not offered, and a frame's text is looked at only when receipts are recorded.

Driven by lines of JSON on standard input, one line of answer each:
- `{"do": "connect", "clients": n, "subscribe": text or null}` opens connections until there are n;
- `{"do": "start", "record": bool, "nap": seconds}` counts from zero; `nap` is slept between two looks at the sockets,
  so that what arrives meanwhile costs one read;
- `{"do": "report"}` tells what came since.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import selectors
import socket
import struct
import sys
import time
from typing import Any

from .progress import Progress

TEXT, CLOSE, PING = 0x1, 0x8, 0x9
MARK = b'"number":'
READ_BYTES = 1 << 18


class Connection:
    """One client after its handshake."""

    __slots__ = ("closed", "frames", "rest", "socket")

    def __init__(self, open_socket: socket.socket) -> None:
        self.socket = open_socket
        self.rest = b""
        self.frames = 0
        self.closed = False


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame; the mask is zero, which leaves the payload as it is."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0x80 | 126, length)
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" + payload


def split_frames(data: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Return (opcode, start, stop) of each whole frame of `data`, unmasked, and where the unfinished rest starts."""
    found = []
    position, end = 0, len(data)
    while end - position >= 2:
        length, start = data[position + 1] & 0x7F, position + 2
        if length == 126:
            if end - position < 4:
                break
            length, start = (data[position + 2] << 8) | data[position + 3], position + 4
        elif length == 127:
            if end - position < 10:
                break
            length, start = int.from_bytes(data[position + 2 : position + 10], "big"), position + 10
        if start + length > end:
            break
        found.append((data[position] & 0x0F, start, start + length))
        position = start + length
    return found, position


class Clients:
    """All connections of this process and what they received since the last start."""

    def __init__(self, port: int, path: str, progress: Progress) -> None:
        self.port, self.path, self.progress = port, path, progress
        self.selector = selectors.DefaultSelector()
        self.connections: list[Connection] = []
        self.start(record=False, nap=0.0)

    def start(self, record: bool, nap: float) -> None:
        self.record, self.nap = record, nap
        self.total = self.bytes = self.closed = 0
        self.last = 0.0
        self.receipts: list[tuple[int, float]] = []
        self.progress.value = 0
        for connection in self.connections:
            connection.frames = 0

    def connect(self, clients: int, subscribe: str | None) -> None:
        while len(self.connections) < clients:
            wave = min(20, clients - len(self.connections))
            self.connections += self._connect_wave(wave, subscribe)

    def _connect_wave(self, count: int, subscribe: str | None) -> list[Connection]:
        wave = [Connection(socket.create_connection(("127.0.0.1", self.port), timeout=60)) for _ in range(count)]
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        for connection in wave:
            connection.socket.sendall(request.encode())
        for connection in wave:
            head = b""
            while b"\r\n\r\n" not in head:
                head += self._read(connection)
            head, connection.rest = head.split(b"\r\n\r\n", 1)
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"expected 101 Switching Protocols, got {head[:200]!r}")
        if subscribe is not None:
            for connection in wave:
                connection.socket.sendall(masked_frame(TEXT, subscribe.encode()))
            for connection in wave:
                self._await_reply(connection)
        for connection in wave:
            connection.socket.setblocking(False)
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        return wave

    @staticmethod
    def _read(connection: Connection) -> bytes:
        data = connection.socket.recv(READ_BYTES)
        if not data:
            raise SystemExit("the server closed a connection during the handshake")
        return data

    def _await_reply(self, connection: Connection) -> None:
        while True:
            frames, position = split_frames(connection.rest)
            if frames:
                _, start, stop = frames[0]
                reply = json.loads(connection.rest[start:stop])
                if reply["payload"].get("ok") is not True:
                    raise SystemExit(f"expected a subscription, got {reply}")
                connection.rest = connection.rest[position:]
                return
            connection.rest += self._read(connection)

    def look(self) -> bool:
        """Wait for something to read and read it; False when the driver is gone."""
        for key, _ in self.selector.select():
            if key.data is None:
                if not obey(self):
                    return False
            else:
                self._receive(key.data)
        if self.nap:
            time.sleep(self.nap)
        return True

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        now = time.monotonic()
        if not data:
            self._drop(connection)
            return
        self.bytes += len(data)
        if connection.rest:
            data = connection.rest + data
        frames, position = split_frames(data)
        count = 0
        for opcode, start, stop in frames:
            if opcode == TEXT:
                count += 1
                if self.record:
                    found = data.index(MARK, start, stop) + len(MARK)
                    self.receipts.append((leading_number(data[found : found + 12]), now))
            elif opcode == PING:
                connection.socket.send(masked_frame(0xA, data[start:stop]))
            elif opcode == CLOSE:
                self._drop(connection)
        connection.rest = data[position:]
        if count:
            connection.frames += count
            self.total += count
            self.last = now
            self.progress.value = self.total

    def _drop(self, connection: Connection) -> None:
        if not connection.closed:
            connection.closed = True
            self.closed += 1
            self.selector.unregister(connection.socket)
            connection.socket.close()

    def report(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "fewest": min((connection.frames for connection in self.connections), default=0),
            "bytes": self.bytes,
            "last": self.last,
            "closed": self.closed,
            "receipts": self.receipts,
        }


def leading_number(text: bytes) -> int:
    """Return the integer that a slice of JSON starts with."""
    text = text.lstrip()
    stop = next((index for index, byte in enumerate(text) if not 48 <= byte <= 57), len(text))
    return int(text[:stop])


def obey(clients: Clients) -> bool:
    """Carry out one command of the driver."""
    line = sys.stdin.buffer.readline()
    if not line:
        return False
    command = json.loads(line)
    answer: dict[str, Any] = {}
    match command.pop("do"):
        case "connect":
            clients.connect(**command)
        case "start":
            clients.start(**command)
        case "report":
            answer = clients.report()
        case other:
            raise SystemExit(f"expected connect, start or report, got {other!r}")
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return True


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, path, progress = sys.argv[1:4]
    clients = Clients(int(port), path, Progress(progress))
    # The driver sends one command and waits for its answer, so nothing stays in the buffer behind the selector's back.
    clients.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
    while clients.look():
        pass


if __name__ == "__main__":
    main()
