"""N lightweight WebSocket clients in one process: raw sockets, and frames counted by a mark in their text.

Each frame of a save contains the mark once, from every contender and also inside a batch, and nothing else contains
it. Frames are therefore counted at the speed of `bytes.count`, so that this program never limits a measurement.

Driven by lines of JSON on standard input, one line of answer each:
- `{"do": "connect", "clients": n, "subscribe": text or null, "subprotocol": name or null}` opens connections until
  there are n, and answers with the subprotocol that the server chose and its last reply;
- `{"do": "start", "record": bool, "nap": seconds}` counts from zero; `nap` is slept between two polls of the sockets,
  so that the data of that time costs one read;
- `{"do": "report"}` answers with the counts since then;
- `echo`, `resume` and `come_back`: see `dialogues.py`.
"""

from __future__ import annotations

import json
import re
import resource
import selectors
import socket
import sys
import time
from typing import Any

from . import dialogues
from .progress import Progress
from .wire import READ_BYTES, TEXT, ask_to_upgrade, masked_frame, read, read_answer, split_frames

MARK = b'"number":'
NUMBER = re.compile(rb'"number":\s*(\d+)\D')
#: The number of concurrent handshakes.
WAVE = 20


class Connection:
    """One client after its handshake."""

    __slots__ = ("closed", "frames", "rest", "socket")

    def __init__(self, open_socket: socket.socket) -> None:
        self.socket = open_socket
        self.rest = b""
        self.frames = 0
        self.closed = False


class Clients:
    """All connections of this process and the frames received since the last start."""

    def __init__(self, port: int, path: str, progress: Progress) -> None:
        self.port, self.path, self.progress = port, path, progress
        self.selector = selectors.DefaultSelector()
        self.connections: list[Connection] = []
        self.start(record=False, nap=0.0)

    def start(self, record: bool, nap: float) -> dict[str, object]:
        self.record, self.nap = record, nap
        self.total = self.bytes = self.closed = 0
        self.last = 0.0
        self.receipts: list[tuple[int, float]] = []
        self.progress.value = 0
        for connection in self.connections:
            connection.frames = 0
        return {}

    def connect(self, clients: int, subscribe: str | None, subprotocol: str | None = None) -> dict[str, Any]:
        answer: dict[str, object] = {}
        while len(self.connections) < clients:
            wave = min(WAVE, clients - len(self.connections))
            answer = self._connect_wave(wave, subscribe, subprotocol)
        return answer

    def _connect_wave(self, count: int, subscribe: str | None, subprotocol: str | None) -> dict[str, object]:
        wave = [Connection(socket.create_connection(("127.0.0.1", self.port), timeout=60)) for _ in range(count)]
        chosen, reply = None, None
        for connection in wave:
            connection.socket.sendall(ask_to_upgrade(self.port, self.path, subprotocol))
        for connection in wave:
            chosen, connection.rest = read_answer(connection.socket)
        if subscribe is not None:
            for connection in wave:
                connection.socket.sendall(masked_frame(TEXT, subscribe.encode()))
            for connection in wave:
                reply = self._await_reply(connection)
        for connection in wave:
            connection.socket.setblocking(False)
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.connections += wave
        return {"subprotocol": chosen, "reply": reply}

    @staticmethod
    def _await_reply(connection: Connection) -> object:
        while True:
            frames, position = split_frames(connection.rest)
            if frames:
                _, start, stop = frames[0]
                reply = json.loads(connection.rest[start:stop])
                if reply["payload"].get("ok") is not True:
                    raise SystemExit(f"expected a subscription, got {reply}")
                connection.rest = connection.rest[position:]
                return reply["payload"]
            connection.rest += read(connection.socket)

    def look(self) -> bool:
        """Wait for data and read it; return False when the driver has ended."""
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
        data = connection.rest + data
        if self.record:
            count, stop = 0, 0
            for match in NUMBER.finditer(data):
                count, stop = count + 1, match.end()
                self.receipts.append((int(match[1]), now))
            connection.rest = data[stop:]
        else:
            count = data.count(MARK)
            # A mark may be split. A whole one does not fit into the kept rest, so none is counted twice.
            connection.rest = data[1 - len(MARK) :]
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

    def echo(self, requests: str, seconds: float) -> dict[str, object]:
        open_sockets = [connection.socket for connection in self.connections if not connection.closed]
        return dialogues.echo(open_sockets, requests, seconds)

    def resume(self, subscribe: str, frames: int) -> dict[str, Any]:
        return dialogues.resume(self.port, self.path, subscribe, frames, MARK)

    def come_back(self, subscribe: str, clients: int, frames: int) -> dict[str, object]:
        return dialogues.come_back(self.port, self.path, subscribe, clients, frames, MARK)


def obey(clients: Clients) -> bool:
    """Carry out one command of the driver."""
    line = sys.stdin.buffer.readline()
    if not line:
        return False
    command = json.loads(line)
    answer = getattr(clients, command.pop("do"))(**command)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return True


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, path, progress = sys.argv[1:4]
    clients = Clients(int(port), path, Progress(progress))
    # The driver sends one command and waits for its answer, so no command stays unread in the buffer.
    clients.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
    while clients.look():
        pass


if __name__ == "__main__":
    main()
