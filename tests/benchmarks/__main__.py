"""Run the benchmarks and print their tables: `python -m tests.benchmarks [--quick] [--only NAME ...]`."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from . import batch, capture, console, crowd, echo, fanout, idle, latency, resume, saves, sequencing, stampede, storm
from .arena import Arena
from .report import Goal, Section

PACKAGES = ("Django", "channels", "channels_redis", "redis", "djangochannelsrestframework", "uvicorn", "websockets")


def _fanout(arena: Arena, quick: bool) -> Iterator[Section]:
    for clients in (100, 1_000):
        yield fanout.measure(arena, clients, rounds=1 if quick else 3, seconds=1.5 if quick else 4.0)


def _batch(arena: Arena, quick: bool) -> Iterator[Section]:
    yield batch.measure(arena, saves=200 if quick else 1_000, clients=1_000)


def _latency(arena: Arena, quick: bool) -> Iterator[Section]:
    yield latency.measure(arena, seconds=4.0 if quick else 10.0, with_peers=not quick)


def _saves(arena: Arena, quick: bool) -> Iterator[Section]:
    for database in ("sqlite", "postgres"):
        yield saves.measure(arena, database, turns=10 if quick else 40)


def _capture(arena: Arena, quick: bool) -> Iterator[Section]:
    yield from capture.measure(arena, turns=3 if quick else 10)


def _echo(arena: Arena, quick: bool) -> Iterator[Section]:
    yield echo.measure(arena, seconds=1.5 if quick else 4.0)


def _idle(arena: Arena, quick: bool) -> Iterator[Section]:
    yield idle.measure(arena, 1_000 if quick else 10_000)


def _resume(arena: Arena, quick: bool) -> Iterator[Section]:
    yield resume.measure(arena, times=5 if quick else 15)


def _stampede(arena: Arena, quick: bool) -> Iterator[Section]:
    yield stampede.measure(arena, clients=200 if quick else 1_000)


def _storm(arena: Arena, quick: bool) -> Iterator[Section]:
    yield storm.measure(arena, seconds=2.0 if quick else 8.0)


def _sequencing(arena: Arena, quick: bool) -> Iterator[Section]:
    yield sequencing.measure(arena, events=20_000, times=1 if quick else 3)


def _console(arena: Arena, quick: bool) -> Iterator[Section]:
    yield console.measure_writer(arena, rounds=5 if quick else 15, saves=1_000)
    yield console.measure_list(arena, bindings=1_000, times=3 if quick else 10)
    yield console.measure_browser(arena, seconds=10.0 if quick else 60.0)
    yield crowd.measure(arena, 1_000 if quick else 10_000, seconds=10.0 if quick else 60.0)


PARTS: dict[str, Callable[[Arena, bool], Iterator[Section]]] = {
    "fanout": _fanout,
    "batch": _batch,
    "latency": _latency,
    "saves": _saves,
    "capture": _capture,
    "echo": _echo,
    "idle": _idle,
    "resume": _resume,
    "stampede": _stampede,
    "storm": _storm,
    "sequencing": _sequencing,
    "console": _console,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: under three minutes")
    parser.add_argument("--only", choices=PARTS, nargs="+", metavar="NAME", help=f"some of: {', '.join(PARTS)}")
    return parser.parse_args()


def describe(arena: Arena) -> str:
    """Return a description of the versions and the machine, for comparing two tables."""
    import redis

    with redis.Redis.from_url(arena.redis.url) as connection:
        redis_server = connection.info("server")["redis_version"]
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}\n"
        f"SQLite {sqlite3.sqlite_version}; Redis {redis_server}; layers at default capacity; no compression\n"
        f"{os.cpu_count()} cores ({platform.machine()}), load before the run {load:.2f}"
        + (" - the machine is busy, read with care" if load > 0.5 else "")
        + "\n(a) hand-written consumer on channels_redis; (b) djangochannelsrestframework with model_observer;\n"
        "(c) encoded frames to raw sockets; (d) a bare ASGI application on the same server.\n"
        "Figures in brackets do not count: frames were lost."
    )


def main() -> int:
    options = parse_arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    started = time.monotonic()
    lost = 0
    goals: list[Goal] = []
    with Arena() as arena:
        print(describe(arena), flush=True)
        for name in options.only or PARTS:
            for section in PARTS[name](arena, options.quick):
                print(section, flush=True)
                goals += section.goals
                lost += section.lost
    states = [goal.state for goal in goals]
    print(f"\nTook {time.monotonic() - started:.0f} s; {states.count('met')} of {len(goals)} goals met.", end=" ")
    print("declbind lost no frame." if not lost else f"!! declbind LOST {lost:,} FRAMES.")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
