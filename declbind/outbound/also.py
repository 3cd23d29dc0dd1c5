"""Rows that are sent again because a row that they are related to was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import models

from declbind.batches import in_batches
from declbind.django_types import Key, Rows
from declbind.relations import Hop
from declbind.stored_rows import value_of

from .batch import Batch
from .plans import Plan
from .rows import all_rows, keys_of
from .written_rows import Chosen

#: The plans whose rows are sent again, and how these rows are found from the written ones.
Watches = Iterable[tuple[Plan, Hop]]


def keep_watching(
    batch: Batch, watches: Watches, table: type[models.Model], written: Rows | Sequence[Key], is_after: bool = False
) -> None:
    """Record the rows that are related to written rows. The written rows are a query set of the table's model, or keys.

    Call it before rows are deleted, after they are inserted, and both before and after they are changed, because a
    change may relate a row to others. Takes two queries for each relation, whatever the number of rows.
    """
    for plan, hop in watches:
        if batch.is_for_all_tenants(plan):
            continue
        with batch.guarded([plan], [hop.model, table]):
            for rows in _rows(hop.model, table, written, batch.using):
                _keep(batch, plan, hop, keys_of(rows, batch.using, hop.column), is_after)


def keep_future(batch: Batch, watches: Watches, instances: Iterable[models.Model]) -> None:
    """Record the rows that instances will be related to once they are stored. Call it before they are stored.

    This is needed only if project code computes the groups of those rows, because such groups may depend on the
    instances.
    """
    for plan, hop in watches:
        if hop.column == "pk" or not _may_move(plan, hop) or batch.is_for_all_tenants(plan):
            continue
        found = {value_of(instance, hop.column) for instance in instances if hop.column in vars(instance)}
        values = [value for value in found if value is not None and not hasattr(value, "resolve_expression")]
        with batch.guarded([plan], [hop.model]):
            for some in in_batches(values, batch.using):
                _keep(batch, plan, hop, some, is_after=False)


def both_ways(watches: Watches) -> list[tuple[Plan, Hop]]:
    """Return the watches that must be recorded before a row is changed as well as after it.

    They are the relations that the row itself stores, because they may change, and the relations to rows whose groups
    are computed by project code, because that code may use the changed values.
    """
    return [(plan, hop) for plan, hop in watches if hop.column != "pk" or _may_move(plan, hop)]


def _may_move(plan: Plan, hop: Hop) -> bool:
    return any(outlet.has_group_code for outlet in plan.outlets_watching(hop))


def _keep(batch: Batch, plan: Plan, hop: Hop, values: Chosen, is_after: bool) -> None:
    related = all_rows(plan.model, batch.using).filter(**{f"{hop.lookup}__in": values})
    keys = related.order_by("pk").values_list("pk", flat=True).distinct()
    batch.keep_related(plan, keys, plan.outlets_watching(hop), is_after)


def _rows(
    model: type[models.Model], table: type[models.Model], written: Rows | Sequence[Key], using: str
) -> Iterable[Rows]:
    """Yield query sets of ``model`` that together are the written rows of a table, its own or a parent's."""
    key = table._meta.pk
    rows = all_rows(model, using)
    lookup = "pk" if model._meta.concrete_model is table._meta.concrete_model else key.name
    if isinstance(written, models.QuerySet):
        yield rows.filter(**{f"{lookup}__in": keys_of(written, using)})
        return
    for some in in_batches(written, using):
        yield rows.filter(**{f"{lookup}__in": some})
