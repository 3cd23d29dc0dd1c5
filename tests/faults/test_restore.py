"""A restore of a database from a dump while the site is down: clients that are ahead of the dump get a resync."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import PostgresServer

from .arena import Arena
from .databases import PostgresDatabases

SEED = 1
#: Writes that the restore loses; more than these follow it, so that the clients' offsets exist in the log again.
LOST, LATER = 60, 200


@pytest.fixture(scope="module")
def databases() -> Iterator[PostgresDatabases]:
    with PostgresServer() as server:
        yield PostgresDatabases(server)


def run_tool(server: PostgresServer, name: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(server._binaries() / name), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def restore(server: PostgresServer, url: str, dump: str) -> None:
    """Replace a database by the content of a dump."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    run_tool(server, "pg_restore", "--no-owner", "--dbname", url, dump)


def write_more(arena: Arena, count: int) -> None:
    """Commit more changes."""
    writer = arena.make_writer().start()
    arena.writers = [writer]
    arena.wait_for_writes(count)
    writer.stop()


def live_through_a_restore(databases: PostgresDatabases, path: str, variant: str | None = None) -> None:
    """Dump, write, restore while everything is down, write again, and then let the clients reconnect."""
    server = databases.server
    with Arena(databases, seed=SEED, webs=1, writers=1, proxied=True) as arena:
        arena.start()
        arena.wait_for_writes(LOST)
        arena.stop_writers()
        arena.wait_for_rows()
        run_tool(server, "pg_dump", "--format=custom", "--file", path, arena.url)
        write_more(arena, LOST)
        arena.wait_for_rows()
        for proxy in arena.proxies:
            arena.crowd.call(proxy.cut())
        for web in arena.webs:
            web.stop()
        restore(server, arena.url, path)
        if variant:
            arena.sabotage(arena.webs, variant)
        for web in arena.webs:
            web.start()
        write_more(arena, LATER)
        for proxy in arena.proxies:
            arena.crowd.call(proxy.mend())
        arena.wait_for_feeds(lambda feed: feed.is_live, "every client is back")
        arena.wait_for_rows(10.0)


def test_clients_ahead_of_the_dump_get_a_resync(databases: PostgresDatabases, tmp_path: Path) -> None:
    """They hold rows that no longer exist, and their offsets belong to other events: all end with the right rows."""
    live_through_a_restore(databases, str(tmp_path / "dump"))


def test_a_site_without_the_check_of_its_tables_is_detected(databases: PostgresDatabases, tmp_path: Path) -> None:
    """Negative control: without checking the tables' identity, clients resume from offsets of the lost history."""
    with pytest.raises(TimeoutError):
        live_through_a_restore(databases, str(tmp_path / "dump"), "trust the tables")
