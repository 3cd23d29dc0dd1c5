"""Insert a row's events by the very statement that updates the row, where the database can.

A statement of its own costs a save a second trip to the database and, in autocommit, two more for a transaction around
both. PostgreSQL takes the update as a part of a larger statement, which is done whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections, models

from . import entries
from .known_values import is_as_stored
from .plans import Plan


class CannotJoinError(Exception):
    """Say that an update came in another form than expected; it has not been executed."""


def can_join(plan: Plan, instance: Any, using: str) -> bool:
    """Tell whether the events of an instance that is about to be updated are known already, and can go along.

    So it is when each value that they are made of is that of the instance, storing changes none of them, and no code of
    the project has a say, which may want to see what was written.
    """
    state, connection = instance._state, connections[using]
    return (
        connection.vendor == "postgresql"
        # Who manages transactions by hand has no place for what is to be done after the commit, but inside of atomic().
        and (connection.in_atomic_block or connection.get_autocommit())
        and not state.adding
        and state.db == using
        and instance.pk is not None
        and _may_join(plan)
        and is_as_stored(plan, instance, plan.model._meta.pk, using)
    )


def _may_join(plan: Plan) -> bool:
    key = "may join"
    if key not in plan.statements:
        options: Any = plan.model._meta
        has_update = any(not (column.primary_key or column.generated) for column in options.concrete_fields)
        plan.statements[key] = (
            plan.is_plain
            and has_update
            and not options.select_on_save
            and not any(outlet.runs_code for outlet in plan.outlets)
            and not any(map(_is_set_by_saving, plan.fields))
        )
    return bool(plan.statements[key])


def _is_set_by_saving(field: Any) -> bool:
    """Tell whether ``pre_save`` may store another value than the instance had, as ``auto_now`` does."""
    if isinstance(field, models.DateField | models.TimeField):
        return field.auto_now or field.auto_now_add
    return type(field).pre_save is not models.Field.pre_save


class JointUpdate:
    """Have the next statement, an update of one row, insert events as well; for ``connection.execute_wrapper``.

    Raises ``CannotJoinError`` instead of executing anything else first. ``is_missing`` tells afterwards that there was
    no such row, and so no events either.
    """

    def __init__(self, drafts: Sequence[entries.Draft], plan: Plan, connection: Any) -> None:
        self.is_missing = False
        self._is_done = False
        self._prefix = f"UPDATE {connection.ops.quote_name(plan.model._meta.db_table)} SET "
        self._inserts, self._values = [], []
        for draft in drafts:
            insert, values = _insert_of(draft, connection)
            self._inserts.append(insert)
            self._values += values

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Execute a statement with the events in it."""
        if self._is_done:
            return execute(sql, params, many, context)
        if many or not isinstance(sql, str) or not sql.startswith(self._prefix) or " RETURNING " in sql:
            raise CannotJoinError(sql)
        self._is_done = True
        *others, last = self._inserts
        parts = [
            f"written AS ({sql} RETURNING 1)",
            *(f"event_{number} AS ({one})" for number, one in enumerate(others)),
        ]
        result = execute(f"WITH {', '.join(parts)} {last}", [*params, *self._values], many, context)
        # As many events as rows: for Django this count is that of its update.
        self.is_missing = context["cursor"].rowcount == 0
        return result


def _insert_of(draft: entries.Draft, connection: Any) -> tuple[str, list[Any]]:
    """Return the statement that inserts an event if there is a row in ``written``, and its parameters."""
    row, values = entries.row_of(draft, connection)
    # With types: a SELECT takes for text what has none.
    typed = (f"{text}::{entries.TYPES.get(column, 'text')}" for column, text in zip(entries.COLUMNS, row, strict=True))
    return f"{entries.INSERT}SELECT {','.join(typed)} FROM written", values
