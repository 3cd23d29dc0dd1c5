"""Databases prepared for a fault test, with readers of their rows that work without Django."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import MySQLdb
import psycopg

from tests.servers import ROOT, MariaDBServer, PostgresServer

from .observations import Rows

#: A row as the driver gives it.
Found = tuple[Any, ...]

COLUMNS = ("room", "stamp")
SELECT = "SELECT id, room, stamp FROM faults_item"
#: The number of sessions that have left a transaction open and idle for half a second.
STALLED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    " AND state_change < clock_timestamp() - interval '0.5 seconds'"
)
STALLED_ON_MARIADB = (
    "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id"
    " WHERE db = DATABASE() AND command = 'Sleep' AND time_ms > 500"
)
SELECT_COUNTER = "SELECT value FROM faults_counter"


def environment(url: str) -> dict[str, str | None]:
    """Return the environment of a process that uses a database; `None` means that a variable is unset."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "DATABASE_URL": url,
        "TEST_DATABASE": None,
        "CHANNEL_LAYER_URL": None,
    }


def run_module(module: str, url: str, *arguments: str, timeout: float = 120) -> str:
    """Run a module of Python in a process of its own on a database and return what it printed."""
    import os

    merged: Mapping[str, str | None] = {**os.environ, **environment(url)}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={key: value for key, value in merged.items() if value is not None},
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"python -m {module} exited with status {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


class Databases(Protocol):
    """The databases of one kind."""

    kind: str

    def make(self) -> str:
        """Return the URL of a new database with tables, record and first rows."""

    def rows(self, url: str) -> Rows:
        """Return the rows of a database as a client should hold them."""

    def counter(self, url: str) -> int:
        """Return the value of the counter."""

    def has_stalled_transaction(self, url: str) -> bool:
        """Return whether a session has left a transaction open for longer than any working process does."""


class SqliteDatabases:
    """SQLite files, each a copy of one that was prepared once."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def make(self) -> str:
        template = self.folder / "template.sqlite3"
        if not template.exists():
            run_module("tests.faults.prepare", f"sqlite:///{template}")
        self._count += 1
        path = self.folder / f"faults-{self._count}.sqlite3"
        shutil.copyfile(template, path)
        return f"sqlite:///{path}"

    def rows(self, url: str) -> Rows:
        return _as_rows(self._select(url, SELECT))

    def counter(self, url: str) -> int:
        return int(self._select(url, SELECT_COUNTER)[0][0])

    def has_stalled_transaction(self, url: str) -> bool:
        raise NotImplementedError("SQLite does not tell")

    @staticmethod
    def _select(url: str, query: str) -> list[Found]:
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20)) as connection:
            return connection.execute(query).fetchall()


class PostgresDatabases:
    """Databases of one PostgreSQL server, each a copy of one that was prepared once."""

    kind = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._count = 0

    def make(self) -> str:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            if not self._count:
                connection.execute("DROP DATABASE IF EXISTS faults_template")
                connection.execute("CREATE DATABASE faults_template")
                run_module("tests.faults.prepare", self.server.database_url("faults_template"))
            self._count += 1
            name = f"faults_{self._count}"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE faults_template".encode())
        return self.server.database_url(name)

    def rows(self, url: str) -> Rows:
        return _as_rows(self._select(url, SELECT))

    def counter(self, url: str) -> int:
        return int(self._select(url, SELECT_COUNTER)[0][0])

    def has_stalled_transaction(self, url: str) -> bool:
        return bool(self._select(url, STALLED)[0][0])

    @staticmethod
    def _select(url: str, query: str) -> list[Found]:
        with psycopg.connect(url) as connection:
            return connection.execute(query.encode()).fetchall()


class MariaDBDatabases:
    """Databases of one server, each a copy of one that was prepared once."""

    kind = "mariadb"

    def __init__(self, server: MariaDBServer) -> None:
        self.server = server
        self._count = 0

    def make(self) -> str:
        if not self._count:
            run_module("tests.faults.prepare", self.server.create_database("faults_template"))
        self._count += 1
        name = f"faults_{self._count}"
        url = self.server.create_database(name)
        with contextlib.closing(self._connect(name)) as connection, connection.cursor() as cursor:
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
            cursor.execute("SHOW TABLES FROM faults_template")
            for (table,) in cursor.fetchall():
                cursor.execute(f"SHOW CREATE TABLE faults_template.`{table}`")
                cursor.execute(cursor.fetchone()[1])
                cursor.execute(f"INSERT INTO `{table}` SELECT * FROM faults_template.`{table}`")
            connection.commit()
        return url

    def rows(self, url: str) -> Rows:
        return _as_rows(self._select(url, SELECT))

    def counter(self, url: str) -> int:
        return int(self._select(url, SELECT_COUNTER)[0][0])

    def has_stalled_transaction(self, url: str) -> bool:
        return bool(self._select(url, STALLED_ON_MARIADB)[0][0])

    def _connect(self, name: str) -> Any:
        return MySQLdb.connect(host="127.0.0.1", port=self.server.port, user="root", db=name)

    def _select(self, url: str, query: str) -> list[Found]:
        with contextlib.closing(self._connect(url.rpartition("/")[2])) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())


def _as_rows(found: list[Found]) -> Rows:
    return {pk: dict(zip(COLUMNS, values, strict=True)) for pk, *values in found}
