"""The version of the configuration in the database, which each process compares with that of its registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import connections, router

from declbind.django_types import Connection, Cursor
from declbind.models import Configuration

#: The databases in which declbind's tables have been found.
_migrated: set[str] = set()


def database_alias() -> str:
    """Return the database that holds the records and the log."""
    return router.db_for_write(Configuration)


def is_migrated(using: str) -> bool:
    """Return whether declbind's tables exist in a database. Looks for them until they are found once."""
    if using not in _migrated and has_table(connections[using], Configuration._meta.db_table):
        _migrated.add(using)
    return using in _migrated


def read_version(using: str) -> tuple[str, int]:
    """Return generation and version of the configuration; ("", 0) before ``migrate``.

    The query bypasses Django's query log. Otherwise tests of applications that count queries would see one more per
    second.
    """
    # On PostgreSQL, a query on a missing table would break the caller's transaction.
    if not is_migrated(using):
        return "", 0
    with _uncounted_cursor(connections[using]) as cursor:
        cursor.execute("SELECT generation, version FROM declbind_configuration WHERE id = 1")
        row = cursor.fetchone()
    return (str(row[0]), int(row[1])) if row else ("", 0)


def has_table(connection: Connection, name: str) -> bool:
    """Return whether a table exists in one of the schemas that are searched.

    Args:
        connection: The Django database connection.
        name: The name of the table.
    """
    if connection.vendor != "postgresql":
        return name in connection.introspection.table_names()
    # A package that gives tenants their own schemas may list the tables of one schema only.
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [connection.ops.quote_name(name)])
        row = cursor.fetchone()
    return row is not None and bool(row[0])


@contextlib.contextmanager
def _uncounted_cursor(connection: Connection) -> Iterator[Cursor]:
    """Open a cursor that bypasses Django's query log. If this Django release has no known way, open its own cursor."""
    if not (hasattr(connection, "create_cursor") and hasattr(connection, "wrap_database_errors")):
        with connection.cursor() as cursor:
            yield cursor
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, contextlib.closing(connection.create_cursor()) as cursor:
        yield cursor
