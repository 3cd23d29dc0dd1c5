"""Shared steps of the tests of database faults: locks, missing tables, and the command's answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
from django.core.management import CommandError
from django.db import connection, connections, transaction

from tests.command_runs import Ran

on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="a fault of SQLite")
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="a fault of PostgreSQL")
#: MySQL and MariaDB commit at each ALTER and CREATE, so there the database is flushed after the test.
after_ddl = pytest.mark.django_db(transaction=connection.vendor == "mysql")
TABLE = "declbind_bindingrecord"
MEANWHILE = "Another user edited the configuration"


def answer_of(*arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        Ran(*arguments)
    text = str(raised.value)
    assert json.loads(Ran(*arguments, "--format", "json").out)["error"] == text
    return text


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextlib.contextmanager
def elsewhere(*statements: str) -> Iterator[None]:
    """Yield a function that runs statements on another connection, whose transaction stays open during the block."""
    done, finish = threading.Event(), threading.Event()
    faults: list[Exception] = []

    def hold() -> None:
        try:
            with transaction.atomic():
                for sql in statements:
                    execute(sql)
                done.set()
                finish.wait(30)
                transaction.set_rollback(True)
        except Exception as error:
            faults.append(error)
        finally:
            done.set()
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert done.wait(30)
    try:
        yield
    finally:
        finish.set()
        thread.join(30)
    assert not faults


@contextlib.contextmanager
def altered(change: str, undo: str) -> Iterator[None]:
    """Change the schema during the block. The rollback of the test undoes it, except on MySQL and MariaDB."""
    execute(change)
    try:
        yield
    finally:
        if connection.vendor == "mysql":
            execute(undo)


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Wait for a lock only briefly."""
    execute(
        {
            "sqlite": "PRAGMA busy_timeout = 50",
            "postgresql": "SET lock_timeout = '50ms'",
            "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
        }[connection.vendor]
    )
    try:
        yield
    finally:
        connection.close()
