"""Keep triggers quiet about what the ORM's hooks report, without asking whether there are any."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import connections, transaction

from declbind.outbound.detector import reporting
from declbind.outbound.index import Index

from .postgresql import QUIET_PREFIX
from .sqlite import QUIET_TABLE


def quiet(index: Index, using: str) -> AbstractContextManager[object]:
    """Have nobody else report what the block writes to bound tables: neither triggers nor the detector.

    Only Django's own statements are kept quiet, one by one: of what else happens in the block, triggers tell.
    """
    # Each save of a bound row comes by here, mostly where there are no triggers.
    return _kept_quiet(index, using) if index.marked_tables() else reporting()


@contextlib.contextmanager
def _kept_quiet(index: Index, using: str) -> Iterator[None]:
    tables = index.marked_tables()
    connection = connections[using]
    with reporting():
        if connection.vendor not in _QUIET:
            yield
            return
        # Outside of a transaction a process that ends would leave the table's name where it stands.
        is_sqlite = connection.vendor == "sqlite"
        whole = transaction.atomic(using=using, savepoint=False) if is_sqlite else nullcontext()
        with whole, connection.execute_wrapper(_wrapper(tables, using)):
            yield


@functools.lru_cache(maxsize=16)
def _wrapper(tables: frozenset[str], using: str) -> Callable[..., Any]:
    connection = connections[using]
    names = "|".join(re.escape(connection.ops.quote_name(name)) for name in tables)
    # What goes along with its events is a part of a larger statement (see ``joint_update``).
    statement = re.compile(
        rf"(?:WITH written AS \()?(?:INSERT (?:OR IGNORE |IGNORE )?INTO|UPDATE|DELETE FROM) ({names})[ \n]"
    )
    say = _QUIET[connection.vendor]

    def run(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        found = statement.match(sql) if isinstance(sql, str) else None
        if found is None:
            return execute(sql, params, many, context)
        return say(execute, (sql, params, many, context), found[1].strip('"'))

    return run


def _by_prefix(execute: Callable[..., Any], call: tuple[Any, ...], table: str) -> Any:
    sql, *rest = call
    return execute(QUIET_PREFIX.format(table=table) + sql, *rest)


def _by_table(execute: Callable[..., Any], call: tuple[Any, ...], table: str) -> Any:
    """Name the table while the statement runs. A statement that fails takes the name along when it is rolled back."""
    # Past Django's cursor, so that nobody counts these as queries of the application.
    raw = call[-1]["connection"].connection
    raw.execute(f"INSERT INTO {QUIET_TABLE} (name) VALUES (?)", [table])
    try:
        return execute(*call)
    finally:
        raw.execute(f"DELETE FROM {QUIET_TABLE} WHERE name = ?", [table])


#: How each database is told; others have no triggers of ours.
_QUIET: dict[str, Callable[..., Any]] = {"postgresql": _by_prefix, "sqlite": _by_table}
