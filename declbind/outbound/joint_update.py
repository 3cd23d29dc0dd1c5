"""Insertion of a row's events by the same statement that updates the row, if the database supports it.

A separate statement costs a save a second round trip and, in autocommit, two more for a transaction around both.
PostgreSQL accepts the update as part of a larger statement, which is atomic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from django.db import DatabaseError, connections, models, transaction

from declbind.django_types import Column, Connection, Cursor, Query, SqlValue

from . import entries, log, tenants
from .drafts import draft_write
from .known_values import is_as_stored, is_saved_by_django, take_values
from .plans import Plan
from .saved_rows import old_groups
from .statements import extended_update, has_wrappers
from .writes import CapturedWrite


def can_join(plan: Plan, instance: models.Model, using: str) -> bool:
    """Return whether one statement can update an instance's row and insert its events.

    The events must be known before the update: each value in them is the instance's and is stored unchanged, and no
    code of the project needs to see the written row. It is not done under execute wrappers of other packages, which may
    look for an ``UPDATE`` or rewrite it.
    """
    state, connection = instance._state, connections[using]
    return (
        connection.vendor == "postgresql"
        # With manual transaction management nothing can run after the commit, except inside atomic().
        and (connection.in_atomic_block or connection.get_autocommit())
        and not state.adding
        and state.db == using
        and instance.pk is not None
        and isinstance(instance, plan.model)
        and is_saved_by_django(type(instance))
        and not tenants.are_mixed(using)
        and not has_wrappers(connection)
        and _may_join(plan)
        and is_as_stored(plan, instance, plan.model._meta.pk, using)
    )


def _may_join(plan: Plan) -> bool:
    key = "may join"
    if key not in plan.statements:
        options = plan.model._meta
        has_update = any(not (column.primary_key or column.generated) for column in options.concrete_fields)
        plan.statements[key] = (
            plan.is_plain
            and has_update
            and not options.select_on_save
            and not any(outlet.runs_code for outlet in plan.outlets)
            and not any(map(_is_set_by_saving, plan.fields))
        )
    return bool(plan.statements[key])


def _is_set_by_saving(field: Column) -> bool:
    """Return whether ``pre_save`` may store another value than the instance had, as ``auto_now`` does."""
    if isinstance(field, models.DateField | models.TimeField):
        return field.auto_now or field.auto_now_add
    return type(field).pre_save is not models.Field.pre_save


def save_in_one(write: CapturedWrite, plan: Plan, instance: models.Model, update: Callable[[], object]) -> bool:
    """Update a row and append its events in one statement.

    Returns:
        Whether this was possible. If it was not, nothing has been written.
    """
    using = write.using
    connection = connections[using]
    with transaction.atomic(using=using, savepoint=False) if plan.needs_old else nullcontext():
        old = old_groups(plan, instance.pk, using)
        row = take_values(plan, instance, plan.model._meta.pk, using)
        drafts = [] if old is None else tenants.address(draft_write(plan, row, row.pk, old, using), using)
        if not drafts:
            return False
        joint = JointUpdate(drafts, plan, connection)
        try:
            with joint.joined():
                write.run(update)
        except DatabaseError:
            # Django raises this when the row is missing. It may be inserted then, which takes a transaction.
            if not joint.is_missing:
                raise
            return False
        if joint.is_done:
            log.ring_after_commit(connection)
        else:  # another package wrote the row by a query of its own
            write.append(drafts)
    return True


class JointUpdate:
    """An extension of the update of one row that also inserts the row's events.

    Afterwards, ``is_done`` says whether the update was extended. ``is_missing`` says that the row did not exist, so
    neither a row nor an event was written.
    """

    def __init__(self, drafts: Sequence[entries.Draft], plan: Plan, connection: Connection) -> None:
        self.is_done = self.is_missing = False
        self._model, self._connection = plan.model, connection
        self._inserts: list[str] = []
        self._values: list[SqlValue] = []
        for draft in drafts:
            insert, values = _insert_of(draft, connection)
            self._inserts.append(insert)
            self._values += values

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Extend the first update of the model inside the block."""
        with extended_update(self, self._connection):
            yield

    def takes(self, query: Query) -> bool:
        """Return whether the statement of a query is the update that is extended."""
        is_taken = not self.is_done and query.get_meta().concrete_model is self._model
        self.is_done |= is_taken
        return is_taken

    def extend(self, sql: str, params: Sequence[SqlValue]) -> tuple[str, Sequence[SqlValue]]:
        """Return the update with its events added."""
        *others, last = self._inserts
        parts = [
            f"written AS ({sql} RETURNING 1)",
            *(f"event_{number} AS ({one})" for number, one in enumerate(others)),
        ]
        return f"WITH {', '.join(parts)} {last}", (*params, *self._values)

    def finish(self, cursor: Cursor) -> int:
        """Return the number of updated rows, which equals the number of inserted events."""
        count: int = cursor.rowcount
        self.is_missing = count == 0
        return count


def _insert_of(draft: entries.Draft, connection: Connection) -> tuple[str, list[SqlValue]]:
    """Return the statement that inserts an event if the update wrote a row (``written``), and its parameters."""
    row, values = entries.row_of(draft, connection)
    # With casts: a SELECT treats untyped parameters as text.
    typed = (f"{text}::{entries.TYPES.get(column, 'text')}" for column, text in zip(entries.COLUMNS, row, strict=True))
    return f"{entries.INSERT}SELECT {','.join(typed)} FROM written", values
