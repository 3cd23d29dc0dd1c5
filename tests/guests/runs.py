"""Concurrent runs of guests, started in the order in which they are requested."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import django

from tests.servers import PostgresServer

from .roster import GUESTS, Guest
from .sites import Outcome, Sites

#: The number of concurrent runs.
AT_ONCE = 2


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def this_end() -> str:
    """Return the Python and Django of this interpreter, as the roster names them."""
    return f"{minor(platform.python_version())}/{minor(django.__version__)}"


def runs_of(end: str) -> list[tuple[Guest, str]]:
    """Return the guests of a Python and Django, each with each of its databases."""
    return [(guest, database) for guest in GUESTS if guest.end == end for database in guest.databases]


class Runs:
    """The runs of guests on one PostgreSQL server, and on SQLite files."""

    def __init__(self, postgres: PostgresServer, chosen: Iterable[tuple[Guest, str]]) -> None:
        self._sites = Sites(postgres)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._chosen = list(chosen)
        self._futures: dict[tuple[str, str], Future[Outcome]] = {}

    def __enter__(self) -> Self:
        """Start all of them."""
        self._sites.__enter__()
        for guest, database in self._chosen:
            self._futures[guest.name, database] = self._pool.submit(self._sites.run, guest, database)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Wait for those that are running."""
        self._pool.shutdown(cancel_futures=True)
        self._sites.__exit__()

    def result(self, guest: Guest, database: str) -> Outcome:
        """Wait for one run and return its outcome.

        Raises:
            AssertionError: Its process failed.
        """
        return self._futures[guest.name, database].result()
