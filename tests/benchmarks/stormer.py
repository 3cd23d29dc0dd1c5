"""A client that sends as many requests as it may: several sockets of one address, each at its rate limit.

`python -m tests.benchmarks.stormer PORT PATH`, driven by lines of JSON on standard input, one line of answer each:
- `{"do": "connect", "clients": n, "address": a}` opens sockets from an address of this machine, and subscribes them;
- `{"do": "storm", "seconds": s, "per_second": r, "since": object}` lets each socket send r requests a second:
  snapshots, replays from `since`, updates, and ends of subscriptions. What comes is read and forgotten.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Any

from .wire import READ_BYTES, TEXT, ask_to_upgrade, masked_frame, read_answer


def requests(since: object) -> list[bytes]:
    """Return the requests that each socket sends in turn."""
    payloads: list[dict[str, object]] = [
        {"action": "subscribe", "params": {}, "snapshot": True},
        {"action": "subscribe", "params": {}, "since": since},
        {"action": "update", "pk": 20, "data": {"value": 1.5}},
        {"action": "subscribe", "params": {}, "since": since, "ref": 1},
        {"action": "unsubscribe", "params": {}},
    ]
    return [masked_frame(TEXT, json.dumps({"stream": "price", "payload": each}).encode()) for each in payloads]


class Storm:
    """The sockets of the client."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.sockets: list[socket.socket] = []

    def connect(self, clients: int, address: str) -> dict[str, Any]:
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", self.port), 60, (address, 0))
            client.sendall(ask_to_upgrade(self.port, self.path))
            read_answer(client)
            client.setblocking(False)
            self.sockets.append(client)
        return {}

    def storm(self, seconds: float, per_second: float, since: object) -> dict[str, object]:
        texts = requests(since)
        started = time.monotonic()
        received, turn = 0, 0
        with selectors.DefaultSelector() as selector:
            for client in self.sockets:
                selector.register(client, selectors.EVENT_READ)
            while (now := time.monotonic()) < started + seconds:
                while turn < (now - started) * per_second:
                    for number, client in enumerate(self.sockets):
                        client.send(texts[(turn + number) % len(texts)])
                    turn += 1
                for key, _ in selector.select(0.002):
                    received += len(key.fileobj.recv(READ_BYTES))  # type: ignore[union-attr]
        return {"sent": turn * len(self.sockets), "bytes": received}


def main() -> None:
    storm = Storm(int(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(storm, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
