"""Run the benchmarks and print their table: `python -m tests.benchmarks [--quick] [--database postgres]`."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sqlite3
import sys
import time
from importlib.metadata import version

from . import fanout, latency, saves
from .arena import Arena
from .report import Row, header

PACKAGES = ("Django", "channels", "channels_redis", "redis", "uvicorn", "websockets")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: under two minutes")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--clients", type=int, nargs="+", default=None, help="sizes of the group (default: 400 100)")
    parser.add_argument("--rounds", type=int, help="runs of each fan-out, of which the median is shown")
    parser.add_argument("--only", choices=("fanout", "saves", "latency"), nargs="+", help="leave the others out")
    return parser.parse_args()


def describe(arena: Arena) -> str:
    """Return what was measured with what, for whoever compares two tables."""
    import redis

    with redis.Redis.from_url(arena.redis.url) as connection:
        redis_server = connection.info("server")["redis_version"]
    if arena.postgres is None:
        database = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=NORMAL"
    else:
        import psycopg

        with psycopg.connect(arena.postgres.url) as connection:
            number = connection.info.server_version
        database = f"PostgreSQL {number // 10_000}.{number % 10_000}, fsync on"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {packages}\n"
        f"{database}; Redis {redis_server}, layer channels_redis.core at default capacity\n"
        f"{os.cpu_count()} cores ({platform.machine()}), load before the run {load:.2f}"
        + (" - the machine is busy, read with care" if load > 0.5 else "")
    )


def main() -> int:
    options = parse_arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    rounds = options.rounds or (1 if options.quick else 3)
    parts = options.only or ("fanout", "saves", "latency")
    started = time.monotonic()
    lost = 0
    with Arena(options.database) as arena:
        print(describe(arena))
        print()
        print(header(), flush=True)

        def show(rows: list[Row]) -> int:
            print("\n".join(map(str, rows)), flush=True)
            return sum(row.lost for row in rows)

        if "fanout" in parts:
            for clients in options.clients or (400, 100):
                seconds, burst = (2.0, 120) if options.quick else (5.0, 200)
                lost += show(fanout.measure(arena, clients, rounds, seconds, burst))
        if "saves" in parts:
            lost += show(saves.measure(arena, turns=10 if options.quick else 40))
        if "latency" in parts:
            lost += show(latency.measure(arena, seconds=4.0 if options.quick else 10.0))
    print(f"\nTook {time.monotonic() - started:.0f} s.", end=" ")
    print("declbind lost no frame." if not lost else f"!! declbind LOST {lost:,} FRAMES.")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
