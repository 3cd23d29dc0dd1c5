"""The tests that a round runs: tests that pass on SQLite and cannot differ on another database are not repeated.

Environment: `TEST_DATABASE` is the database of the round. `TEST_CHOICE` is empty for all tests that the database may
affect, or one of:

- `core`: fewer tests, for a version or a database whose other tests have passed in another round.
- `servers` and `others`: the two halves of all tests. Those of `servers` start many processes and mostly wait for them,
  so they run well beside a round that needs the processor.
- `quick`: the tests that need neither a database nor another process, for `make quick`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import TransactionTestCase

ROOT = Path(__file__).resolve().parent
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}

# Names of modules and folders of tests, as paths without a suffix.
SERVERS = {
    "attack/test_fuzz",
    "browser/test_example_site",
    "browser/test_other_admins",
    "browser/test_wagtail",
    "compat",
    "docs",
    "faults",
    "guests",
    "test_checks_installation",
    "test_django_tenants",
    "test_first_rows",
    "test_growth",
    "test_live_servers",
    "test_live_shutdown",
    "test_packaging",
    "test_readme",
    "test_renamed_names",
    "test_tokens_servers",
    "test_two_databases",
}
#: Modules other than those of `SERVERS` whose tests start processes by themselves.
PROCESSES = {"test_admin_snippets", "test_live_start", "test_sequencer", "test_servers", "test_tenants"}
SERVER_FIXTURES = {"django_server", "mariadb_process", "postgres_process", "redis_process"}
#: The log, the sequencer, each kind of write, keys and values, sockets, and operators' data.
CORE = {
    "test_also", "test_authenticate", "test_capture", "test_capture_bulk", "test_connection_log",
    "test_database_faults", "test_equality", "test_field_types", "test_first_rows", "test_inbound_conditions",
    "test_inbound_idempotency", "test_inbound_rows", "test_keys", "test_live_resume", "test_live_revocation",
    "test_live_subscriptions", "test_log", "test_mariadb", "test_permissions", "test_processes",
    "test_record_edits", "test_records", "test_revocation", "test_sequencer", "test_settled", "test_token_ends",
    "test_tokens", "test_why", "test_why_agreement", "test_why_subscribers",
}  # fmt: skip
#: Behaviour beyond the core that may differ in other versions of Django or of a database's driver.
VERSIONS = {
    "matrix/test_controls", "matrix/test_machine", "matrix/test_matrix", "test_cancelled_writes",
    "test_capture_faults", "test_capture_locks", "test_capture_races", "test_foreign_lists", "test_joint_update",
    "test_live_edits", "test_relations", "test_seam_parameters", "test_seams", "test_shared_tables",
    "test_statements", "test_stored_rows", "test_strange_managers", "test_strange_tables",
    "test_trigger_replacements", "test_trigger_reporting", "test_trigger_upkeep", "test_triggers",
    "test_triggers_together",
}  # fmt: skip
#: Behaviour of an older Python or Django that is tested on SQLite only: pages, packages, the README.
PAGES_AND_PACKAGES = {"browser", "guests/test_guests", "test_readme"}
#: What operators may do in the console, in every way. It does not depend on the bound database.
CONSOLE = {"attack/test_openings", "attack/test_secrets", "attack/test_single_rights"}
#: Pages that are tested on each database: the paths from a write to a browser.
BROWSER_ON_EACH_DATABASE = {
    "browser/test_main_job", "browser/test_live", "browser/test_capture", "browser/test_channels_1x",
}  # fmt: skip


def select(item: pytest.Item, database: str, choice: str) -> bool:
    """Return whether a round runs a test."""
    if choice == "quick":
        return not (touches_database(item) or starts_server(item) or _is_in(item, SERVERS | PROCESSES | {"browser"}))
    if choice == "servers":
        return _is_in(item, SERVERS)
    if choice == "others":
        return not _is_in(item, SERVERS)
    if database == "sqlite":
        return choice != "core" or _is_in_core_of_sqlite(item)
    if not touches_database(item) or is_about_pages(item):
        return False
    if choice == "core":
        return _is_in(item, CORE if database == "mariadb" else CORE | VERSIONS)
    return True


def touches_database(item: pytest.Item) -> bool:
    """Return whether a test uses the database of the round."""
    fixtures = set(getattr(item, "fixturenames", ()))
    case = getattr(item, "cls", None)
    return (
        item.get_closest_marker("django_db") is not None
        or bool(fixtures & DATABASE_FIXTURES)
        or (isinstance(case, type) and issubclass(case, TransactionTestCase))
    )


def starts_server(item: pytest.Item) -> bool:
    """Return whether a test needs a server."""
    return bool(SERVER_FIXTURES & set(getattr(item, "fixturenames", ())))


def is_about_pages(item: pytest.Item) -> bool:
    """Return whether a test is about the look of pages in a browser, or about operators' permissions.

    The queries of the pages have tests without a browser. The paths from a write to a browser are tested again.
    """
    return _is_in(item, {"browser", "docs"} | CONSOLE) and not _is_in(item, BROWSER_ON_EACH_DATABASE)


def _is_in_core_of_sqlite(item: pytest.Item) -> bool:
    if _is_in(item, PAGES_AND_PACKAGES):
        return not _is_in(item, SERVERS) or _is_in(item, {"guests/test_guests", "test_readme"})
    return _is_in(item, CORE | VERSIONS) or not (touches_database(item) or _is_in(item, SERVERS))


def _is_in(item: pytest.Item, names: set[str]) -> bool:
    name = item.path.relative_to(ROOT).with_suffix("").as_posix()
    return name in names or name.partition("/")[0] in names
