"""Read stored rows, only as much of them as a plan needs, and tell when there is no need to."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connections, models

from .plans import Plan

#: Values of exactly these types are stored as they are by these fields; all else is read back after the write.
PLAIN_TYPES: Mapping[str, type] = {
    "AutoField": int,
    "BigAutoField": int,
    "SmallAutoField": int,
    "IntegerField": int,
    "BigIntegerField": int,
    "SmallIntegerField": int,
    "PositiveIntegerField": int,
    "PositiveBigIntegerField": int,
    "PositiveSmallIntegerField": int,
    "FloatField": float,
    "BooleanField": bool,
    "CharField": str,
    "TextField": str,
    "SlugField": str,
    "URLField": str,
    "EmailField": str,
    "DateField": dt.date,
    "UUIDField": uuid.UUID,
}


def load_rows(plan: Plan, pks: Iterable[Any], fields: Sequence[Any] | None, using: str) -> dict[Any, Any]:
    """Read rows by key, only the columns of ``fields`` (all for ``None``), locked where the database can."""
    rows: dict[Any, Any] = {}
    for some in in_batches(pks, using):
        chosen = plan.model._base_manager.using(using).filter(pk__in=some)
        rows.update((row.pk, row) for row in _narrowed(plan, chosen, fields, using))
    return rows


def in_batches(values: Iterable[Any], using: str) -> Iterator[list[Any]]:
    """Cut values into lists that one statement can take as parameters."""
    given = list(values)
    step = connections[using].features.max_query_params or 10_000
    for start in range(0, len(given), step):
        yield given[start : start + step]


def load_row(plan: Plan, pk: Any, fields: Sequence[Any] | None, using: str) -> Any:
    """Read one row like ``load_rows``; ``None`` where there is none, or the model's base manager hides it."""
    return next(iter(load_rows(plan, [pk], fields, using).values()), None)


def _narrowed(plan: Plan, rows: models.QuerySet[Any], fields: Sequence[Any] | None, using: str) -> models.QuerySet[Any]:
    options: Any = plan.model._meta
    if fields is not None:
        rows = rows.only(options.pk.name, *(field.name for field in fields))
    connection = connections[using]
    if connection.in_atomic_block and connection.features.has_select_for_update:
        # The row itself and, under multi-table inheritance, its parents; what a manager joins is not ours to lock.
        links = [link.name for link in options.parents.values() if link is not None]
        of = ("self", *links) if connection.features.has_select_for_update_of else ()
        rows = rows.select_for_update(of=of)
    return rows


def is_as_stored(instance: Any, fields: Iterable[Any]) -> bool:
    """Tell whether the instance's values are what the database now holds, so that they need not be read back."""
    values = instance.__dict__
    return all(field.attname in values and _is_plain(field, values[field.attname]) for field in fields)


def _is_plain(field: Any, value: Any) -> bool:
    if value is None:
        return True
    target = getattr(field, "target_field", field)
    internal = target.get_internal_type()
    if internal == "DecimalField":
        # The database gives each its own number of places, and SQLite keeps fifteen digits.
        digits = value.as_tuple() if type(value) is decimal.Decimal else None
        return digits is not None and digits.exponent == -target.decimal_places and len(digits.digits) <= 15
    if internal == "DateTimeField":
        return type(value) is dt.datetime and value.tzinfo is dt.UTC
    # A project's own field class may store something else than the value it is given.
    return type(value) is PLAIN_TYPES.get(internal) and type(target).__module__.startswith("django.")


def load_rows_of(plan: Plan, objects: Any, fields: Sequence[Any] | None, using: str) -> Iterable[Any]:
    """Read the stored rows behind what a collector holds: a query set, or instances."""
    if not isinstance(objects, models.QuerySet):
        return load_rows(plan, [instance.pk for instance in objects], fields, using).values()
    # As a subquery: the rows may be chosen by joins and aggregates, and no database locks the result of those.
    keys = objects.using(using).order_by().values("pk")
    return _narrowed(plan, plan.model._base_manager.using(using).filter(pk__in=keys), fields, using)
