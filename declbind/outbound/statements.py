"""Extensions of the statements that Django's compilers write, so that they return rows or insert events.

A statement is recognised by its query and extended by its compiler. The text of the statement is never parsed, because
execute wrappers and cursors of other packages may add text to it, rewrite it or repeat it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from django.db import NotSupportedError, connections, models
from django.db.models.sql import constants

from declbind.django_types import Column, Connection, Cursor, Key, Query, SqlValue, column_name
from declbind.stored_rows import StoredRow

from .rows import Columns

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

#: The names by which a connection finds its compilers.
INSERT, UPDATE = "SQLInsertCompiler", "SQLUpdateCompiler"
#: The factory of a statement's compiler: its class, or a function in its place.
MakeCompiler = Callable[..., "SQLCompiler"]


class Extension(Protocol):
    """An extension of an update."""

    def takes(self, query: Query) -> bool:
        """Return whether the statement of a query is to be extended."""

    def extend(self, sql: str, params: Sequence[SqlValue]) -> tuple[str, Sequence[SqlValue]]:
        """Return the extended statement and its parameters."""

    def finish(self, cursor: Cursor) -> int:
        """Read the result of the executed statement; return the number of rows that it updated."""


class Returned:
    """The rows that the statements of a block wrote. ``is_complete`` says whether every statement returned its rows."""

    def __init__(self, model: type[models.Model], fields: Iterable[Column], connection: Connection) -> None:
        self.rows: list[StoredRow] = []
        self.is_complete = True
        self._connection = connection
        self._columns = Columns.build(model, fields, connection)
        self._model = model._meta.concrete_model

    @property
    def fields(self) -> Sequence[Column]:
        """Return the fields whose columns are returned."""
        return self._columns.fields

    def find_keys(self) -> list[Key] | None:
        """Return the keys of the rows, or ``None`` if not all are known."""
        return [row.pk for row in self.rows] if self.is_complete else None

    def takes(self, query: Query) -> bool:
        """Return whether a query writes to the model's own table, and its statement can return rows."""
        if query.get_meta().concrete_model is not self._model:
            return False
        # A wrapper may rewrite an update so that it cannot be extended. The rows are then read by their keys.
        if getattr(query, "related_updates", None) or has_wrappers(self._connection):
            self.is_complete = False
            return False
        return True

    def extend(self, sql: str, params: Sequence[SqlValue]) -> tuple[str, Sequence[SqlValue]]:
        """Return the statement with the columns that it returns."""
        return f"{sql} RETURNING {self._columns.names(self._connection)}", params

    def finish(self, cursor: Cursor) -> int:
        """Store the rows that a statement returned."""
        values = fetch(cursor, [column_name(field) for field in self._columns.fields])
        if values is None:
            self.is_complete = False
        else:
            self.rows += [self._columns.make_row(row, self._connection) for row in values]
        count: int = cursor.rowcount
        return count


class Counted:
    """An extension that leaves updates of a model's own table unchanged and counts the rows that they write."""

    def __init__(self, model: type[models.Model]) -> None:
        self._model = model._meta.concrete_model
        self.count = 0

    def takes(self, query: Query) -> bool:
        """Return whether a query writes to the table."""
        return query.get_meta().concrete_model is self._model

    def extend(self, sql: str, params: Sequence[SqlValue]) -> tuple[str, Sequence[SqlValue]]:
        """Return the statement unchanged."""
        return sql, params

    def finish(self, cursor: Cursor) -> int:
        """Return the number of rows."""
        count: int = cursor.rowcount
        self.count += max(count, 0)
        return count


@contextlib.contextmanager
def extended_update(extension: Extension, connection: Connection) -> Iterator[None]:
    """Extend the updates of the block that ``extension`` takes."""
    with _compilers(connection, UPDATE, functools.partial(_update_compiler, extension)):
        yield


@contextlib.contextmanager
def returning_update(model: type[models.Model], fields: Iterable[Column], using: str) -> Iterator[Returned]:
    """Collect the rows that updates of the block write to a model's own table, with only keys and ``fields``."""
    connection = connections[using]
    returned = Returned(model, fields, connection)
    if connection.vendor not in ("postgresql", "sqlite") or not _returns_rows(connection):
        # MariaDB returns only rows that it inserted or deleted.
        returned.is_complete = False
        yield returned
        return
    with extended_update(returned, connection):
        yield returned


