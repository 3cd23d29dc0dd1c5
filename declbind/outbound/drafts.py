"""Drafts of events, made from rows: the groups that an event is for, and its data.

A fault of a binding is recorded and never reaches the writer, nor the bindings beside it. Instead of the event that it
could not make, its groups are sent a resync.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

from django.db import transaction

from declbind import signals
from declbind.bindings import Binding
from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.core.groups import diff, is_legal_name
from declbind.models import Event
from declbind.serializers import encode_key, encode_value
from declbind.serializers.exact import exact_key
from declbind.serializers.guard import describe_withheld
from declbind.stored_rows import AnyRow, StoredRow

from .catalog import savepoint_for
from .django_types import Key, through_of
from .entries import Draft
from .locks import ends_transaction
from .plans import Outlet, Plan

logger = logging.getLogger("declbind")

#: Groups that one event names one by one.
MAX_GROUPS = 1_000

#: The groups of one row, by binding; ``UNKNOWN`` for a binding that failed on the row.
Groups = dict[Outlet, Sequence[str]]

#: Stands for the groups of a row that could not be found out. As an event's groups it means all groups of the stream.
UNKNOWN: Sequence[str] = (EVERY_GROUP,)


def _savepoint(outlet: Outlet, using: str) -> AbstractContextManager[object]:
    # Only code of the project queries, and reads of lists. Elsewhere a savepoint would cost two statements a write.
    if outlet.runs_code:
        return transaction.atomic(using=using)
    if not outlet.lists:
        return _NO_SAVEPOINT
    return savepoint_for(map(through_of, outlet.lists), using)


_NO_SAVEPOINT = nullcontext()


def _subject(outlet: Outlet, row: AnyRow) -> AnyRow:
    """Return what a binding is asked about: a whole instance for code of the project, else the columns alone.

    To be called inside of the guard, because an instance is made by code of the project too.
    """
    if outlet.runs_code and isinstance(row, StoredRow):
        return row.make_instance(outlet.binding.model_class())
    return row


_withheld: ContextVar[list[tuple[str, tuple[str, ...]]] | None] = ContextVar("declbind_withheld", default=None)


@contextlib.contextmanager
def gather_withheld() -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """Collect what is held back inside the block, as (stream, names), instead of reporting it; for trials."""
    found: list[tuple[str, tuple[str, ...]]] = []
    token = _withheld.set(found)
    try:
        yield found
    finally:
        _withheld.reset(token)


_faults: ContextVar[list[tuple[str, Exception]] | None] = ContextVar("declbind_faults", default=None)


@contextlib.contextmanager
def gather_faults() -> Iterator[list[tuple[str, Exception]]]:
    """Collect the faults of bindings inside the block, as (stream, fault), instead of reporting them; for trials."""
    faults: list[tuple[str, Exception]] = []
    token = _faults.set(faults)
    try:
        yield faults
    finally:
        _faults.reset(token)


#: When each kind of value that was held back was last noted, by ``time.monotonic()``.
_noted: dict[tuple[str, tuple[str, ...]], float] = {}
#: Seconds after which it is noted again, as long as it goes on, and how many kinds are remembered.
NOTE_SECONDS, MAX_NOTED = 3_600.0, 1_000


def _note_withheld(outlet: Outlet, names: tuple[str, ...], using: str) -> None:
    """Report values that were held back: to a trial, or by ``values_withheld``, once in a while for each kind."""
    gathered = _withheld.get()
    if gathered is not None:
        gathered.append((outlet.stream, names))
        return
    now, key = time.monotonic(), (outlet.stream, names)
    if now - _noted.get(key, float("-inf")) < NOTE_SECONDS:
        return
    if len(_noted) >= MAX_NOTED:
        _noted.clear()
    _noted[key] = now
    logger.error("Binding %r: %s", outlet.stream, describe_withheld(names))
    signals.values_withheld.send_robust(sender=outlet.binding, stream=outlet.stream, names=names, using=using)


def _record(outlet: Outlet, row: AnyRow | None, using: str, error: Exception) -> None:
    """Report a binding's fault, which must not reach the writer. Called while the fault is being handled.

    ``row`` is ``None`` if it could not be read. Raises it all the same if it has ended the writer's transaction.
    """
    if ends_transaction(error, using):
        raise error
    subject = f"{outlet.label} {'that could not be read' if row is None else row.pk}"
    report_failure(outlet.binding, outlet.stream, subject, row, using, error)


def report_failure(
    binding: type[Binding], stream: str, subject: str, row: AnyRow | None, using: str, error: Exception
) -> None:
    """Report a binding's fault to the log of the process and to ``binding_failed``, or to ``gather_faults``.

    ``subject`` says what was changed.
    """
    gathered = _faults.get()
    if gathered is not None:
        gathered.append((stream, error))
        return
    logger.error(
        "Binding %r failed on a change of %s; its subscribers are sent a resync.",
        stream,
        subject,
        exc_info=error,
    )
    signals.binding_failed.send_robust(sender=binding, stream=stream, error=error, instance=row, using=using)


def _group_names(outlet: Outlet, row: AnyRow, using: str) -> Sequence[str]:
    if outlet.constant_groups is not None:
        return outlet.constant_groups
    bound = outlet.binding(using=using)
    if not bound.is_inside(row):
        return ()
    names = bound.group_names(row)
    if outlet.runs_code:
        _check_group_names(names)
    return list(dict.fromkeys(names))


def _check_group_names(names: object) -> None:
    """Raise for what code must not return: such a name would break every frame that carries it."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"group_names: expected a list of names, got {names!r:.100}.")
    for name in names:
        if not isinstance(name, str) or not is_legal_name(name):
            raise ValueError(
                f"group_names: expected names of 1 to 99 ASCII letters, digits, '-', '_' and '.', got {name!r:.120}."
            )


