"""Turn rows into drafts of events: who hears of a write, and what of it.

What a binding's code does wrong is recorded here and never reaches the writer, nor the bindings beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction

from declbind import signals
from declbind.bindings import Binding
from declbind.core.groups import diff, is_legal_name
from declbind.models import Event
from declbind.registry import get_registry
from declbind.serializers import encode_value

from .log import Draft
from .plans import Plan

logger = logging.getLogger("declbind")

#: The groups of one row, by binding; a binding that failed on the row is not in it.
Groups = dict[type[Binding], list[str]]


class _Guard:
    """Keep a binding's fault away from the writer: swallow and record it, undo what its queries broke."""

    def __init__(self, binding: type[Binding], row: Any, using: str) -> None:
        self.binding, self.row, self.using = binding, row, using
        # Only code of the project queries in here. Elsewhere a savepoint would cost two statements a write.
        self.savepoint = transaction.atomic(using=using) if binding.runs_code() else None

    def __enter__(self) -> _Guard:
        if self.savepoint is not None:
            self.savepoint.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if self.savepoint is not None:
            self.savepoint.__exit__(kind, error, traceback)
        if not isinstance(error, Exception):
            return False
        logger.error(
            "Binding %r failed; its clients miss a change of %s %s.",
            self.binding.stream,
            type(self.row)._meta.label,
            self.row.pk,
            exc_info=error,
        )
        signals.binding_failed.send_robust(
            sender=self.binding,
            stream=self.binding.stream,
            error=error,
            instance=self.row,
            using=self.using,
        )
        return True


def _group_names(binding: type[Binding], row: Any, using: str) -> list[str]:
    bound = binding(using=using)
    if not bound.is_inside(row):
        return []
    names = bound.group_names(row)
    if binding.runs_code():
        _check_group_names(names)
    return list(dict.fromkeys(names))


def _check_group_names(names: Any) -> None:
    """Raise for what code must not return: such a name would break every frame that carries it."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"group_names: expected a list of names, got {names!r:.100}.")
    for name in names:
        if not isinstance(name, str) or not is_legal_name(name):
            raise ValueError(
                f"group_names: expected names of 1 to 99 ASCII letters, digits, '-', '_' and '.', got {name!r:.120}."
            )


def groups_of(plan: Plan, row: Any, using: str) -> Groups:
    """Return the groups of a stored row per binding; a binding that fails is recorded and left out."""
    groups: Groups = {}
    for binding in plan.bindings:
        with _Guard(binding, row, using):
            groups[binding] = _group_names(binding, row, using)
    return groups


def draft_write(plan: Plan, row: Any, pk: Any, old: Groups | None, using: str) -> list[Draft]:
    """Return the events of a row that was written. ``old`` are its groups before, ``None`` for a new row."""
    drafts = []
    for binding in plan.bindings:
        if old is not None and plan.needs_old and binding not in old:
            continue  # it failed on the stored row, which is recorded; half a diff would tell clients wrong things
        with _Guard(binding, row, using):
            new = _group_names(binding, row, using)
            before = [] if old is None else old[binding] if plan.needs_old else new
            if before or new:
                drafts.append(_draft(binding, row, pk, before, new, using))
    return drafts


def draft_hidden(instance: Any, pk: Any, old: Groups | None, using: str) -> list[Draft]:
    """Return the events of a row that its model's base manager does not show after the write: it is out of sight."""
    drafts = []
    for binding, groups in (old or {}).items():
        with _Guard(binding, instance, using):
            if groups:
                drafts.append(_draft(binding, instance, pk, groups, [], using))
    return drafts


def draft_updates(plan: Plan, rows: Mapping[Any, Any], using: str) -> list[Draft]:
    """Return the events of rows, by key, that stay where they are though something that is sent of them changed."""
    drafts: list[Draft] = []
    for pk, row in rows.items():
        drafts += draft_write(plan, row, pk, groups_of(plan, row, using), using)
    return drafts


def draft_delete(plan: Plan, row: Any, using: str) -> list[Draft]:
    """Return the events of a row that is about to go, with its last stored data."""
    drafts = []
    for binding in plan.bindings:
        with _Guard(binding, row, using):
            before = _group_names(binding, row, using)
            if before:
                drafts.append(_draft(binding, row, row.pk, before, [], using, gone=True))
    return drafts


def _draft(
    binding: type[Binding],
    row: Any,
    pk: Any,
    before: list[str],
    after: list[str],
    using: str,
    gone: bool = False,
) -> Draft:
    changes = diff(before, after)
    bound = binding(using=using)
    kind, data = (Event.GONE if gone else Event.ROW), "{}"
    if binding.resolved().own_payload:
        # A "delete" that only hides the row must not carry what it now holds: the reader of the log words that one.
        actions = sorted({action for _, action in changes if gone or action != "delete"})
        kind, data = Event.PAYLOAD, encode_value({action: bound.serialize(row, action) for action in actions})
    elif after or gone:
        data = encode_value(bound.serialize_data(row))
    return Draft(
        stream=str(binding.stream),
        model=binding.model_label(),
        object_pk=encode_value(pk),
        changes=tuple(changes),
        data=data,
        version=get_registry().version,
        kind=kind,
    )


def draft_rows(plan: Plan, rows: Iterable[Any], seen: set[tuple[Any, Any]], using: str) -> list[Draft]:
    drafts: list[Draft] = []
    for row in rows:
        if (plan.model, row.pk) not in seen:
            seen.add((plan.model, row.pk))
            drafts += draft_delete(plan, row, using)
    return drafts
