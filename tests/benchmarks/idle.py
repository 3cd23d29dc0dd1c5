"""Measurement of the server's memory for an open, subscribed connection that receives nothing."""

from __future__ import annotations

import resource
import time

from . import contenders
from .arena import Arena
from .report import Figure, Goal, Section

#: Connected before memory is first measured, so that the data that a first client loads is not counted.
WARM_UP_CLIENTS = 50
#: The files that a server needs beside its connections.
SPARE_FILES = 200


def measure(arena: Arena, wanted: int) -> Section:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = min(wanted, limit - SPARE_FILES)
    section = Section(f"{clients:,} idle connections, subscribed")
    if clients < wanted:
        section.notes.append(f"{wanted:,} wanted, the limit of open files is {limit:,}")
    memory: dict[str, Figure] = {}
    seconds: dict[str, Figure] = {}
    for contender in (contenders.DECLBIND, contenders.ASGI, contenders.ASGI_STACK):
        with arena.site(contender) as site:
            site.connect(WARM_UP_CLIENTS)
            time.sleep(0.5)
            before, started = site.memory, time.monotonic()
            site.connect(clients)
            seconds[contender] = Figure(1000 * (time.monotonic() - started) / (clients - WARM_UP_CLIENTS))
            time.sleep(1.0)
            used = site.memory - before
            # No client was disconnected meanwhile, or its memory would be missing from the sum.
            closed = site.clients.ask(do="report")["closed"]
            memory[contender] = Figure(used / (clients - WARM_UP_CLIENTS) / 1024, counts=not closed)
    section.add("memory of each, KiB", memory)
    section.add("time to connect and subscribe, ms", seconds)
    section.goals = [
        Goal("memory, of (d)", memory[contenders.DECLBIND].over(memory[contenders.ASGI]), at_most=1.3),
        Goal(
            "memory, of (d) behind the same middleware",
            memory[contenders.DECLBIND].over(memory[contenders.ASGI_STACK]),
            at_most=1.3,
        ),
    ]
    return section
