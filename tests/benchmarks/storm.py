"""Measurement of how long clients wait for an answer while another client sends as many requests as it may."""

from __future__ import annotations

import json
import socket
import time
from collections import defaultdict
from typing import Any

from declbind.core import sampling

from . import contenders
from .arena import PATH, Arena
from .report import Figure, Goal, Section
from .wire import TEXT, ask_to_upgrade, masked_frame, read, read_answer, split_frames

#: The sockets of the storm, and the requests that each sends a second: the default of `MESSAGES_PER_SECOND`.
SOCKETS, PER_SECOND = 10, 20.0
#: Events that each of its replays asks for.
MISSED = 1_000
#: How often it is measured, with and without the storm in turn.
ROUNDS = 4
#: What a storm may cost the others at most.
GOAL = 2.0


class Calm:
    """A client that sends a request now and then, and waits for all frames that answer it."""

    def __init__(self, port: int, address: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60, (address, 0))
        self._socket.sendall(ask_to_upgrade(port, PATH))
        _, self._rest = read_answer(self._socket)
        self._ref = 0

    def ask(self, **payload: Any) -> tuple[float, Any]:
        """Return the seconds until a request is answered, with the last page of a snapshot if that was asked for."""
        self._ref += 1
        text = json.dumps({"stream": "price", "payload": {**payload, "ref": self._ref}})
        started = time.monotonic()
        self._socket.sendall(masked_frame(TEXT, text.encode()))
        last = b'"final":true' if payload.get("snapshot") else b'"ref":%d,' % self._ref
        reply = None
        while True:
            frames, position = split_frames(self._rest)
            texts = [self._rest[start:stop] for _, start, stop in frames]
            self._rest = self._rest[position:]
            for text_ in texts:
                if b'"reply"' in text_:
                    reply = json.loads(text_)["payload"]
                    if not reply["ok"]:
                        raise SystemExit(f"expected a reply, got {reply}")
            if any(last in text_ for text_ in texts):
                return time.monotonic() - started, reply
            self._rest += read(self._socket)


def measure(arena: Arena, seconds: float) -> Section:
    section = Section(
        f"A storm of one client on {SOCKETS} sockets, {PER_SECOND:g} requests a second each (snapshots, replays of "
        f"{MISSED:,} events, updates): what three others wait for (PostgreSQL)"
    )
    times: dict[tuple[str, bool], list[float]] = defaultdict(list)
    sent = 0
    with (
        arena.site(contenders.DECLBIND, "postgres") as site,
        arena.program("stormer", contenders.DECLBIND, str(site.port), PATH, database="postgres") as stormer,
    ):
        calm = [Calm(site.port, f"127.0.0.{number}") for number in (11, 12, 13)]
        _, reply = calm[0].ask(action="subscribe", params={})
        since = {key: reply[key] for key in ("epoch", "offset", "resume")}
        # The proof is the socket's user's: all are anonymous.
        calm[0].ask(action="unsubscribe", params={})
        site.writer.ask(do="burst", saves=MISSED)
        stormer.ask(do="connect", clients=SOCKETS, address="127.0.0.9")
        _converse(calm, 1.0)
        for _ in range(ROUNDS):
            for is_storm in (False, True):
                if is_storm:
                    stormer.tell(do="storm", seconds=seconds + 1.0, per_second=PER_SECOND, since=since)
                    time.sleep(0.5)
                for kind, found in _converse(calm, seconds).items():
                    times[kind, is_storm] += found
                if is_storm:
                    sent += stormer.answer()["sent"]
    for kind in ("update", "snapshot"):
        for share in (0.5, 0.99):
            without, within = (
                Figure(1000 * (sampling.percentile(times[kind, is_storm], share) or 0.0)) for is_storm in (False, True)
            )
            name = f"{kind}: p{100 * share:.0f}, ms"
            section.add(f"{name}, without", {contenders.DECLBIND: without})
            section.add(f"{name}, in the storm", {contenders.DECLBIND: within})
            if share == 0.99:
                section.goals.append(
                    Goal(f"p99 of {kind}s in the storm, of that without", within.over(without), at_most=GOAL)
                )
    section.add("requests of the storm", {contenders.DECLBIND: Figure(sent)})
    return section


def _converse(clients: list[Calm], seconds: float) -> dict[str, list[float]]:
    """Let clients send requests in turn, 20 a second together."""
    times: dict[str, list[float]] = defaultdict(list)
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        client = clients[number % len(clients)]
        number += 1
        times["update"].append(client.ask(action="update", pk=1 + number % 10, data={"value": number / 8})[0])
        times["snapshot"].append(client.ask(action="subscribe", params={}, snapshot=True)[0])
        client.ask(action="unsubscribe", params={})
        time.sleep(0.01)
    return times
