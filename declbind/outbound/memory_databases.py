"""SQLite databases in memory: which threads and processes share them, and how threads take turns.

Threads that share a database in memory share its cache. SQLite then refuses a statement that would have to wait for
another thread: ``database table is locked``, at once and whatever the timeout. The threads of declbind therefore use
such a database only while no other thread executes a statement in it, and other threads wait for them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Literal

from django.db import connections
from django.db.backends.signals import connection_created

from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.django_types import Connection, ExecuteContext, Method

#: The name that Django's test runner gives to its database in memory, which exists as long as the tests run.
_TEST_DATABASE = "file:memorydb_"

Reach = Literal["everybody", "process", "thread"]

#: The longest time that a statement waits for a thread of declbind, in seconds: the wait must never become a deadlock.
_PATIENCE = 10.0

#: The lock by which threads take turns. A thread of declbind holds it for a unit of work, any other thread for a
#: statement.
_turn = threading.RLock()
#: The aliases of databases that the threads of this process share.
_shared: set[str] = set()


def reach_of(using: str) -> Reach:
    """Return which threads see the same database: those of every process, those of this process, or one thread only."""
    return _reach_of(connections[using])


def _reach_of(connection: Connection) -> Reach:
    if connection.vendor != "sqlite":
        return "everybody"
    name = str(connection.settings_dict["NAME"] or "")
    if ":memory:" not in name and "mode=memory" not in name:
        return "everybody"
    # Without a name there is nothing to share; each connection to ":memory:" is a database of its own.
    return "process" if name.startswith("file:") and "cache=shared" in name else "thread"


def is_test_database(using: str) -> bool:
    """Return whether Django's test runner created the database, so that outside tests the settings may name a file."""
    return str(connections[using].settings_dict["NAME"] or "").startswith(_TEST_DATABASE)


def describe_memory(using: str) -> Sentence | str:
    """Return a sentence that explains why sockets cannot be served from a database in memory, or "" if they can."""
    if reach_of(using) != "thread":
        return ""
    name = connections[using].settings_dict["NAME"]
    return _(
        "Database %(database)r is in memory (NAME is %(name)r): each thread that connects to it gets an empty database "
        "of its own, without declbind's tables. Sockets are served by several threads, so name a file.",
        database=using,
        name=str(name),
    )


@contextlib.contextmanager
def take_turn() -> Iterator[None]:
    """Keep other threads from executing statements in a shared database in memory inside the block."""
    if not _shared:
        yield
        return
    is_held = _turn.acquire(timeout=_PATIENCE)
    try:
        yield
    finally:
        if is_held:
            _turn.release()


def _execute_in_turn(execute: Method, sql: object, params: object, many: bool, context: ExecuteContext) -> object:
    with take_turn():
        return execute(sql, params, many, context)


_execute_in_turn.declbind_leaves_text = True  # type: ignore[attr-defined]


def _watch(connection: Connection, **kwargs: object) -> None:
    # The alias is not used, because servers and tests make connections whose alias is not in the settings.
    if _reach_of(connection) == "process":
        _shared.add(connection.alias)
        if _execute_in_turn not in connection.execute_wrappers:
            # First, because ``execute_wrapper()`` removes the last wrapper.
            connection.execute_wrappers.insert(0, _execute_in_turn)


def install() -> None:
    """Make threads take turns in each database in memory that the process connects to."""
    connection_created.connect(_watch, dispatch_uid="declbind.memory_databases")
