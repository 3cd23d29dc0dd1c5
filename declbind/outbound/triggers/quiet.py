"""Keep triggers quiet about what the ORM's hooks report, without asking whether there are any."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

from declbind.outbound.plans import Index

from .postgresql import QUIET_PREFIX
from .sqlite import QUIET_TABLE


def quiet(index: Index, using: str) -> AbstractContextManager[None]:
    """Have no trigger report what the block writes to tables that triggers may watch.

    Only Django's own statements are kept quiet, one by one: what else happens in the block is reported.
    """
    # Without triggers, each save of a bound row comes by here for nothing.
    return _kept_quiet(index, using) if index.marked_tables() else _NOTHING


_NOTHING = contextlib.nullcontext()


@contextlib.contextmanager
def _kept_quiet(index: Index, using: str) -> Iterator[None]:
    tables = index.marked_tables()
    connection = connections[using]
    if connection.vendor not in _QUIET:
        yield
        return
    statement = _statement(tables, using)
    say = _QUIET[connection.vendor]

    def run(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        found = statement.match(sql) if isinstance(sql, str) else None
        if found is None:
            return execute(sql, params, many, context)
        return say(execute, (sql, params, many, context), found[1].strip('"'))

    with connection.execute_wrapper(run):
        yield


@functools.lru_cache(maxsize=16)
def _statement(tables: frozenset[str], using: str) -> re.Pattern[str]:
    """Return what matches Django's statements that write one of the tables."""
    names = "|".join(re.escape(connections[using].ops.quote_name(name)) for name in tables)
    # What goes along with its events is a part of a larger statement (see ``joint_update``).
    return re.compile(
        rf"(?:WITH written AS \()?(?:INSERT (?:OR IGNORE |IGNORE )?INTO|UPDATE|DELETE FROM) ({names})[ \n]"
    )


def _by_prefix(execute: Callable[..., Any], call: tuple[Any, ...], table: str) -> Any:
    sql, *rest = call
    return execute(f"{QUIET_PREFIX}{sql}", *rest)


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
