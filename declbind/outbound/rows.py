"""Read stored rows, only as much of them as a plan needs, and tell when there is no need to."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    if fields is None or not plan.is_plain:
        return next(iter(load_rows(plan, [pk], fields, using).values()), None)
    connection = connections[using]
    key = (tuple(fields), using)
    statement = plan.statements.get(key)
    if statement is None:
        statement = plan.statements[key] = RowStatement.build(plan.model, fields, connection)
    return statement.run(pk, plan.model, connection)


@dataclass(frozen=True)
class RowStatement:
    """The one query that most saves of a bound row need, worked out once: a query set takes ten times longer."""

    sql: str
    columns: tuple[Any, ...]
    converters: tuple[tuple[int, Any, tuple[Any, ...]], ...]

    @classmethod
    def build(cls, model: type[models.Model], fields: Sequence[Any], connection: Any) -> RowStatement:
        """Work out the statement for columns of the model's own table."""
        options: Any = model._meta
        wanted = {options.pk, *fields}
        # In the order of the model, which is how Model.from_db takes them.
        columns = tuple(field for field in options.concrete_fields if field in wanted)
        quote = connection.ops.quote_name
        names = ", ".join(quote(field.column) for field in columns)
        sql = f"SELECT {names} FROM {quote(options.db_table)} WHERE {quote(options.pk.column)} = %s"
        converters = []
        for index, field in enumerate(columns):
            expression = field.get_col(options.db_table)
            found = (*connection.ops.get_db_converters(expression), *field.get_db_converters(connection))
            if found:
                converters.append((index, expression, found))
        return cls(sql, columns, tuple(converters))

    def run(self, pk: Any, model: Any, connection: Any) -> Any:
        """Return the row as an instance without its other fields, ``None`` where there is none."""
        is_locked = connection.in_atomic_block and connection.features.has_select_for_update
        sql = f"{self.sql} {connection.ops.for_update_sql()}" if is_locked else self.sql
        with connection.cursor() as cursor:
            cursor.execute(sql, [model._meta.pk.get_db_prep_value(pk, connection)])
            found = cursor.fetchone()
        if found is None:
            return None
        values = list(found)
        for index, expression, converters in self.converters:
            for convert in converters:
                values[index] = convert(values[index], expression, connection)
        return model.from_db(connection.alias, [field.attname for field in self.columns], values)


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


def is_as_stored(plan: Plan, instance: Any, pk: Any) -> bool:
    """Tell whether the instance's values are what the database now holds, so that they need not be read back.

    ``pk`` is the field of the primary key of the table that was written.
    """
    checks = plan.statements.get(pk)
    if checks is None:
        checks = plan.statements[pk] = tuple((column.attname, *_plain_type(column)) for column in (pk, *plan.fields))
    values = instance.__dict__
    for attname, expected, is_plain in checks:
        try:
            value = values[attname]
        except KeyError:
            return False
        if value is not None and not (type(value) is expected and (is_plain is None or is_plain(value))):
            return False
    return True


def _plain_type(field: Any) -> tuple[type | None, Callable[[Any], bool] | None]:
    """Return the type whose values a column stores as they are, and what else must hold of a value."""
    target = getattr(field, "target_field", field)
    internal = target.get_internal_type()
    if internal == "DecimalField":
        return decimal.Decimal, partial(_has_places, target.decimal_places)
    if internal == "DateTimeField":
        return dt.datetime, _is_utc
    # A project's own field class may store something else than the value it is given.
    return (PLAIN_TYPES.get(internal) if type(target).__module__.startswith("django.") else None), None


def _has_places(places: int, value: decimal.Decimal) -> bool:
    # The database gives each its own number of places, and SQLite keeps fifteen digits.
    digits = value.as_tuple()
    return digits.exponent == -places and len(digits.digits) <= 15


def _is_utc(value: dt.datetime) -> bool:
    return value.tzinfo is dt.UTC


def load_rows_of(plan: Plan, objects: Any, fields: Sequence[Any] | None, using: str) -> Iterable[Any]:
    """Read the stored rows behind what a collector holds: a query set, or instances."""
    if not isinstance(objects, models.QuerySet):
        return load_rows(plan, [instance.pk for instance in objects], fields, using).values()
    # As a subquery: the rows may be chosen by joins and aggregates, and no database locks the result of those.
    keys = objects.using(using).order_by().values("pk")
    return _narrowed(plan, plan.model._base_manager.using(using).filter(pk__in=keys), fields, using)
