"""Say who hears of the rows of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import router

from declbind.relations import Hop

from .index import Index
from .plans import Plan


class Hearers(NamedTuple):
    """Who hears of a model's rows: its plan, the lists that they make up, and who is related to them."""

    plan: Plan | None
    lists: Sequence[tuple[Plan, Any]]
    watches: Sequence[tuple[Plan, Hop]]

    @classmethod
    def of(cls, model: Any, index: Index) -> Hearers | None:
        """Return who hears of a model; ``None`` for nobody."""
        if not index.heard[model]:
            return None
        found = cls(index.plan_for(model), index.lists_through(model), index.watches_of(model))
        return found if found.plan is not None or found.lists or found.watches else None


def database_of(rows: Any) -> str:
    """Return the database that a query set writes to."""
    using: str = rows._db or router.db_for_write(rows.model, **rows._hints)
    return using
