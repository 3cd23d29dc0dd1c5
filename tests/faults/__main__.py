"""The long form of the fault tests, as a table: `python -m tests.faults [--events N] [--fault NAME] [--seed N]`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.servers import MariaDBServer, PostgresServer, RedisServer

from .arena import Arena
from .checker import Verdict
from .databases import Databases, MariaDBDatabases, PostgresDatabases, SqliteDatabases
from .faults import FAULTS, Fault, build_arena, conclude, suffer

COLUMNS = (
    ("fault", 20), ("database", 9), ("seed", 7), ("committed", 10), ("delivered", 10), ("covered", 8), ("resyncs", 8),
    ("lost", 6), ("invented", 9), ("disorder", 9), ("wrong", 6), ("too slow", 9), ("seconds", 8),
)  # fmt: skip
#: The number of problems of a run that are shown in full.
SHOWN = 10


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="committed writes of each run, at the least")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--database", choices=("postgres", "mariadb", "sqlite"), action="append", help="default: all")
    parser.add_argument("--seed", type=int, help="default: another one each time")
    parser.add_argument("--rate", type=float, default=400.0, help="writes a second, of each of two writers")
    return parser.parse_args()


def row(*values: object) -> str:
    cells = [str(value) for value in values]
    first = cells[0].ljust(COLUMNS[0][1])
    return first + "".join(cell.rjust(width) for cell, (_, width) in zip(cells[1:], COLUMNS[1:], strict=True))


def outcome(fault: Fault, arena: Arena, verdict: Verdict) -> str:
    """Return a run's line of the table."""
    return row(
        fault.name,
        arena.databases.kind,
        arena.seed,
        f"{verdict.committed:,}",
        f"{verdict.delivered:,}",
        f"{verdict.covered:,}",
        verdict.resyncs,
        len(verdict.lost),
        len(verdict.invented),
        len(verdict.disordered),
        len(verdict.wrong),
        arena.closes()[4408],
        f"{arena.seconds:.0f}",
    )


def runs(options: argparse.Namespace, databases: dict[str, Databases]) -> Iterator[tuple[Fault, Databases]]:
    for name in options.fault or FAULTS:
        for kind in options.database or databases:
            if kind != "sqlite" or not FAULTS[name].needs_server:
                yield FAULTS[name], databases[kind]


def main() -> int:
    """Run the chosen faults; the exit status is 1 if anything was wrong."""
    options = parse_arguments()
    seed = random.SystemRandom().randrange(100_000) if options.seed is None else options.seed
    bad = 0
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        mariadb = stack.enter_context(MariaDBServer())
        servers: dict[str, PostgresServer | MariaDBServer] = {"postgres": postgres, "mariadb": mariadb}
        redis = stack.enter_context(RedisServer())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="declbind-faults-")))
        databases: dict[str, Databases] = {
            "postgres": PostgresDatabases(postgres),
            "mariadb": MariaDBDatabases(mariadb),
            "sqlite": SqliteDatabases(folder),
        }
        say(row(*(name for name, _ in COLUMNS)))
        for fault, chosen in runs(options, databases):
            server = servers.get(chosen.kind)
            redis.start().flush()
            with build_arena(
                fault, chosen, seed=seed, events=options.events, rate=options.rate, redis=redis, server=server
            ) as arena:
                suffer(fault, arena)
                verdict = conclude(fault, arena)
                say(outcome(fault, arena, verdict))
                for problem in verdict.problems[:SHOWN]:
                    say(f"    {problem}")
            bad += bool(verdict.problems)
    say("Nothing was lost, invented, out of order or wrong." if not bad else f"{bad} runs went wrong.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
