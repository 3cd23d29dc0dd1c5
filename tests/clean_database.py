"""The cleaning of the test database after each test that commits.

Django would flush the database: it truncates every table and sends `post_migrate`, which recreates all content types
and permissions. That takes longer than most tests. `CleanDatabase` empties the tables that have rows, keeps content
types and permissions, and inserts the first rows of declbind as a flush does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import DatabaseError, connection, transaction
from django.test import TransactionTestCase

from declbind.apps import DeclbindConfig

Rows = list[tuple[object, ...]]

#: Tables whose rows `post_migrate` makes and that no test needs to change, referenced tables first.
KEPT = ("django_content_type", "auth_permission")


class CleanDatabase:
    """The state of the database between tests, recorded when this is made."""

    def __init__(self) -> None:
        self._kept = {table: _read(table) for table in KEPT}

    def clean(self) -> None:
        """Restore the database to this state."""
        # Programs without settings import the conftest, which imports this module.
        from django.contrib.contenttypes.models import ContentType

        with transaction.atomic(), connection.cursor() as cursor:
            _suspend_checks(cursor)
            for table in _find_filled():
                cursor.execute(f"DELETE FROM {_quoted(table)}")
            changed = [table for table in KEPT if _read(table) != self._kept[table]]
            if changed:
                self._restore(cursor)
            _resume_checks(cursor)
        ContentType.objects.clear_cache()
        config = apps.get_app_config("declbind")
        assert isinstance(config, DeclbindConfig)
        config.insert_first_rows(using=connection.alias)

    def _restore(self, cursor: Any) -> None:
        from django.contrib.auth.models import Permission
        from django.contrib.contenttypes.models import ContentType

        for table in reversed(KEPT):
            cursor.execute(f"DELETE FROM {_quoted(table)}")
        for table in KEPT:
            places = ", ".join(["%s"] * len(self._kept[table][0]))
            cursor.executemany(f"INSERT INTO {_quoted(table)} VALUES ({places})", self._kept[table])
        # The test may have begun the sequences anew, as a flush does.
        for statement in connection.ops.sequence_reset_sql(no_style(), [ContentType, Permission]):
            cursor.execute(statement)


def install() -> None:
    """Make Django's test cases clean the database in this way from now on, with a flush as the fallback."""
    state = CleanDatabase()
    # The stubs do not know this method.
    cases: Any = TransactionTestCase
    flush: Callable[[TransactionTestCase], None] = cases._fixture_teardown

    def clean(case):
        if case._databases_names(include_mirrors=False) != [connection.alias]:
            flush(case)
            return
        try:
            state.clean()
        except DatabaseError:
            # The test has dropped a table, or still holds a lock.
            flush(case)

    cases._fixture_teardown = clean


def _find_filled() -> list[str]:
    """Return the tables that have rows, except for those that are kept."""
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    wanted = [table for table in tables if table not in KEPT]
    queries = [f"SELECT {number} WHERE EXISTS (SELECT 1 FROM {_quoted(table)})" for number, table in enumerate(wanted)]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(queries))
        return [wanted[number] for (number,) in cursor.fetchall()]


def _read(table: str) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {_quoted(table)} ORDER BY id")
        return list(cursor.fetchall())


def _quoted(table: str) -> str:
    return connection.ops.quote_name(table)


def _suspend_checks(cursor: Any) -> None:
    """Allow rows to be deleted in any order; other databases check foreign keys at the commit, when all are gone."""
    if connection.vendor == "postgresql":
        # Disable both foreign keys and triggers that a test has left.
        cursor.execute("SET LOCAL session_replication_role = replica")
    elif connection.vendor == "mysql":
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")


def _resume_checks(cursor: Any) -> None:
    if connection.vendor == "mysql":
        cursor.execute("SET FOREIGN_KEY_CHECKS = 1")
