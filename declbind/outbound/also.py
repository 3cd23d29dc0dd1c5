"""Find the rows that are worth sending again because a row that they are related to was written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from declbind.batches import in_batches
from declbind.relations import Hop

from .batch import Batch
from .plans import Plan
from .rows import keys_of

#: Who watches: a plan, and how its rows are found from those that were written.
Watches = Iterable[tuple[Plan, Hop]]


def keep_watching(batch: Batch, watches: Watches, table: type[models.Model], written: Any) -> None:
    """Note the rows that are related to written ones, given as a query set of the table's model or as keys.

    To be called before rows go, after they came, and both before and after they were changed: a row may be related to
    others then. Two queries for each relation, whatever the number of rows.
    """
    for plan, hop in watches:
        for rows in _rows(hop.model, table, written, batch.using):
            bound = plan.model._base_manager.using(batch.using)
            related = bound.filter(**{f"{hop.lookup}__in": keys_of(rows, batch.using, hop.column)})
            keys = related.order_by("pk").values_list("pk", flat=True).distinct()
            batch.keep(plan, keys, plan.outlets_watching(hop))


def both_ways(watches: Watches) -> list[tuple[Plan, Hop]]:
    """Return those whose relation a change of a row may have moved: it is kept in the row."""
    return [(plan, hop) for plan, hop in watches if hop.column != "pk"]


def _rows(
    model: type[models.Model], table: type[models.Model], written: Any, using: str
) -> Iterable[models.QuerySet[Any]]:
    """Yield query sets of ``model`` that together are the written rows of a table, its own or a parent's."""
    key: Any = table._meta.pk
    # A manager may hide rows that are related all the same.
    rows: models.QuerySet[Any] = models.QuerySet(model, using=using)
    lookup = "pk" if model._meta.concrete_model is table._meta.concrete_model else key.name
    if isinstance(written, models.QuerySet):
        yield rows.filter(**{f"{lookup}__in": keys_of(written, using)})
        return
    for some in in_batches(written, using):
        yield rows.filter(**{f"{lookup}__in": some})
