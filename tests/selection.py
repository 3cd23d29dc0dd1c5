"""The tests that a round runs: tests that pass on SQLite and cannot differ on another database are not repeated.

Environment: `TEST_DATABASE` is the database of the round. `TEST_CHOICE` is empty for all tests that the database may
affect, or one of:

- `core`: fewer tests, for a version or a database whose other tests have passed in another round. On SQLite also the
  tests that need no database, and the pages.
- `faults`, `servers` and `others`: the three parts of all tests. Those of the first two start many processes and often
  wait for them, so they run well beside a round that needs the processor.
- `quick`: the tests that need neither a database nor another process, for `make quick`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import TransactionTestCase

ROOT = Path(__file__).resolve().parent
DATABASE_FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}

# Names of modules and folders of tests, as paths without a suffix.
FAULTS = {"attack/test_fuzz", "faults"}
SERVERS = {
    "browser/test_example_site",
    "browser/test_other_admins",
    "browser/test_wagtail",
    "compat",
    "docs",
    "guests",
    "npm",
    "release",
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
    "typed",
}
#: Other modules whose tests start processes by themselves.
PROCESSES = {
    "test_admin_snippets", "test_live_endings", "test_live_reading", "test_live_start", "test_loop", "test_sequencer",
    "test_servers", "test_tenants",
}  # fmt: skip
SERVER_FIXTURES = {"django_server", "mariadb_process", "postgres_process", "redis_process"}
NOT_QUICK = FAULTS | SERVERS | PROCESSES | {"browser"}
#: The log, the sequencer, each kind of write, keys and values, sockets, and operators' data.
CORE = {
    "test_admin_faults", "test_also", "test_authenticate", "test_authenticate_renewal", "test_capture",
    "test_capture_bulk", "test_capture_bulk_create", "test_capture_bulk_faults", "test_capture_bulk_limit",
    "test_capture_cost", "test_capture_deletes", "test_capture_inheritance", "test_capture_lists",
    "test_capture_transactions", "test_capture_values", "test_connection_log", "test_database_faults", "test_equality",
    "test_field_types", "test_first_rows", "test_inbound_conditions", "test_inbound_idempotency", "test_inbound_rows",
    "test_key_shapes", "test_keys", "test_live_hub_position", "test_live_resume", "test_live_revocation",
    "test_live_revocation_order", "test_live_snapshot_offsets", "test_live_snapshot_pages", "test_live_subscriptions",
    "test_log", "test_log_ends", "test_mariadb", "test_permissions", "test_processes", "test_record_edits",
    "test_records", "test_revocation", "test_sequencer", "test_settled", "test_token_ends", "test_tokens", "test_why",
    "test_why_agreement", "test_why_subscribers",
}  # fmt: skip
#: Behaviour beyond the core that may differ in other versions of Django or of a database's driver.
VERSIONS = {
    "matrix/test_matrix", "test_binding_faults", "test_cancelled_writes", "test_capture_faults", "test_capture_locks",
    "test_capture_races", "test_foreign_lists", "test_joint_update", "test_live_edits", "test_relations",
    "test_seam_parameters", "test_seams", "test_shared_tables", "test_statements", "test_stored_rows",
    "test_strange_managers", "test_strange_tables", "test_trigger_replacements", "test_trigger_reporting",
    "test_trigger_upkeep", "test_triggers", "test_triggers_together",
}  # fmt: skip
#: The pages of the console without a browser, and the commands: they may differ in another Django, and their queries
#: are those of the ORM. Tests of queries that a database may answer otherwise are not among them.
CONSOLE = {
    "test_admin_form", "test_admin_form_lossless", "test_admin_form_rights", "test_admin_growth", "test_admin_import",
    "test_admin_json", "test_admin_panel", "test_admin_sight", "test_admin_snippets", "test_admin_try",
    "test_admin_undo", "test_admin_visible", "test_binding_classes", "test_command", "test_command_apply",
    "test_command_doctor", "test_command_history", "test_command_plan", "test_command_tail", "test_consequences",
}  # fmt: skip
#: What depends neither on a version nor on the bound database: permissions of operators, sizes, spellings of numbers,
#: slow readers, ends of ASGI servers, and the form of the code.
ONCE = {
    "attack/test_openings", "attack/test_secrets", "attack/test_single_rights", "browser", "docs",
    "test_admin_numbers", "test_admin_scale", "test_docstrings", "test_house", "test_layers",
    "test_live_servers", "test_live_shutdown", "test_tokens_servers",
}  # fmt: skip
#: The pages in a browser that an older Django may show otherwise, and its packages.
PAGES_AND_PACKAGES = {
    "browser/test_admin",
    "browser/test_console_pages",
    "browser/test_main_job",
    "guests/test_guests",
    "test_readme",
}
#: The paths from a write to a browser: on each database.
BROWSER_ON_EACH_DATABASE = {"browser/test_main_job", "browser/test_channels_1x"}


def select(item: pytest.Item, database: str, choice: str) -> bool:
    """Return whether a round runs a test."""
    if choice == "quick":
        return not (touches_database(item) or starts_server(item) or _is_in(item, NOT_QUICK))
    names = _names_of(database, choice)
    if names is not None and not _is_in(item, names):
        return False
    if choice in ("faults", "servers"):
        return True
    if choice == "others":
        return not _is_in(item, FAULTS | SERVERS)
    if database == "sqlite":
        return choice != "core" or _is_in_core_of_sqlite(item)
    return touches_database(item) and not is_about_pages(item)


def may_select(path: Path, database: str, choice: str) -> bool:
    """Return whether a round runs a test of a module or folder; the others are not imported."""
    if path == ROOT:
        return True
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    if choice == "quick":
        return not _is_named(name, NOT_QUICK)
    if choice == "others":
        return not _is_named(name, FAULTS | SERVERS)
    names = _names_of(database, choice)
    return names is None or _is_named(name, names) or any(each.startswith(f"{name}/") for each in names)


def _names_of(database: str, choice: str) -> set[str] | None:
    """Return the names of a choice that consists of whole modules, or None."""
    if choice in ("faults", "servers"):
        return FAULTS if choice == "faults" else SERVERS
    if choice == "core" and database != "sqlite":
        return CORE if database == "mariadb" else CORE | VERSIONS
    return None


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
    """Return whether a test is about what SQLite shows as well: pages, commands, or operators' permissions."""
    return _is_in(item, CONSOLE | ONCE) and not _is_in(item, BROWSER_ON_EACH_DATABASE)


def _is_in_core_of_sqlite(item: pytest.Item) -> bool:
    if _is_in(item, PAGES_AND_PACKAGES | CONSOLE):
        return True
    if _is_in(item, ONCE | FAULTS | SERVERS):
        return False
    return _is_in(item, CORE) or not touches_database(item)


def _is_in(item: pytest.Item, names: set[str]) -> bool:
    return _is_named(item.path.relative_to(ROOT).with_suffix("").as_posix(), names)


def _is_named(name: str, names: set[str]) -> bool:
    return name in names or name.partition("/")[0] in names
