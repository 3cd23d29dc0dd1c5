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

from declbind.batches import in_batches
from declbind.serializers.lists import load_lists

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
        rows.update((row.pk, row) for row in narrow(chosen, fields, using))
    if fields is plan.fields:
        load_lists(list(rows.values()), plan.m2m, using)
    return rows


def load_row(plan: Plan, pk: Any, fields: Sequence[Any] | None, using: str) -> Any:
    """Read one row like ``load_rows``; ``None`` where there is none, or the model's base manager hides it."""
    if fields is None or not plan.is_plain:
        return next(iter(load_rows(plan, [pk], fields, using).values()), None)
    connection = connections[using]
    key = (tuple(fields), using)
    statement = plan.statements.get(key)
    if statement is None:
        statement = plan.statements[key] = RowStatement.build(plan.model, fields, connection)
    return statement.run(pk, connection)


@dataclass(frozen=True)
class Columns:
    """Columns of a model's own table, in the order of the model, and how to make a row of their values."""

    model: Any
    fields: tuple[Any, ...]
    converters: tuple[tuple[int, Any, tuple[Any, ...]], ...]

    @classmethod
    def build(cls, model: type[models.Model], fields: Iterable[Any], connection: Any) -> Columns:
        """Take the key and ``fields``."""
        options: Any = model._meta
        wanted = {options.pk, *fields}
        chosen = tuple(field for field in options.concrete_fields if field in wanted)
        converters = []
        for index, field in enumerate(chosen):
            expression = field.get_col(options.db_table)
            found = (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection))
            if found:
                converters.append((index, expression, found))
        return cls(model, chosen, tuple(converters))

    def names(self, connection: Any) -> str:
        """Return the columns as SQL."""
        return ", ".join(connection.ops.quote_name(field.column) for field in self.fields)

    def make_row(self, values: Sequence[Any], connection: Any) -> Any:
        """Return what the database gave as an instance without its other fields."""
        converted = list(values)
        for index, expression, converters in self.converters:
            for convert in converters:
                converted[index] = convert(converted[index], expression, connection)
        return self.model.from_db(connection.alias, [field.attname for field in self.fields], converted)


@dataclass(frozen=True)
class RowStatement:
    """The one query that most saves of a bound row need, worked out once: a query set takes ten times longer."""

    sql: str
    columns: Columns

    @classmethod
    def build(cls, model: type[models.Model], fields: Sequence[Any], connection: Any) -> RowStatement:
        """Work out the statement for columns of the model's own table."""
        options: Any = model._meta
        columns = Columns.build(model, fields, connection)
        quote = connection.ops.quote_name
        table, key = quote(options.db_table), quote(options.pk.column)
        return cls(f"SELECT {columns.names(connection)} FROM {table} WHERE {key} = %s", columns)

    def run(self, pk: Any, connection: Any) -> Any:
        """Return the row, ``None`` where there is none."""
        is_locked = connection.in_atomic_block and connection.features.has_select_for_update
        sql = f"{self.sql} {connection.ops.for_update_sql()}" if is_locked else self.sql
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.columns.model._meta.pk.get_db_prep_value(pk, connection)])
            found = cursor.fetchone()
        return None if found is None else self.columns.make_row(found, connection)


def narrow(rows: models.QuerySet[Any], fields: Sequence[Any] | None, using: str) -> models.QuerySet[Any]:
    """Return a query for only the columns of ``fields`` (all for ``None``), locked where the database can.

    In the order of their keys, so that two who lock the same rows do not wait for each other.
    """
    options: Any = rows.model._meta
    if fields is not None:
        rows = rows.only(options.pk.name, *(field.name for field in fields))
    connection = connections[using]
    if connection.in_atomic_block and connection.features.has_select_for_update:
        # The row itself and, under multi-table inheritance, its parents; what a manager joins is not ours to lock.
        links = [link.name for link in options.parents.values() if link is not None]
        of = ("self", *links) if connection.features.has_select_for_update_of else ()
        rows = rows.select_for_update(of=of)
    return rows.order_by("pk")


def stream_rows(rows: models.QuerySet[Any]) -> Iterator[Any]:
    """Read rows without holding all of them."""
    return rows.iterator(chunk_size=2_000)


def keys_of(rows: models.QuerySet[Any], using: str, column: str = "pk") -> models.QuerySet[Any] | list[Any]:
    """Return the keys of rows that are about to be written: a query that may be a subquery, or the keys themselves.

    Call it in the transaction of the write. MySQL and MariaDB read a subquery from the snapshot of the transaction, but
    write to rows in their present state. There the keys are read at once, and their rows locked.
    """
    keys = rows.order_by().values(column)
    keys.query.select_for_update = False
    if connections[using].vendor != "mysql":
        return keys
    is_alone = sum(1 for count in rows.query.alias_refcount.values() if count) < 2
    keys = keys.using(using).values_list(column, flat=True)
    # Joined rows are not ours to lock.
    return list(keys.select_for_update() if is_alone and connections[using].in_atomic_block else keys)


def is_as_stored(plan: Plan, instance: Any, pk: Any) -> bool:
    """Tell whether the instance's values are what the database now holds, so that they need not be read back.

    ``pk`` is the field of the primary key of the table that was written.
    """
    checks = plan.statements.get(pk)
    if checks is None:
        # What the database works out of other columns is, in the instance, what it was when this was read.
        is_computed = any(column.generated for column in plan.fields)
        columns = () if is_computed else (pk, *plan.fields)
        checks = plan.statements[pk] = tuple(
            (column.attname, _keeps_null(column), *_plain_type(column)) for column in columns
        )
    if not checks:
        return False
    values = instance.__dict__
    for attname, keeps_null, expected, is_plain in checks:
        try:
            value = values[attname]
        except KeyError:
            return False
        if value is None:
            if not keeps_null:
                return False
        elif not (type(value) is expected and (is_plain is None or is_plain(value))):
            return False
    return True


def _keeps_null(field: Any) -> bool:
    """Tell whether a column of an instance that has no value is stored so: the database may make one, or a project."""
    return not field.generated and type(field).__module__.startswith("django.")


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
