"""Transactions that have not ended and may hold the write in question."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils.translation import gettext

from declbind.console.times import format_distance
from declbind.outbound import sessions

from .answer import Answer, likely
from .case import Case
from .causes import Cause
from .question import WINDOW


def explain_open_transaction(case: Case) -> Iterator[Answer]:
    """Yield that a transaction which has not ended may hold the write."""
    binding = case.binding
    if binding is None:
        return
    model = binding.model_class()
    locked = case.row is not None and sessions.is_row_locked(
        model._base_manager.using(case.using).filter(pk=case.row.pk), case.using
    )
    writers = sessions.find_writers(model._meta.db_table, case.using)
    first = writers[0] if writers else None
    evidence = first.evidence if first is not None and first.pid else ()
    age = sessions.age_of(first) if first is not None else None
    if locked:
        text = (
            gettext("Another transaction holds the lock of the row.")
            if age is None
            else gettext("Another transaction holds the lock of the row, open for %(age)s.")
            % {"age": format_distance(age)}
        )
        answer = Answer(Cause.OPEN_TRANSACTION, text, evidence)
        has_written = first is not None and first.writes_table
        doubt = gettext("Whether that transaction has written the row, or only locked it.")
        yield answer if has_written else answer.weaken(doubt)
    elif first is not None and _may_hold_it(first, case):
        text = _describe_open(first, model._meta.db_table, age)
        yield likely(Cause.OPEN_TRANSACTION, text, gettext("Ask again when it has ended."), *evidence)


def _describe_open(session: sessions.Session, table: str, age: timedelta | None) -> str:
    if session.writes_table:
        text = (
            gettext("A transaction that has written to %(table)s has not ended.")
            if age is None
            else gettext("A transaction that has written to %(table)s has not ended, open for %(age)s.")
        )
    else:
        text = (
            gettext("A transaction that has written has not ended.")
            if age is None
            else gettext("A transaction that has written has not ended, open for %(age)s.")
        )
    return text % {"table": table, "age": format_distance(age) if age is not None else ""}


def _may_hold_it(session: sessions.Session, case: Case) -> bool:
    """Return whether a transaction may be that of the write: it has written the table, and began before the time."""
    if session.began_at is not None and case.at is not None and session.began_at > case.at + WINDOW:
        return False
    # Only PostgreSQL shows states, and with them the tables.
    return session.writes_table or not session.state
