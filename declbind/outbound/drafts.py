"""Drafts: events made from rows, with their groups and data, before they are stored.

If the code of a binding fails, the fault is recorded, and neither the write nor other bindings are affected. The groups
of that binding are sent a resync instead of the event.
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
from declbind.django_types import Key, through_of
from declbind.english import as_english
from declbind.models import Event
from declbind.serializers import encode_key, encode_value
from declbind.serializers.exact import exact_key
from declbind.serializers.guard import describe_withheld
from declbind.stored_rows import AnyRow, StoredRow

from .catalog import savepoint_for
from .entries import Draft
from .locks import ends_transaction
from .plans import Outlet, Plan

logger = logging.getLogger("declbind")

#: The maximum number of groups that one event names.
MAX_GROUPS = 1_000

#: The groups of one row, by binding; ``UNKNOWN`` for a binding that failed on the row.
Groups = dict[Outlet, Sequence[str]]

#: The value for groups that are not known. As the groups of an event it means all groups of the stream.
UNKNOWN: Sequence[str] = (EVERY_GROUP,)


def _savepoint(outlet: Outlet, using: str) -> AbstractContextManager[object]:
    # Only project code and reads of lists make queries. Without those, a savepoint would cost two statements per write.
    if outlet.runs_code:
        return transaction.atomic(using=using)
    if not outlet.lists:
        return _NO_SAVEPOINT
    return savepoint_for(map(through_of, outlet.lists), using)


_NO_SAVEPOINT = nullcontext()


def _subject(outlet: Outlet, row: AnyRow) -> AnyRow:
    """Return the argument for the binding's code: a whole instance for project code, otherwise only the columns.

    Must be called inside the guard, because project code takes part in making an instance.
    """
    if outlet.runs_code and isinstance(row, StoredRow):
        return row.make_instance(outlet.binding.model_class())
    return row


_withheld: ContextVar[list[tuple[str, tuple[str, ...]]] | None] = ContextVar("declbind_withheld", default=None)


@contextlib.contextmanager
def gather_withheld() -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """Collect withheld values in the block, as (stream, names), instead of reporting them. Used for trials."""
    found: list[tuple[str, tuple[str, ...]]] = []
    token = _withheld.set(found)
    try:
        yield found
    finally:
        _withheld.reset(token)


_faults: ContextVar[list[tuple[str, Exception]] | None] = ContextVar("declbind_faults", default=None)


@contextlib.contextmanager
def gather_faults() -> Iterator[list[tuple[str, Exception]]]:
    """Collect the faults of bindings in the block, as (stream, fault), instead of reporting them. Used for trials."""
    faults: list[tuple[str, Exception]] = []
    token = _faults.set(faults)
    try:
        yield faults
    finally:
        _faults.reset(token)


#: When withheld values were last reported, by stream and names, as a time of ``time.monotonic()``.
_noted: dict[tuple[str, tuple[str, ...]], float] = {}
#: The seconds after which the same values are reported again, and the maximum size of ``_noted``.
NOTE_SECONDS, MAX_NOTED = 3_600.0, 1_000


def _note_withheld(outlet: Outlet, names: tuple[str, ...], using: str) -> None:
    """Report withheld values to ``gather_withheld`` or, at intervals, by the signal ``values_withheld``."""
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
    logger.error("Binding %r: %s", outlet.stream, as_english(describe_withheld(names)))
    signals.values_withheld.send_robust(sender=outlet.binding, stream=outlet.stream, names=names, using=using)


def _record(outlet: Outlet, row: AnyRow | None, using: str, error: Exception) -> None:
    """Report a binding's fault without disturbing the writer. Call it while the exception is being handled.

    ``row`` is ``None`` if it could not be read. If the exception has ended the writer's transaction, it is raised
    again.
    """
    if ends_transaction(error, using):
        raise error
    subject = f"{outlet.label} {'that could not be read' if row is None else row.pk}"
    report_failure(outlet.binding, outlet.stream, subject, row, using, error)


def report_failure(
    binding: type[Binding], stream: str, subject: str, row: AnyRow | None, using: str, error: Exception
) -> None:
    """Report a binding's fault to the log of the process and to ``binding_failed``, or to ``gather_faults``.

    ``subject`` describes the changed object.
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
    """Check the return value of project code, because an invalid name would break every frame that has it."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"group_names: expected a list of names, got {names!r:.100}.")
    for name in names:
        if not isinstance(name, str) or not is_legal_name(name):
            raise ValueError(
                f"group_names: expected names of 1 to 99 ASCII letters, digits, '-', '_' and '.', got {name!r:.120}."
            )


def groups_of(plan: Plan, row: AnyRow, using: str, reporting: Container[Outlet] | None = None) -> Groups:
    """Return the groups of a stored row by binding.

    If a binding fails, the fault is recorded, and its groups are ``UNKNOWN``. ``reporting`` are the bindings to
    include; ``None`` means all.
    """
    groups: Groups = {}
    for outlet in plan.outlets:
        if reporting is not None and outlet not in reporting:
            continue
        try:
            with _savepoint(outlet, using):
                groups[outlet] = _group_names(outlet, _subject(outlet, row), using)
        except Exception as error:
            _record(outlet, row, using, error)
            groups[outlet] = UNKNOWN
    return groups


def draft_write(
    plan: Plan, row: AnyRow, pk: Key, old: Groups | None, using: str, reporting: Container[Outlet] | None = None
) -> list[Draft]:
    """Return the events of a row that was written.

    ``old`` are its groups before the write, ``None`` for a new row. ``reporting`` are the bindings that report the
    write; ``None`` means all.
    """
    drafts = []
    for outlet in plan.outlets:
        if reporting is not None and outlet not in reporting:
            continue
        before = () if old is None or not plan.needs_old else old.get(outlet, UNKNOWN)
        if before is UNKNOWN:
            # The fault has been recorded. Without the old or new groups, the changes would be wrong.
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
    """Return the resync that replaces an event that could not be made."""
    names = UNKNOWN if UNKNOWN in groups else dict.fromkeys(name for some in groups for name in some)
    return draft_bulk(plan, {outlet: names})


def draft_hidden(plan: Plan, pk: Key, old: Groups | None, using: str) -> list[Draft]:
    """Return the events of a row that its model's base manager hides after the write."""
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
    """Record a failed read of a row as a fault of all bindings in the plan; return ``UNKNOWN`` groups for each.

    Call it while the exception is being handled. If the exception has ended the writer's transaction, it is raised
    again.
    """
    for outlet in plan.outlets:
        _record(outlet, None, using, error)
    return dict.fromkeys(plan.outlets, UNKNOWN)


def draft_bulk(plan: Plan, touched: Mapping[Outlet, Iterable[str]]) -> list[Draft]:
    """Return one ``resync`` event per binding.

    It names the groups in ``touched``, or all groups of the stream if there are too many.
    """
    drafts = []
    for outlet, groups in touched.items():
        names = list(groups)
        if len(names) > MAX_GROUPS or EVERY_GROUP in names:
            names = [EVERY_GROUP]
        if names:
            changes = tuple((name, RESYNC) for name in names)
            drafts.append(
                Draft(
                    outlet.stream, outlet.label, "null", changes, version=plan.version, kind=Event.BULK, code=plan.code
                )
            )
    return drafts


def draft_delete(plan: Plan, row: AnyRow, using: str) -> list[Draft]:
    """Return the events of a row that is about to be deleted, with its last stored data."""
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
        # If the row still exists and only leaves groups, the "delete" must not carry its new values. The reader of the
        # log makes that payload.
        actions = sorted({action for _, action in changes if gone or action != "delete"})
        payloads = {action: bound.outgoing_payload(row, action) for action in actions} if row is not None else {}
        kind, data = Event.PAYLOAD, encode_value(payloads)
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
        code=plan.code,
    )
