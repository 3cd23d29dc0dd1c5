"""Reading of stored rows, limited to the columns that a plan needs.

Rows are read as column values, without the model's managers and without making instances. If the base manager hides
rows, it is queried only for the keys of the visible ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connections, models, transaction

from declbind.batches import in_batches
from declbind.django_types import Column, Connection, Converter, Key, Rows, Selection, column_name, through_of
from declbind.serializers.lists import load_lists
from declbind.stored_rows import StoredRow

from .catalog import facts_of, savepoint_for
from .plans import Plan

if TYPE_CHECKING:
    from django.db.models.expressions import Expression

#: The number of rows held in memory at the same time when there may be many.
STREAMED = 2_000


def reading(plan: Plan, using: str) -> AbstractContextManager[object]:
    """Keep a failing read of a plan's rows from ending the transaction of the host.

    A base manager of the project may run any query, so it is only called inside a savepoint.
    """
    return savepoint_for((plan.model,), using) if plan.shows_all else transaction.atomic(using=using)


def load_rows(plan: Plan, pks: Iterable[Key], fields: Sequence[Column] | None, using: str) -> dict[Key, StoredRow]:
    """Read rows by key, and lock them if the database can.

    Only the columns of ``fields`` are read (``None`` means all). Rows that the base manager hides are left out. Like
    all reads here, this may raise any error of the database or of a manager; the transaction stays usable.
    """
    rows: dict[Key, StoredRow] = {}
    for some in in_batches(pks, using):
        rows.update((row.pk, row) for row in read_rows(plan, all_rows(plan.model, using).filter(pk__in=some), fields))
    if fields is plan.fields and plan.m2m:
        with savepoint_for(map(through_of, plan.m2m), using):
            load_lists(list(rows.values()), plan.m2m, using)
    return rows


def load_row(plan: Plan, pk: Key, fields: Sequence[Column] | None, using: str) -> StoredRow | None:
    """Read one row like ``load_rows``; ``None`` if it is missing or the model's base manager hides it."""
    if fields is None or not plan.is_plain:
        return next(iter(load_rows(plan, [pk], fields, using).values()), None)
    connection = connections[using]
    key = (tuple(fields), using)
    statement: RowStatement | None = plan.statements.get(key)
    if statement is None:
        statement = plan.statements[key] = RowStatement.build(plan.model, fields, connection)
    with reading(plan, using):
        return statement.run(pk, connection)


def all_rows(model: type[models.Model], using: str) -> Rows:
    """Return all rows of a model, regardless of its managers."""
    return models.QuerySet(model, using=using)


def read_rows(
    plan: Plan,
    rows: Rows,
    fields: Sequence[Column] | None,
    limit: int | None = None,
    is_locked: bool = True,
) -> list[StoredRow]:
    """Return the rows of a query set that the base manager shows.

    With a ``limit``, at most one row more than the limit is read, to show that there are too many; some of the rows may
    then be hidden ones.
    """
    using = rows.db
    with reading(plan, using):
        names, values = _columns_of(rows, fields, using, is_locked)
        found = values if limit is None else values[: limit + 1]
        read = [StoredRow(plan.model, dict(zip(names, some, strict=True)), using) for some in found]
        if plan.shows_all or (limit is not None and len(read) > limit):
            return read
        return _shown(plan, read, using)


def stream_rows(plan: Plan, rows: Rows, fields: Sequence[Column] | None) -> Iterator[StoredRow]:
    """Read rows like ``read_rows``, without holding all of them. Consume the iterator inside ``reading``."""
    using = rows.db
    names, values = _columns_of(rows, fields, using)
    found = values.iterator(chunk_size=STREAMED)
    while some := list(itertools.islice(found, STREAMED)):
        read = [StoredRow(plan.model, dict(zip(names, one, strict=True)), using) for one in some]
        yield from read if plan.shows_all else _shown(plan, read, using)


def shows_every_row(plan: Plan, using: str) -> bool:
    """Return whether the base manager of a plan's model hides no row, according to its current query.

    A manager of the project may exist only to make other instances or to rename columns.
    """
    if plan.shows_all:
        return True
    try:
        with reading(plan, using):
            shown, stored = (
                str(rows.order_by().values("pk").query)
                for rows in (plan.model._base_manager.using(using).all(), all_rows(plan.model, using))
            )
    except Exception:  # any error of the project's code, or a query that matches nothing
        return False
    return shown == stored


def load_keys(rows: Rows) -> list[Key]:
    """Return the keys of rows in their order, locked if the database can."""
    _, values = _columns_of(rows, (), rows.db)
    return [pk for (pk,) in values]


def _shown(plan: Plan, rows: list[StoredRow], using: str) -> list[StoredRow]:
    """Return the rows that the base manager shows. It may join, group or annotate, so only keys are queried."""
    shown: set[Key] = set()
    for some in in_batches([row.pk for row in rows], using):
        shown.update(plan.model._base_manager.using(using).filter(pk__in=some).order_by().values_list("pk", flat=True))
    return [row for row in rows if row.pk in shown]


