"""Each fault in its short form: no loss, no invented or reordered events, and the right rows at the end.

`python -m tests.faults` is the long form. The seed of a run is in its test's name; `FAULTS_SEED` chooses another
one. Faults that have to last sleep, in `faults.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import MariaDBServer, PostgresServer, RedisServer

from .arena import Arena
from .databases import Databases, MariaDBDatabases, PostgresDatabases, SqliteDatabases
from .faults import FAULTS, Fault, build_arena, conclude, suffer

SEED = int(os.environ.get("FAULTS_SEED", "1"))
EVENTS = 1_000
RATE = 200.0  # writes a second, of each writer
#: The faults for which SQLite differs: where a transaction ends, and how readers find the end of the log.
ALSO_ON_SQLITE = ("web killed", "writer killed", "burst", "reply lost")
#: The faults for which MariaDB differs from PostgreSQL: locks, snapshots, and lost connections.
ALSO_ON_MARIADB = (
    "web killed", "relay killed", "writer killed", "database restarted", "burst", "reply lost", "process frozen",
)  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL that a fault may restart."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDBServer]:
    """Run a MariaDB that a fault may restart."""
    with MariaDBServer() as server:
        yield server


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer, mariadb: MariaDBServer, tmp_path_factory: Any) -> dict[str, Databases]:
    return {
        "postgres": PostgresDatabases(postgres),
        "mariadb": MariaDBDatabases(mariadb),
        "sqlite": SqliteDatabases(tmp_path_factory.mktemp("faults")),
    }


def describe(arena: Arena, fault: Fault) -> str:
    return f"fault {fault.name!r}, seed {arena.seed}, {arena.databases.kind}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("postgres", name) for name in FAULTS),
        *(("mariadb", name) for name in ALSO_ON_MARIADB),
        *(("sqlite", name) for name in ALSO_ON_SQLITE),
    ],
)
@pytest.mark.parametrize("seed", [SEED])
def test_a_fault_costs_nothing(
    kind: str,
    name: str,
    seed: int,
    databases: dict[str, Databases],
    postgres: PostgresServer,
    mariadb: MariaDBServer,
    redis_server: RedisServer,
) -> None:
    """Whatever dies, every client gets every committed change once and in order, and ends with the right rows."""
    fault = FAULTS[name]
    server = {"postgres": postgres, "mariadb": mariadb}.get(kind)
    with build_arena(
        fault, databases[kind], seed=seed, events=EVENTS, rate=RATE, redis=redis_server, server=server
    ) as arena:
        suffer(fault, arena)
        verdict = conclude(fault, arena)
        assert verdict.problems == [], describe(arena, fault)
        assert verdict.committed >= EVENTS
        assert verdict.delivered > EVENTS
        assert (verdict.resyncs > 0) is fault.resyncs, "a resync where none is due hides what would be lost"
        assert (verdict.resumes > 0) is fault.disconnects
        assert any(client.arrays for client in arena.crowd.clients), "nobody took several frames in one"
        # A healthy client is never too slow, and no permission is revoked here.
        assert not {code for code in arena.closes() if code is not None and code >= 4000}