@contextlib.contextmanager
def returning_insert(model: type[models.Model], using: str) -> Iterator[Returned]:
    """Collect the keys of the rows that conflict-ignoring inserts of the block actually insert."""
    connection = connections[using]
    returned = Returned(model, (), connection)
    if not _returns_rows(connection):
        returned.is_complete = False
        yield returned
        return
    with _compilers(connection, INSERT, functools.partial(_insert_compiler, returned)):
        yield returned


def has_wrappers(connection: Connection) -> bool:
    """Return whether an execute wrapper of another package may change the statements of a connection."""
    return any(not getattr(wrapper, "declbind_leaves_text", False) for wrapper in connection.execute_wrappers)


def _returns_rows(connection: Connection) -> bool:
    return connection.features.can_return_rows_from_bulk_insert


@contextlib.contextmanager
def _compilers(connection: Connection, name: str, extend: Callable[[MakeCompiler], MakeCompiler]) -> Iterator[None]:
    """Replace the compilers with one name on this connection (and thus in this thread) inside the block."""
    original, own = connection.ops.compiler, vars(connection.ops)
    shadowed = own.get("compiler")

    def compiler(compiler_name: str) -> MakeCompiler:
        found = original(compiler_name)
        return extend(found) if compiler_name == name else found

    own["compiler"] = compiler
    try:
        yield
    finally:
        if shadowed is None:
            del own["compiler"]
        else:
            own["compiler"] = shadowed


def _update_compiler(extension: Extension, base: MakeCompiler) -> MakeCompiler:
    return functools.partial(_extended_update_class(base), extension)


@functools.cache
def _extended_update_class(base: MakeCompiler) -> MakeCompiler:
    # Each backend has its own class, which is only known once a compiler is requested.
    class ExtendedUpdate(base):  # type: ignore[misc, valid-type]
        """The compiler of an update that is extended while it is executed."""

        def __init__(self, extension: Extension, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._extension, self._is_executed = extension, False

        def as_sql(self, *args: object, **kwargs: object) -> tuple[str, Sequence[SqlValue]]:
            sql, params = super().as_sql(*args, **kwargs)
            return self._extension.extend(sql, params) if sql and self._is_executed else (sql, params)

        def execute_sql(self, result_type: object, *args: object, **kwargs: object) -> object:
            if result_type != constants.ROW_COUNT or not self._extension.takes(self.query):
                return super().execute_sql(result_type, *args, **kwargs)
            self._is_executed = True
            cursor = super().execute_sql(constants.CURSOR, *args, **kwargs)
            if not cursor:  # the query matches nothing, and no statement was executed
                return 0
            with contextlib.closing(cursor):
                return self._extension.finish(cursor)

    return ExtendedUpdate


def _insert_compiler(returned: Returned, base: MakeCompiler) -> MakeCompiler:
    return functools.partial(_returning_insert_class(base), returned)


@functools.cache
def _returning_insert_class(base: MakeCompiler) -> MakeCompiler:
    class ReturningInsert(base):  # type: ignore[misc, valid-type] # like ``ExtendedUpdate``
        """The compiler of an insert that returns its rows although Django does not ask for any."""

        def __init__(self, returned: Returned, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._returned = returned

        def execute_sql(self, returning_fields: object = None, *args: object, **kwargs: object) -> object:
            if self.query.get_meta().concrete_model is not self._returned._model or args or kwargs:
                return super().execute_sql(returning_fields, *args, **kwargs)
            if returning_fields:
                self._returned.is_complete = False
                return super().execute_sql(returning_fields)
            # Django's own way to return rows expects one for each object passed in.
            self.returning_fields = list(self._returned.fields)
            with self.connection.cursor() as cursor:
                for sql, params in self.as_sql():
                    cursor.execute(sql, params)
                    self._returned.finish(cursor)
            return []

    return ReturningInsert


def fetch(cursor: Cursor, names: list[str]) -> list[tuple[object, ...]] | None:
    """Return the rows of the result set that has columns with these names, or ``None`` if there is none.

    There may be other result sets, of text that another package put around the statement.
    """
    while True:
        description = cursor.description
        if description is not None and [column[0] for column in description] == names:
            found: list[tuple[object, ...]] = cursor.fetchall()
            return found
        try:
            if not cursor.nextset():
                return None
        except (AttributeError, NotSupportedError):  # SQLite and psycopg 2 have a single result set
            return None
