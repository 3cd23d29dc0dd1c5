"""Have a statement of Django's return the rows that it wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, models

from .rows import Columns

INSERT, UPDATE = r"INSERT (OR IGNORE |IGNORE )?INTO {table} ", r"UPDATE {table} SET "


class Returned:
    """The rows that were written. ``is_complete`` tells whether each statement could be asked for its rows."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.is_complete = True


@contextmanager
def returning(model: type[models.Model], fields: Iterable[Any], statement: str, using: str) -> Iterator[Returned]:
    """Collect the rows that statements of the block write to a model's table, with only their keys and ``fields``.

    ``statement`` is ``INSERT`` or ``UPDATE``. An insert that ignores conflicts returns what it really inserted. Where
    the database cannot tell, nothing is changed and the result says so.
    """
    connection, options = connections[using], model._meta
    returned = Returned()
    if not _can_return(statement, connection):
        returned.is_complete = False
        yield returned
        return
    pattern = re.compile(statement.format(table=re.escape(connection.ops.quote_name(options.db_table))))
    columns = Columns.build(model, fields, connection)

    def run(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not isinstance(sql, str) or not pattern.match(sql):
            return execute(sql, params, many, context)
        if many or " RETURNING " in sql:
            returned.is_complete = False
            return execute(sql, params, many, context)
        result = execute(f"{sql} RETURNING {columns.names(connection)}", params, many, context)
        returned.rows += [columns.make_row(values, connection) for values in context["cursor"].fetchall()]
        return result

    with connection.execute_wrapper(run):
        yield returned


def _can_return(statement: str, connection: Any) -> bool:
    if statement is UPDATE and connection.vendor not in ("postgresql", "sqlite"):
        return False  # MariaDB returns what it inserted and deleted, and no more.
    return bool(connection.features.can_return_rows_from_bulk_insert)
