"""Trials of what a row's change would send, with the drafts and frames of production for a row in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model
from django.utils.translation import gettext

from declbind import value_validation
from declbind.bindings import Binding
from declbind.core.course import Check
from declbind.core.wording import suggest
from declbind.outbound.drafts import gather_faults
from declbind.outbound.index import Index
from declbind.registry import BindingRegistry

from .answer import Frame
from .frames import Faults, build_frames, draft_with, number_drafts
from .related import find_related
from .subscription import CODE, describe_missing, find_row, rolled_back

#: The steps of a change in order.
STEPS = (
    Check.BINDING, Check.DIRECTION, Check.ROW, Check.FIELDS,
    Check.VALUES, Check.GROUPS, Check.FRAMES, Check.CONNECTIONS,
)  # fmt: skip


@dataclass(frozen=True)
class RowChange:
    """The events that a change of a row sends on one stream. ``failed`` is the name of the step that failed, or "".

    ``row`` is the row after the change, for a delete before it. ``also`` names other streams that report the change.
    """

    row: Model | None = None
    failed: Check | None = None
    text: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    faults: Faults = ()
    also: tuple[str, ...] = ()


def try_change(
    binding: type[Binding],
    action: str,
    pk: object,
    values: Mapping[str, object],
    registry: BindingRegistry,
    index: Index,
    using: str,
) -> RowChange:
    """Make the frames for a row that would be created, updated or deleted. Writes nothing."""
    model: Any = binding.model_class()
    if action == "create":
        row = model()
        row._state.db = using
    else:
        row = find_row(binding, pk, using)
        if row is None:
            return RowChange(failed=Check.ROW, text=describe_missing(model, pk))
    if action != "delete":
        failed = assign(row, values, using)
        if failed is not None:
            return failed
        if action == "create" and pk is not None:
            try:
                row.pk = value_validation.coerce(model._meta.pk, pk)
            except ValueError as error:
                return RowChange(
                    failed=Check.VALUES, text=gettext("This cannot be a key: %(error)s.") % {"error": error}
                )
        for moving in model._meta.concrete_fields:
            if getattr(moving, "auto_now", False) or (action == "create" and getattr(moving, "auto_now_add", False)):
                moving.pre_save(row, action == "create")
    plan = index.plan_for(model)
    if plan is None:
        return RowChange(row)
    also = tuple(outlet.stream for outlet in plan.outlets if outlet.stream != binding.stream)
    # Drafts of all streams are made, because each event takes a number of the log.
    with gather_faults() as gathered, rolled_back(binding, using, *CODE):
        drafts = draft_with(plan, row, row.pk, action, using)
        also += find_related(index, row, action, using)
    events = [event for event in number_drafts(drafts, using) if event.stream == binding.stream]
    faults = [(stream, fault) for stream, fault in gathered if stream == binding.stream]
    frames = build_frames(registry, events, faults)
    return RowChange(row, frames=frames, faults=faults, also=also)


def assign(row: Model, values: Mapping[str, object], using: str) -> RowChange | None:
    """Set JSON values on a row. Return a failed ``RowChange`` if they are invalid, otherwise ``None``."""
    unknown: dict[str, list[str]] = {}
    errors: dict[str, list[str]] = {}
    names = [field.name for field in row._meta.concrete_fields]
    for name, value in values.items():
        found = _find_field(row, name)
        if found is None:
            unknown[name] = [f"{gettext('There is no such field.')}{suggest(name, names)}"]
        elif found.many_to_many:
            unknown[name] = [gettext("A list is stored beside its row, as a change of its own.")]
        else:
            try:
                found.save_form_data(row, value_validation.clean_value(found, value, using))
            except ValidationError as error:
                errors[name] = [str(text) for text in error.messages]
    if unknown:
        text = gettext("Not known: %(names)s.") % {"names": ", ".join(unknown)}
        return RowChange(failed=Check.FIELDS, text=text, evidence={"fields": unknown})
    if errors:
        text = gettext("Not valid: %(names)s.") % {"names": ", ".join(errors)}
        return RowChange(failed=Check.VALUES, text=text, evidence={"fields": errors})
    return None


def _find_field(row: Model, name: str) -> Any:
    for column in row._meta.concrete_fields:
        if name in (column.name, column.attname):
            return column
    try:
        found = row._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return found if found.many_to_many and not found.auto_created else None