def groups_of(plan: Plan, row: AnyRow, using: str, hearing: Container[Outlet] | None = None) -> Groups:
    """Return the groups of a stored row per binding; ``UNKNOWN`` for a binding that fails, which is recorded.

    ``hearing`` are the bindings that are asked, ``None`` stands for all.
    """
    groups: Groups = {}
    for outlet in plan.outlets:
        if hearing is not None and outlet not in hearing:
            continue
        try:
            with _savepoint(outlet, using):
                groups[outlet] = _group_names(outlet, _subject(outlet, row), using)
        except Exception as error:
            _record(outlet, row, using, error)
            groups[outlet] = UNKNOWN
    return groups


def draft_write(
    plan: Plan, row: AnyRow, pk: Key, old: Groups | None, using: str, hearing: Container[Outlet] | None = None
) -> list[Draft]:
    """Return the events of a row that was written. ``old`` are its groups before, ``None`` for a new row.

    ``hearing`` are the bindings that tell of it, ``None`` stands for all.
    """
    drafts = []
    for outlet in plan.outlets:
        if hearing is not None and outlet not in hearing:
            continue
        before = () if old is None or not plan.needs_old else old.get(outlet, UNKNOWN)
        if before is UNKNOWN:
            # The fault is recorded already. Half a diff would tell subscribers wrong things.
            drafts += draft_bulk(plan, {outlet: UNKNOWN})
            continue
        new = UNKNOWN
        try:
            with _savepoint(outlet, using):
                subject = _subject(outlet, row)
                new = _group_names(outlet, subject, using)
                if old is not None and not plan.needs_old:
                    before = new
                if before or new:
                    drafts.append(_draft(plan, outlet, subject, pk, before, new, using))
        except Exception as error:
            _record(outlet, row, using, error)
            drafts += _draft_resync(plan, outlet, before, new)
    return drafts


def _draft_resync(plan: Plan, outlet: Outlet, *groups: Sequence[str]) -> list[Draft]:
    """Return the event that stands for one that could not be made."""
    names = UNKNOWN if UNKNOWN in groups else dict.fromkeys(name for some in groups for name in some)
    return draft_bulk(plan, {outlet: names})


def draft_hidden(plan: Plan, pk: Key, old: Groups | None, using: str) -> list[Draft]:
    """Return the events of a row that its model's base manager does not show after the write: it is out of sight."""
    drafts = []
    for outlet, groups in (old or {}).items():
        try:
            if groups is UNKNOWN:
                drafts += draft_bulk(plan, {outlet: UNKNOWN})
            elif groups:
                drafts.append(_draft(plan, outlet, None, pk, groups, (), using))
        except Exception as error:
            _record(outlet, None, using, error)
            drafts += _draft_resync(plan, outlet, groups)
    return drafts


def unread(plan: Plan, using: str, error: Exception) -> Groups:
    """Record a row that could not be read as a fault of all its bindings; return its groups, which are not known.

    Called while the error is being handled. Raises it all the same if it has ended the writer's transaction.
    """
    for outlet in plan.outlets:
        _record(outlet, None, using, error)
    return dict.fromkeys(plan.outlets, UNKNOWN)


def draft_bulk(plan: Plan, touched: Mapping[Outlet, Iterable[str]]) -> list[Draft]:
    """Return an event for each binding that has the groups given for it take a snapshot; too many stand for all."""
    drafts = []
    for outlet, groups in touched.items():
        names = list(groups)
        if len(names) > MAX_GROUPS or EVERY_GROUP in names:
            names = [EVERY_GROUP]
        if names:
            changes = tuple((name, RESYNC) for name in names)
            drafts.append(Draft(outlet.stream, outlet.label, "null", changes, version=plan.version, kind=Event.BULK))
    return drafts


def draft_delete(plan: Plan, row: AnyRow, using: str) -> list[Draft]:
    """Return the events of a row that is about to go, with its last stored data."""
    drafts = []
    for outlet in plan.outlets:
        before = UNKNOWN
        try:
            with _savepoint(outlet, using):
                subject = _subject(outlet, row)
                before = _group_names(outlet, subject, using)
                if before:
                    drafts.append(_draft(plan, outlet, subject, row.pk, before, (), using, gone=True))
        except Exception as error:
            _record(outlet, row, using, error)
            drafts += _draft_resync(plan, outlet, before)
    return drafts


def _draft(
    plan: Plan,
    outlet: Outlet,
    row: AnyRow | None,
    pk: Key,
    before: Sequence[str],
    after: Sequence[str],
    using: str,
    gone: bool = False,
) -> Draft:
    changes = diff(before, after)
    bound = outlet.binding(using=using)
    kind, data = (Event.GONE if gone else Event.ROW), "{}"
    if outlet.own_payload:
        # A "delete" that only hides the row must not carry what it now holds: the reader of the log words that one.
        actions = sorted({action for _, action in changes if gone or action != "delete"})
        kind, data = Event.PAYLOAD, encode_value({action: bound.outgoing_payload(row, action) for action in actions})
    elif row is not None and (after or gone):
        data = encode_value(bound.outgoing_data(row))
    if bound.withheld:
        _note_withheld(outlet, bound.withheld, using)
    return Draft(
        stream=outlet.stream,
        model=outlet.label,
        object_pk=encode_key(exact_key(pk, plan.model._meta.pk)),
        changes=changes,
        data=data,
        version=plan.version,
        kind=kind,
    )
