"""Checks of the database that holds the event log (W007)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

from declbind.outbound.index import Index
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias

from .bindings import stored_registry


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
