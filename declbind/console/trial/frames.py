"""The frames of a write that is not made, or whose events will be rolled back."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.db import models
from django.db.models import Model

from declbind.console.shown import shown
from declbind.core.frames import RESYNC
from declbind.core.hub import LogEvent, Variants
from declbind.live import changes
from declbind.models import Event
from declbind.outbound import entries, log, sequencer
from declbind.outbound.drafts import Groups, draft_delete, draft_write, groups_of
from declbind.outbound.index import Index
from declbind.outbound.plans import Plan
from declbind.outbound.rows import load_row
from declbind.registry import BindingRegistry

from .answer import Frame

#: The exceptions of bindings' code, by stream.
Faults = Sequence[tuple[str, Exception]]


def foresee(
    index: Index, row: Model, action: str, using: str, written: Collection[str] | None = None
) -> Iterator[entries.Draft]:
    """Return the drafts that capture would make if a row were written, table by table.

    ``row`` has the values after the write; for a delete, the stored ones. ``written`` are the names of the saved
    fields, ``None`` for all. A parent's table with no saved field is left out. Reads the stored row; writes nothing.
    """
    for model in _tables(type(row)):
        plan = index.plan_for(model)
        if plan is not None and not _passes_by(model, type(row), written):
            yield from draft_with(plan, row, row._get_pk_val(model._meta), action, using)


def draft_with(plan: Plan, row: Model, pk: object, action: str, using: str) -> list[entries.Draft]:
    """Return the drafts of one plan, as capture makes them when the row is saved or deleted."""
    if action == "delete":
        stored = load_row(plan, pk, plan.fields, using)
        return [] if stored is None else draft_delete(plan, stored, using)
    old: Groups | None = None
    if action == "update":
        stored = load_row(plan, pk, plan.group_fields, using) if plan.needs_old else None
        old = {} if stored is None else groups_of(plan, stored, using)
    return draft_write(plan, as_stored(row), pk, old, using)


def as_stored(row: Model) -> Any:
    """Convert values to the form in which a database returns them: all places of decimals, times in UTC."""
    for field in row._meta.concrete_fields:
        value = row.__dict__.get(field.attname)
        if isinstance(value, Decimal) and isinstance(field, models.DecimalField) and value.is_finite():
            setattr(row, field.attname, value.quantize(Decimal(1).scaleb(-field.decimal_places)))
        elif isinstance(value, dt.datetime) and django_settings.USE_TZ and value.tzinfo is not None:
            setattr(row, field.attname, value.astimezone(dt.UTC))
    return row


def number_drafts(drafts: Sequence[entries.Draft], using: str) -> list[LogEvent]:
    """Return drafts as the events that a reader of the log would get, with the next numbers."""
    return [
        LogEvent(
            offset=offset,
            id=offset,
            kind=draft.kind,
            stream=draft.stream,
            model=draft.model,
            object_pk=draft.object_pk,
            changes=tuple(draft.changes),
            data=draft.data,
            version=draft.version,
        )
        for offset, draft in enumerate(drafts, next_offset(using) if drafts else 0)
    ]


def load_drafts(after: int, signature: str, using: str) -> list[entries.Draft]:
    """Return the events that this transaction has appended, found by its signature among ids above ``after``."""
    rows = shown(Event, using).filter(id__gt=after, actor=signature).order_by("id")
    return [
        entries.Draft(
            stream=row.stream,
            model=row.model,
            object_pk=row.object_pk,
            changes=tuple((group, action) for group, action in json.loads(row.changes)),
            data=row.data,
            version=row.version,
            kind=row.kind,
        )
        for row in rows
    ]


def next_offset(using: str) -> int:
    """Return the number that the next event of the log gets."""
    return log.load_head(using).offset + len(sequencer.unsequenced_ids(using)) + 1


def build_frames(
    registry: BindingRegistry, events: Sequence[LogEvent], faults: list[tuple[str, Exception]]
) -> tuple[Frame, ...]:
    """Return the frames of events, built as the hub builds them. Faults are appended to ``faults``."""
    frames = []
    for event in events:
        if event.kind == Event.CONTROL:
            continue
        variants = Variants(event, partial(changes.payload, registry, event))
        try:
            for group, action in event.changes:
                text, plain = variants.tagged(group, action), variants.plain(action)
                if text is not None and (plain is not None or action == RESYNC):
                    frames.append(Frame(event.stream, event.model, group, action, event.offset, text, plain or ""))
        except Exception as error:
            faults.append((event.stream, error))
    return tuple(frames)


def _tables(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the concrete models whose tables a save of a row writes, in order."""
    concrete: Any = model._meta.concrete_model
    found: dict[type[models.Model], None] = {}
    for parent in concrete._meta.parents:
        found.update(dict.fromkeys(_tables(parent)))
    found[concrete] = None
    return list(found)


def _passes_by(table: Any, model: type[Model], written: Collection[str] | None) -> bool:
    if written is None or table is model._meta.concrete_model:
        return False
    return not any(field.name in written or field.attname in written for field in table._meta.local_concrete_fields)
