"""SQLite databases in memory: which of them other threads or other processes can see."""

from __future__ import annotations

from typing import Literal

from django.db import connections

#: How Django's test runner names the database in memory that it makes. It stands for as long as the tests run.
_TEST_DATABASE = "file:memorydb_"

Reach = Literal["everybody", "process", "thread"]


def reach_of(using: str) -> Reach:
    """Return who can see the database: everybody who may connect, the threads of this process, or one thread only."""
    connection = connections[using]
    if connection.vendor != "sqlite":
        return "everybody"
    name = str(connection.settings_dict["NAME"] or "")
    if ":memory:" not in name and "mode=memory" not in name:
        return "everybody"
    # Without a name there is nothing to share; each connection to ":memory:" is a database of its own.
    return "process" if name.startswith("file:") and "cache=shared" in name else "thread"


def is_test_database(using: str) -> bool:
    """Return whether Django's test runner made the database, so that the settings may well name a file."""
    return str(connections[using].settings_dict["NAME"] or "").startswith(_TEST_DATABASE)


def describe_memory(using: str) -> str:
    """Return a sentence about a database that sockets cannot be served from; empty if they can."""
    if reach_of(using) != "thread":
        return ""
    name = connections[using].settings_dict["NAME"]
    return (
        f"Database {using!r} is in memory (NAME is {str(name)!r}): each thread that connects to it gets an empty "
        "database of its own, without declbind's tables. Sockets are served by several threads, so name a file."
    )
