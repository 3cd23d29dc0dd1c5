"""Checks of the database that holds the event log (W007, W012)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import connections

from declbind.outbound.index import Index
from declbind.outbound.memory_databases import is_test_database, reach_of
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias

from .bindings import stored_registry


def check_memory_database(**kwargs: Any) -> list[CheckMessage]:
    """Check that the database is not in the memory of one process (W012). Makes no query.

    Nothing is said while Django's test runner has put such a database in the place of the one in the settings.
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


def check_triggers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that each trigger that a binding asks for is installed (W007).

    Nothing is checked if the database is not among ``databases`` or is not migrated yet.
    """
    registry = stored_registry(databases)
    if registry is None:
        return []
    return [
        CheckWarning(
            f"Raw SQL and other programs may go unheard: the triggers of table {state.table!r} are {state.state}, and "
            f"{', '.join(map(repr, state.streams))} asked for them.",
            hint="Run `manage.py declbind triggers --install`; `--sql` prints what it does.",
            id="declbind.W007",
        )
        for state in upkeep.load_states(database_alias(), Index(registry))
        if state.streams and not state.is_well
    ]
