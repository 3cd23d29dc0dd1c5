"""Which tests a round runs: what has passed beside SQLite and cannot differ on another database is not repeated.

Environment: `TEST_DATABASE` is the database of the round. `TEST_CHOICE=core` chooses fewer still, for a database whose
other tests have passed in another round.
"""

from __future__ import annotations

import pytest
from django.test import TransactionTestCase

BROWSER_ON_EACH_DATABASE = {"test_main_job", "test_live", "test_capture", "test_channels_1x"}
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}
#: Beginnings of modules about pages and commands: what they ask the database is the same for every Python.
PAGES = ("test_admin_", "test_command", "test_consequences", "test_drift")
#: Modules that take long, and that another round runs on PostgreSQL.
ONCE_ON_POSTGRES = {"test_aliens"}
#: Modules that take long, by folder, and that another round runs beside SQLite: they hardly depend on the Python.
ONCE_ON_SQLITE = {("matrix", "test_aliens"), ("guests", "test_controls")}
#: On MariaDB: the log, the sequencer, each kind of write, keys and values, sockets, and what operators are told.
MARIADB_CORE = {
    "test_also", "test_capture", "test_capture_bulk", "test_connection_log", "test_database_faults", "test_equality",
    "test_field_types", "test_first_rows", "test_inbound_conditions", "test_inbound_idempotency",
    "test_inbound_rows", "test_keys", "test_live_resume", "test_live_revocation", "test_live_subscriptions",
    "test_log", "test_mariadb", "test_permissions", "test_processes", "test_records", "test_revocation",
    "test_sequencer", "test_settled", "test_why",
}  # fmt: skip


def select(item: pytest.Item, database: str, choice: str) -> bool:
    """Return whether a round runs a test."""
    if database == "sqlite":
        return choice != "core" or (item.path.parent.name, item.path.stem) not in ONCE_ON_SQLITE
    if not touches_database(item) or is_about_pages(item):
        return False
    if choice != "core":
        return True
    if database == "mariadb":
        return item.path.stem in MARIADB_CORE
    return not item.path.stem.startswith(PAGES) and item.path.stem not in ONCE_ON_POSTGRES


def touches_database(item: pytest.Item) -> bool:
    """Return whether a test uses the database of the round."""
    fixtures = set(getattr(item, "fixturenames", ()))
    case = getattr(item, "cls", None)
    return (
        item.get_closest_marker("django_db") is not None
        or bool(fixtures & DATABASE_FIXTURES)
        or (isinstance(case, type) and issubclass(case, TransactionTestCase))
    )


def is_about_pages(item: pytest.Item) -> bool:
    """Return whether a test is about how pages look and behave in a browser.

    The queries of the pages have tests without a browser. The paths from a write to a browser are tested again.
    """
    return item.path.parent.name == "browser" and item.path.stem not in BROWSER_ON_EACH_DATABASE
