"""The baseline of the machine: one process writes already encoded frames to N raw sockets, in a plain loop.

Server and writer at once, driven by lines of JSON on standard input:
- `{"do": "listen"}` answers with the port;
- `{"do": "burst", "saves": n}` and `{"do": "steady", "per_second": r, "seconds": s}` as in `writer.py`; the moment
  before the first write stands for the commit.
"""

from __future__ import annotations

import json
import resource
import select
import selectors
import socket
import sys
import time

from .texts import text_of
from .wire import READ_BYTES, accept_upgrade, server_frame


class SocketFloor:
    """All sockets of this process."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.sockets: list[socket.socket] = []
        self.number = 0

    def listen(self) -> dict[str, object]:
        return {"port": self.listener.getsockname()[1]}

    def accept(self) -> None:
        """Accept one client and finish its handshake; benchmark clients send their request at once."""
        client, _ = self.listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(READ_BYTES)
        client.sendall(accept_upgrade(request))
        client.setblocking(False)
        self.sockets.append(client)

    def burst(self, saves: int) -> dict[str, object]:
        started = time.monotonic()
        for _ in range(saves):
            self._fan_out()
        return {"saves": saves, "started": started, "ended": time.monotonic()}

    def steady(self, per_second: float, seconds: float) -> dict[str, object]:
        commits: dict[int, float] = {}
        started = time.monotonic()
        for position in range(int(per_second * seconds)):
            time.sleep(max(0.0, started + position / per_second - time.monotonic()))
            commits[self.number + 1] = time.monotonic()
            self._fan_out()
        return {"saves": len(commits), "started": started, "ended": time.monotonic(), "commits": commits}

    def _fan_out(self) -> None:
        self.number += 1
        frame = server_frame(text_of(self.number).encode())
        for client in self.sockets:
            try:
                sent = client.send(frame)
            except BlockingIOError:
                sent = 0
            while sent < len(frame):
                select.select([], [client], [])
                sent += client.send(frame[sent:])


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    floor = SocketFloor()
    floor.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    while True:
        for key, _ in floor.selector.select():
            if key.fileobj is floor.listener:
                floor.accept()
                continue
            line = sys.stdin.buffer.readline()
            if not line:
                return
            command = json.loads(line)
            answer = getattr(floor, command.pop("do"))(**command)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
