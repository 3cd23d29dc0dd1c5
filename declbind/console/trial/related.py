"""The other rows that a change of a row would send: by ``also``, in the tables of parents, and by cascades."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Model
from django.db.models.deletion import Collector, ProtectedError, RestrictedError
from django.utils.translation import ngettext

from declbind.outbound.index import Index
from declbind.outbound.rows import all_rows
from declbind.stored_rows import value_of


def find_related(index: Index, row: Model, action: str, using: str) -> tuple[str, ...]:
    """Return the streams that would send other rows, each with their number. Reads them; writes nothing."""
    counts: Counter[str] = Counter()
    if action != "create":
        _count_also(index, row, using, counts)
    for parent in row._meta.all_parents:
        plan = index.plan_for(parent)
        if plan is not None:
            counts.update(outlet.stream for outlet in plan.outlets)
    if action == "delete":
        _count_cascades(index, row, using, counts)
    return tuple(_counted(stream, count) for stream, count in sorted(counts.items()) if count)


def _counted(stream: str, count: int) -> str:
    text = ngettext("%(stream)s (%(count)s row)", "%(stream)s (%(count)s rows)", count)
    return text % {"stream": stream, "count": count}


def _count_also(index: Index, row: Model, using: str, counts: Counter[str]) -> None:
    """Count the rows that are sent again because this row changes."""
    for table in (row._meta.concrete_model, *row._meta.all_parents):
        if table is None:
            continue
        for plan, hop in index.all.of(table).watches:
            value = row.pk if hop.column == "pk" else value_of(row, hop.column)
            related = all_rows(plan.model, using).filter(**{f"{hop.lookup}__in": [value]})
            number = related.values("pk").distinct().count()
            for outlet in plan.outlets_watching(hop):
                counts[outlet.stream] += number


def _count_cascades(index: Index, row: Model, using: str, counts: Counter[str]) -> None:
    """Count the rows that Django would delete or update together with this row."""
    collector = Collector(using=using, origin=row)
    try:
        collector.collect([row])
    except (ProtectedError, RestrictedError):
        return  # the delete fails, and sends nothing
    numbers: Counter[type[Model]] = Counter()
    for model, instances in collector.data.items():
        if model is not type(row) and not issubclass(type(row), model):
            numbers[model] += len(instances)
    for rows in collector.fast_deletes:
        numbers[rows.model] += rows.count()
    # The stubs know another release, where the values were instances.
    updates: Any = collector.field_updates
    for (field, _), found in updates.items():
        numbers[field.model] += sum(len(rows) for rows in found)
    for model, number in numbers.items():
        plan = index.plan_for(model)
        for outlet in plan.outlets if plan is not None else ():
            counts[outlet.stream] += number
        # A row of a through model is an entry in the list of another row.
        for owner in index.all.of(model).lists:
            if not isinstance(row, owner.plan.model):
                counts.update({outlet.stream: number for outlet in owner.plan.outlets})
