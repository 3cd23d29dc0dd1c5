"""Checks of the database that holds the event log (W007, W012, W013, W014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections, router
from django.db.migrations.recorder import MigrationRecorder

from declbind.conf import settings
from declbind.models import BindingRecord
from declbind.outbound.index import Index
from declbind.outbound.memory_databases import is_test_database, reach_of
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias

from .bindings import stored_registry


def check_memory_database(**kwargs: object) -> list[CheckMessage]:
    """Check that the database is not in the memory of one process (W012). Makes no query.

    There is no warning while Django's test runner replaces the configured database by one in memory.
    """
    using = database_alias()
    if reach_of(using) == "everybody" or is_test_database(using):
        return []
    name = str(connections[using].settings_dict["NAME"])
    return [
        CheckWarning(
            f"DATABASES[{using!r}]: the database is in memory (NAME is {name!r}). Other processes cannot see it, so "
            "declbind delivers nothing between processes, and a `migrate` in another process does not make the tables.",
            hint='Name a file, such as BASE_DIR / "db.sqlite3". Tests may use such a database: Django\'s test runner '
            "makes one that its threads share. In settings that only tests use, silence the check: "
            'SILENCED_SYSTEM_CHECKS = ["declbind.W012"].',
            id="declbind.W012",
        )
    ]


def check_tables(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """Check that declbind's tables are in the database to which the routers send them (W013).

    Nothing is checked if that database is not among ``databases``, or if no app has been migrated there yet.
    """
    using = database_alias()
    if using not in (databases or ()):
        return []
    try:
        tables = set(connections[using].introspection.table_names())
    except DatabaseError:  # Django reports a database that cannot be reached.
        return []
    missing = sorted(model._meta.db_table for model in apps.get_app_config("declbind").get_models())
    missing = [table for table in missing if table not in tables]
    migrations: Any = getattr(MigrationRecorder, "Migration", None)
    if not missing or migrations is None or migrations._meta.db_table not in tables:
        return []
    found = ", ".join(map(repr, missing[:3])) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    allowed = router.allow_migrate_model(using, BindingRecord)
    return [
        CheckWarning(
            f"Database {using!r}, where the records and the event log belong, lacks the tables {found}. Nothing is "
            "captured and no socket is served.",
            hint=f"Run `manage.py migrate --database {using}`."
            if allowed
            else f"DATABASE_ROUTERS send declbind's tables to {using!r}, and forbid to migrate them there. Let "
            f"allow_migrate() return True for {using!r} and the app label 'declbind'.",
            id="declbind.W013",
        )
    ]


def check_pool(**kwargs: object) -> list[CheckMessage]:
    """Check that a pool of connections is large enough for a process that serves sockets (W014). Makes no query."""
    using = database_alias()
    options = connections[using].settings_dict["OPTIONS"]
    pool = options.get("pool") if connections[using].vendor == "postgresql" else None
    if not pool:
        return []
    # The defaults of psycopg_pool: a minimum of four connections, and a maximum equal to the minimum.
    given = pool if isinstance(pool, dict) else {}
    size = given.get("max_size") or given.get("min_size", 4)
    needed = settings.DATABASE_THREADS + settings.SNAPSHOTS_AT_ONCE + 1
    if size >= needed:
        return []
    return [
        CheckWarning(
            f"DATABASES[{using!r}]: the pool has {size} connections, and a process that serves sockets uses up to "
            f"{needed}. Snapshots may wait for each other until the pool gives up, and are answered with `internal`.",
            hint=f'Set "pool": {{"max_size": {needed + 1}}} or more in OPTIONS, or lower DECLBIND["DATABASE_THREADS"].',
            id="declbind.W014",
        )
    ]


def check_triggers(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """Check that all triggers that bindings need are installed (W007).

    Nothing is checked if the database is not among ``databases`` or is not migrated yet.
    """
    registry = stored_registry(databases)
    if registry is None:
        return []
    using = database_alias()
    if not upkeep.is_supported(using):
        asking = [state for state in upkeep.load_states(using, Index(registry)) if state.streams]
        return [_no_triggers(asking, connections[using].display_name)] if asking else []
    return [
        CheckWarning(
            f"Raw SQL and other programs may not be captured for {', '.join(map(repr, state.streams))}: the triggers "
            f"of table {state.table!r} are {state.state}.",
            hint="Run `manage.py declbind triggers --install`; `--sql` prints what it does.",
            id="declbind.W007",
        )
        for state in upkeep.load_states(using, Index(registry))
        if state.streams and not state.is_well
    ]


def _no_triggers(asking: Sequence[upkeep.TableState], database: str) -> CheckMessage:
    streams = dict.fromkeys(stream for state in asking for stream in state.streams)
    return CheckWarning(
        f"Raw SQL and other programs are not captured for {', '.join(map(repr, streams))}: declbind has no triggers "
        f"for {database}.",
        hint='Set "capture" to "orm", and announce such rows with declbind.touch(queryset).',
        id="declbind.W007",
    )
