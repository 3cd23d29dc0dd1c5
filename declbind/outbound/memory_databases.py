"""SQLite databases in memory: which threads and processes can see them, and how threads take turns in one.

Threads that share a database in memory share its cache, and SQLite then refuses at once what would have to wait:
``database table is locked``, whatever the timeout. The threads of declbind therefore use such a database while no
other thread executes a statement in it, and other threads wait for them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

#: How Django's test runner names the database in memory that it makes. It stands for as long as the tests run.
_TEST_DATABASE = "file:memorydb_"

Reach = Literal["everybody", "process", "thread"]

#: The longest that a statement waits for a thread of declbind, in seconds: a lock must never become a deadlock.
_PATIENCE = 10.0

#: Held by a thread of declbind for a piece of work, and by any other thread for a statement.
_turn = threading.RLock()
#: The aliases of databases that the threads of this process share.
_shared: set[str] = set()


def reach_of(using: str) -> Reach:
    """Return who can see the database: everybody who may connect, the threads of this process, or one thread only."""
    return _reach_of(connections[using])


def _reach_of(connection: BaseDatabaseWrapper) -> Reach:
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


@contextlib.contextmanager
def take_turn() -> Iterator[None]:
    """Keep other threads from executing statements in a shared database in memory while the block uses it."""
    if not _shared:
        yield
        return
    is_held = _turn.acquire(timeout=_PATIENCE)
    try:
        yield
    finally:
        if is_held:
            _turn.release()


def _execute_in_turn(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    with take_turn():
        return execute(sql, params, many, context)


_execute_in_turn.declbind_leaves_text = True  # type: ignore[attr-defined]


def _watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    # Not by its alias, which may be in no setting: servers have connections to no database, and tests make their own.
    if _reach_of(connection) == "process":
        _shared.add(connection.alias)
        if _execute_in_turn not in connection.execute_wrappers:
            # First, because ``execute_wrapper()`` takes the last one out again.
            connection.execute_wrappers.insert(0, _execute_in_turn)


def install() -> None:
    """Have the threads of a process take turns in each database in memory that it connects to."""
    connection_created.connect(_watch, dispatch_uid="declbind.memory_databases")
