"""Exchanges of clients with the server: an update and its frame, a resume after an absence."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from .wire import TEXT, ask_to_upgrade, masked_frame, read, read_answer, split_frames

#: If a client has received no frame of its own update after this time, the frame is lost.
PATIENCE_SECONDS = 5.0
#: The rows that the writer has made; clients share them.
ROWS = 20
NUMBER = re.compile(rb'"number":\s*(\d+)')
#: The range of numbers of one client, which identify its own frames.
STRIDE = 1_000_000
#: The number of updates that each client of this process has sent, because no number may be used twice.
_spoken: dict[int, int] = defaultdict(int)


class Speaker:
    """One client that updates a row, waits for the frame of that update, and repeats this."""

    def __init__(self, index: int, open_socket: socket.socket, request: str) -> None:
        self.index, self.socket, self.request = index, open_socket, request
        self.number = 0
        self.sent = 0
        self.rest = b""
        self.times: list[float] = []
        self.sent_at = 0.0

    def speak(self) -> None:
        self.sent += 1
        _spoken[self.index] += 1
        self.number = (self.index + 1) * STRIDE + _spoken[self.index]
        text = self.request.replace("PK", str(1 + self.index % ROWS)).replace("NUMBER", str(self.number))
        self.sent_at = time.monotonic()
        self.socket.send(masked_frame(TEXT, text.encode()))

    def reads_its_own_update(self) -> bool:
        """Read what has arrived; return whether the frame of the last update is among it (a reply is not)."""
        self.rest += read(self.socket)
        frames, position = split_frames(self.rest)
        texts = [self.rest[start:stop] for opcode, start, stop in frames if opcode == TEXT]
        self.rest = self.rest[position:]
        return any(
            (match := NUMBER.search(text)) is not None and int(match[1]) == self.number
            for text in texts
            if text.startswith(b'{"stream"')
        )


def echo(open_sockets: Sequence[socket.socket], request: str, seconds: float) -> dict[str, object]:
    """Make all clients update, each after it has received its own frame; ends when none is waiting any more."""
    speakers = [Speaker(index, client, request) for index, client in enumerate(open_sockets)]
    waiting: set[Speaker] = set(speakers)
    with selectors.DefaultSelector() as selector:
        for speaker in speakers:
            selector.register(speaker.socket, selectors.EVENT_READ, speaker)
        started = time.monotonic()
        ended = started
        for speaker in speakers:
            speaker.speak()
        while waiting and (ready := selector.select(PATIENCE_SECONDS)):
            for key, _ in ready:
                speaker = key.data
                if not speaker.reads_its_own_update():
                    continue
                ended = time.monotonic()
                speaker.times.append(ended - speaker.sent_at)
                if ended < started + seconds:
                    speaker.speak()
                else:
                    waiting.discard(speaker)
    times = [moment for speaker in speakers for moment in speaker.times]
    return {"sent": sum(speaker.sent for speaker in speakers), "seconds": ended - started, "times": times}


def resume(port: int, path: str, subscribe: str, frames: int, mark: bytes) -> dict[str, Any]:
    """Connect, request what was missed, and measure from the request to the last of `frames` frames."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(ask_to_upgrade(port, path))
        _, rest = read_answer(client)
        started = time.monotonic()
        client.sendall(masked_frame(TEXT, subscribe.encode()))
        data, count = rest, 0
        try:
            while count < frames:
                data = data[1 - len(mark) :] + read(client)
                count += data.count(mark)
        except TimeoutError:
            pass
        return {"seconds": time.monotonic() - started, "frames": count}


def come_back(port: int, path: str, subscribe: str, clients: int, frames: int, mark: bytes) -> dict[str, object]:
    """Let many clients connect at once, each request what it missed, and measure until the last has all of it."""
    started = time.monotonic()
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(clients)]
        for client in crowd:
            client.sendall(ask_to_upgrade(port, path))
        rests = []
        for client in crowd:
            _, rest = read_answer(client)
            client.sendall(masked_frame(TEXT, subscribe.encode()))
            rests.append(rest)
        connected = time.monotonic() - started
        total, fewest = 0, frames
        for client, rest in zip(crowd, rests, strict=True):
            count, data = rest.count(mark), rest
            while count < frames:
                data = data[1 - len(mark) :] + read(client)
                count += data.count(mark)
            total, fewest = total + count, min(fewest, count)
    return {"connected": connected, "seconds": time.monotonic() - started, "frames": total, "fewest": fewest}
