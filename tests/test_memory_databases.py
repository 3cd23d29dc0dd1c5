"""Threads that share an SQLite database in memory, as in Django's test runner, use it one after another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import environ
import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from declbind.live import threads
from declbind.outbound import memory_databases
from declbind.outbound.statements import has_wrappers

#: How long a transaction stays open while a statement waits for its end, in seconds.
OPEN_SECONDS = 0.5


@pytest.fixture
def shared(django_db_blocker) -> Iterator[str]:
    """Return the alias of a database in memory that has one table, ``note``."""
    alias = "shared"
    connections.settings[alias] = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "file:memorydb_shared?mode=memory&cache=shared",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
    with django_db_blocker.unblock(), connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE note (text text)")
        yield alias
        cursor.execute("DROP TABLE note")
        close(alias)
    del connections[alias], connections.settings[alias]
    memory_databases._shared.discard(alias)


def close(alias: str) -> None:
    """Close this thread's connection. Django's own method keeps a connection to a database in memory open."""
    BaseDatabaseWrapper.close(connections[alias])


def write(alias: str, text: str) -> None:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES (%s)", [text])


async def write_beside_the_hub(alias: str) -> list[str]:
    """Write while a transaction of the hub's thread is open, and return the stored rows."""
    began, is_over = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("INSERT INTO note VALUES ('hub')")
            began.set()
            is_over.wait(OPEN_SECONDS)

    def write_meanwhile() -> None:
        began.wait()
        try:
            write(alias, "host")
        finally:
            is_over.set()
            close(alias)

    thread = threads.HubThread()
    try:
        await asyncio.gather(thread.run(work), asyncio.to_thread(write_meanwhile))
    finally:
        await thread.run(close, alias)
        thread.close()
    return await asyncio.to_thread(read, alias)


def read(alias: str) -> list[str]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT text FROM note ORDER BY text")
        found = [text for (text,) in cursor.fetchall()]
    close(alias)
    return found


def test_a_write_waits_for_the_hub(shared):
    """SQLite itself would refuse the write."""
    assert asyncio.run(write_beside_the_hub(shared)) == ["host", "hub"]


def test_a_hub_that_does_not_lock_would_be_caught(shared, monkeypatch):
    """Control: the hub uses the database without the lock."""
    monkeypatch.setattr(threads, "take_turn", contextlib.nullcontext)
    with pytest.raises(OperationalError, match="locked"):
        asyncio.run(write_beside_the_hub(shared))


def test_the_lock_is_not_taken_for_a_wrapper_of_another_package(shared):
    """Statements are extended as on any other database, and ``execute_wrapper`` removes its own wrapper."""
    assert not has_wrappers(connections[shared])
    with connections[shared].execute_wrapper(lambda execute, *args: execute(*args)):
        assert has_wrappers(connections[shared])
    assert not has_wrappers(connections[shared])
    assert connections[shared].execute_wrappers


def test_a_connection_without_an_alias_is_not_locked(postgres_database, django_db_blocker):
    """Django creates and drops test databases by a connection whose alias is not in the settings."""
    alias = "served"
    connections.settings[alias] = {**connections.settings["default"], **environ.Env.db_url_config(postgres_database)}
    connections.settings[alias] |= {"OPTIONS": {}, "TEST": {}}
    try:
        with django_db_blocker.unblock(), connections[alias]._nodb_cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
    finally:
        del connections[alias], connections.settings[alias]
