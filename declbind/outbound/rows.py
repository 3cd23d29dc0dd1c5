"""Read stored rows, only as much of them as a plan needs, and tell when there is no need to.

Rows are read as the values of their columns. Neither the managers of a model nor its instances take part. A base
manager that hides rows is asked for their keys alone.
"""

from __future__ import annotations

import datetime as dt
import decimal
import inspect
import itertools
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections, models, transaction
from django.db.models import query_utils
from django.db.models.fields import related_descriptors

from declbind.batches import in_batches
from declbind.serializers.lists import load_lists
from declbind.stored_rows import StoredRow
from declbind.stored_values import is_stock, key_field

from .catalog import facts_of, savepoint_for
from .plans import Plan

#: Rows that are held at the same time where there may be many.
STREAMED = 2_000
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


def reading(plan: Plan, using: str) -> AbstractContextManager[Any]:
    """Keep a read of a plan's rows that fails from ending the transaction of the host.

    A base manager of the project may query anything, so it is only asked inside of a savepoint.
    """
    return savepoint_for((plan.model,), using) if plan.shows_all else transaction.atomic(using=using)


def load_rows(plan: Plan, pks: Iterable[Any], fields: Sequence[Any] | None, using: str) -> dict[Any, StoredRow]:
    """Read rows by key, only the columns of ``fields`` (all for ``None``), locked where the database can.

    Rows that the base manager of their model hides are left out. Like everything here that reads, it may raise what
    the database or a manager raises; the transaction goes on all the same.
    """
    rows: dict[Any, StoredRow] = {}
    for some in in_batches(pks, using):
        rows.update((row.pk, row) for row in read_rows(plan, all_rows(plan.model, using).filter(pk__in=some), fields))
    if fields is plan.fields and plan.m2m:
        with savepoint_for((field.remote_field.through for field in plan.m2m), using):
            load_lists(list(rows.values()), plan.m2m, using)
    return rows


def load_row(plan: Plan, pk: Any, fields: Sequence[Any] | None, using: str) -> StoredRow | None:
    """Read one row like ``load_rows``; ``None`` where there is none, or the model's base manager hides it."""
    if fields is None or not plan.is_plain:
        return next(iter(load_rows(plan, [pk], fields, using).values()), None)
    connection = connections[using]
    key = (tuple(fields), using)
    statement = plan.statements.get(key)
    if statement is None:
        statement = plan.statements[key] = RowStatement.build(plan.model, fields, connection)
    with reading(plan, using):
        return statement.run(pk, connection)


def all_rows(model: type[models.Model], using: str) -> models.QuerySet[Any]:
    """Return the rows of a model, whatever its managers hide or add."""
    return models.QuerySet(model, using=using)


def read_rows(
    plan: Plan,
    rows: models.QuerySet[Any],
    fields: Sequence[Any] | None,
    limit: int | None = None,
    is_locked: bool = True,
) -> list[StoredRow]:
    """Return the rows of a query set that the base manager shows.

    If there are more than ``limit``, more than ``limit`` are returned, some of which may be hidden.
    """
    using = rows.db
    with reading(plan, using):
        names, values = _columns_of(rows, fields, using, is_locked)
        found = values if limit is None else values[: limit + 1]
        read = [StoredRow(plan.model, dict(zip(names, some, strict=True)), using) for some in found]
        if plan.shows_all or (limit is not None and len(read) > limit):
            return read
        return _shown(plan, read, using)


def stream_rows(plan: Plan, rows: models.QuerySet[Any], fields: Sequence[Any] | None) -> Iterator[StoredRow]:
    """Read rows like ``read_rows``, without holding all of them. To be used up inside of ``reading``."""
    using = rows.db
    names, values = _columns_of(rows, fields, using)
    found = values.iterator(chunk_size=STREAMED)
    while some := list(itertools.islice(found, STREAMED)):
        read = [StoredRow(plan.model, dict(zip(names, one, strict=True)), using) for one in some]
        yield from read if plan.shows_all else _shown(plan, read, using)


def load_keys(rows: models.QuerySet[Any]) -> list[Any]:
    """Return the keys of rows in their order, locked where the database can."""
    _, values = _columns_of(rows, (), rows.db)
    return [pk for (pk,) in values]


def _shown(plan: Plan, rows: list[StoredRow], using: str) -> list[StoredRow]:
    """Return those of rows that the base manager shows. A manager may join, group or annotate: only keys are asked."""
    shown: set[Any] = set()
    for some in in_batches([row.pk for row in rows], using):
        shown.update(plan.model._base_manager.using(using).filter(pk__in=some).order_by().values_list("pk", flat=True))
    return [row for row in rows if row.pk in shown]


def _columns_of(
    rows: models.QuerySet[Any], fields: Sequence[Any] | None, using: str, is_locked: bool = True
) -> tuple[list[str], models.QuerySet[Any, Any]]:
    """Return names of columns and a query for their values, locked where the database can.

    In the order of their keys, so that two who lock the same rows do not wait for each other. Under multi-table
    inheritance the rows of the parents are read and locked along.
    """
    model: Any = rows.model._meta.concrete_model
    chosen = model._meta.concrete_fields if fields is None else dict.fromkeys((model._meta.pk, *fields))
    names = [field.attname for field in chosen]
    _expect_columns(model, names, connections[using])
    if is_locked and _can_lock(model, connections[using]):
        rows = rows.select_for_update()
    return names, rows.order_by("pk").values_list(*names)


def _expect_columns(model: type[models.Model], names: Iterable[str], connection: Any) -> None:
    """Raise for columns that there are not: SQLite would read the text of a quoted name instead."""
    missing = facts_of(model, connection.alias).missing
    if missing and not missing.isdisjoint(names):
        raise LookupError(f"Expected the columns of {model._meta.label} in its table, got none for {sorted(missing)}.")