def _columns_of(
    rows: Rows, fields: Sequence[Column] | None, using: str, is_locked: bool = True
) -> tuple[list[str], models.QuerySet[models.Model, tuple[object, ...]]]:
    """Return names of columns and a query for their values, locked if the database can.

    The query is ordered by key, so that two transactions which lock the same rows do not deadlock. Under multi-table
    inheritance the rows of the parents are read and locked too.
    """
    model = rows.model._meta.concrete_model or rows.model
    chosen = model._meta.concrete_fields if fields is None else dict.fromkeys((model._meta.pk, *fields))
    names = [field.attname for field in chosen]
    _expect_columns(model, names, connections[using])
    if is_locked and _can_lock(model, connections[using]):
        rows = rows.select_for_update()
    return names, rows.order_by("pk").values_list(*names)


def _expect_columns(model: type[models.Model], names: Iterable[str], connection: Connection) -> None:
    """Raise an error for missing columns, because SQLite would return the text of the quoted name instead."""
    missing = facts_of(model, connection.alias).missing
    if missing and not missing.isdisjoint(names):
        raise LookupError(f"Expected the columns of {model._meta.label} in its table, got none for {sorted(missing)}.")


def _can_lock(model: type[models.Model], connection: Connection) -> bool:
    # A view cannot be locked if it is distinct or grouped.
    return (
        connection.in_atomic_block
        and connection.features.has_select_for_update
        and facts_of(model, connection.alias).is_lockable
    )


@dataclass(frozen=True)
class Columns:
    """Columns of a model's own table, in the order of the model, and the conversion of their values to a row."""

    model: type[models.Model]
    fields: tuple[Column, ...]
    converters: tuple[tuple[int, Expression, tuple[Converter, ...]], ...]

    @classmethod
    def build(cls, model: type[models.Model], fields: Iterable[Column], connection: Connection) -> Columns:
        """Build the columns of the key and ``fields``."""
        options = model._meta
        wanted = {options.pk, *fields}
        chosen = tuple(field for field in options.concrete_fields if field in wanted)
        converters = []
        for index, field in enumerate(chosen):
            expression = field.get_col(options.db_table)
            found = (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection))
            if found:
                converters.append((index, expression, found))
        return cls(model, chosen, tuple(converters))

    def names(self, connection: Connection) -> str:
        """Return the columns as SQL."""
        return ", ".join(connection.ops.quote_name(column_name(field)) for field in self.fields)

    def make_row(self, values: Sequence[object], connection: Connection) -> StoredRow:
        """Return the values from the database as a row."""
        found = {field.attname: value for field, value in zip(self.fields, values, strict=True)}
        for index, expression, converters in self.converters:
            attname = self.fields[index].attname
            for convert in converters:
                found[attname] = convert(found[attname], expression, connection)
        return StoredRow(self.model, found, connection.alias)


@dataclass(frozen=True)
class RowStatement:
    """The query that most saves of a bound row need, prepared once, because a query set takes ten times longer."""

    sql: str
    columns: Columns

    @classmethod
    def build(cls, model: type[models.Model], fields: Sequence[Column], connection: Connection) -> RowStatement:
        """Prepare the statement for columns of the model's own table."""
        options = model._meta
        columns = Columns.build(model, fields, connection)
        quote = connection.ops.quote_name
        table, key = quote(options.db_table), quote(column_name(options.pk))
        return cls(f"SELECT {columns.names(connection)} FROM {table} WHERE {key} = %s", columns)

    def run(self, pk: Key, connection: Connection) -> StoredRow | None:
        """Return the row, or ``None`` if it does not exist."""
        _expect_columns(self.columns.model, [field.attname for field in self.columns.fields], connection)
        sql = self.sql
        if _can_lock(self.columns.model, connection):
            sql = f"{sql} {connection.ops.for_update_sql()}"
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.columns.model._meta.pk.get_db_prep_value(pk, connection)])
            found = cursor.fetchone()
        return None if found is None else self.columns.make_row(found, connection)


def keys_of(rows: Rows, using: str, column: str = "pk") -> Selection | list[Key]:
    """Return the keys of rows that are about to be written, as a query for a subquery or as a list.

    Call it in the transaction of the write. MySQL and MariaDB read a subquery from the snapshot of the transaction, but
    write to the present state of the rows. On these databases the keys are read at once, and their rows locked.
    """
    keys = rows.order_by().values(column)
    keys.query.select_for_update = False
    if connections[using].vendor != "mysql":
        return keys
    is_alone = sum(1 for count in rows.query.alias_refcount.values() if count) < 2
    keys = keys.using(using).values_list(column, flat=True)
    # Joined rows of other tables must not be locked.
    return list(keys.select_for_update() if is_alone and connections[using].in_atomic_block else keys)