def _can_lock(model: type[models.Model], connection: Any) -> bool:
    # A view cannot be locked, if it is distinct or grouped.
    return (
        connection.in_atomic_block
        and connection.features.has_select_for_update
        and facts_of(model, connection.alias).is_lockable
    )


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

    def make_row(self, values: Sequence[Any], connection: Any) -> StoredRow:
        """Return what the database gave as a row."""
        found = {field.attname: value for field, value in zip(self.fields, values, strict=True)}
        for index, expression, converters in self.converters:
            attname = self.fields[index].attname
            for convert in converters:
                found[attname] = convert(found[attname], expression, connection)
        return StoredRow(self.model, found, connection.alias)


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

    def run(self, pk: Any, connection: Any) -> StoredRow | None:
        """Return the row, ``None`` where there is none."""
        _expect_columns(self.columns.model, [field.attname for field in self.columns.fields], connection)
        sql = self.sql
        if _can_lock(self.columns.model, connection):
            sql = f"{sql} {connection.ops.for_update_sql()}"
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.columns.model._meta.pk.get_db_prep_value(pk, connection)])
            found = cursor.fetchone()
        return None if found is None else self.columns.make_row(found, connection)


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


def stored_row(plan: Plan, instance: Any, pk: Any, using: str) -> StoredRow | None:
    """Return the row as an instance has it, ``None`` unless its values are what the database now holds.

    ``pk`` is the field of the primary key of the table that was written.
    """
    return take_values(plan, instance, pk, using) if is_as_stored(plan, instance, pk, using) else None


def take_values(plan: Plan, instance: Any, pk: Any, using: str) -> StoredRow:
    """Return the row of an instance that ``is_as_stored``."""
    values = instance.__dict__
    names = [pk.attname, *(field.attname for field in plan.fields)]
    return StoredRow(plan.model, {name: values[name] for name in names}, using)


def is_as_stored(plan: Plan, instance: Any, pk: Any, using: str) -> bool:
    """Tell whether the instance's values are what the database now holds, so that they need not be read back.

    So it is if nobody has a say but Django: in an ordinary table, by methods, fields and descriptors of Django's own,
    and by a value that the column stores as it is. ``pk`` is the field of the primary key of the table that was
    written.
    """
    key = (type(instance), pk, using)
    checks = plan.statements.get(key)
    if checks is None:
        checks = plan.statements[key] = _checks(plan, type(instance), pk)
    if not checks:
        return False
    facts = facts_of(plan.model, using)
    if not facts.is_ordinary:
        return False
    values, exact = instance.__dict__, facts.exact
    for attname, expected, is_plain in checks:
        value = values.get(attname, _MISSING)
        if value is not None and not (type(value) is expected and (is_plain is None or is_plain(value))):
            return False
        if attname not in exact:
            return False
    return True


_MISSING = object()
_Check = tuple[str, type | None, Callable[[Any], bool] | None]


def _checks(plan: Plan, cls: type[models.Model], pk: Any) -> tuple[_Check, ...]:
    """Return what must hold of an instance's values; nothing where they cannot be relied on."""
    columns = (pk, *plan.fields)
    if not _is_saved_by_django(cls) or not all(_is_djangos_own(cls, column) for column in columns):
        return ()
    return tuple(dict.fromkeys((column.attname, *_plain_type(column)) for column in columns))


def _is_saved_by_django(cls: type[models.Model]) -> bool:
    """Tell whether no code of the project stands between an instance and the statement that saves it."""
    # A release of Django may not have a method any more, and another one in its place.
    methods = ((getattr(cls, name, None), getattr(models.Model, name, None)) for name in _SAVING)
    return all(own is not None and own is djangos for own, djangos in methods) and (
        cls.__getattribute__ is object.__getattribute__
    )


#: The methods of a model that decide what is stored. The others are wrapped by capture, or call these.
_SAVING = ("_do_update", "_do_insert")
#: What Django puts on a class for a column that keeps the value that it is given.
_DESCRIPTORS = (
    getattr(query_utils, "DeferredAttribute", None),
    getattr(related_descriptors, "ForeignKeyDeferredAttribute", None),
)


def _is_djangos_own(cls: type[models.Model], column: Any) -> bool:
    """Tell whether a column keeps what an instance has; what the database works out itself, an instance cannot know."""
    return (
        not column.generated
        and type(column).__module__.startswith("django.")
        and is_stock(column)
        and type(inspect.getattr_static(cls, column.attname, None)) in _DESCRIPTORS
    )


def _plain_type(field: Any) -> tuple[type | None, Callable[[Any], bool] | None]:
    """Return the type whose values a column stores as they are, and what else must hold of a value."""
    target = key_field(field)
    internal = target.get_internal_type()
    if internal == "DecimalField":
        return decimal.Decimal, partial(_has_places, target.decimal_places)
    if internal == "DateTimeField":
        return dt.datetime, _is_utc
    if internal == "FloatField":
        return float, math.isfinite
    if internal in ("CharField", "SlugField") and target.max_length is not None:
        return str, partial(_fits, target.max_length)
    return PLAIN_TYPES.get(internal), None


def _has_places(places: int, value: decimal.Decimal) -> bool:
    # The database gives each its own number of places, and SQLite keeps fifteen digits.
    digits = value.as_tuple()
    return digits.exponent == -places and len(digits.digits) <= 15


def _is_utc(value: dt.datetime) -> bool:
    return value.tzinfo is dt.UTC


def _fits(length: int, value: str) -> bool:
    # PostgreSQL cuts blanks off at the end of what is too long.
    return len(value) <= length
