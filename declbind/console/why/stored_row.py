"""A row as it is stored, compared with its last announcement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from declbind import value_validation
from declbind.bindings import Binding
from declbind.console.stored import read_json
from declbind.models import Event
from declbind.serializers import encode_value

from .definitions import MAKING, PLACING, Definitions
from .events import groups_of


@dataclass(frozen=True)
class Comparison:
    """The names whose stored values differ from the last event.

    ``is_sure`` says that the event would have had the stored values if it were made now: the definition of the stream
    is the one with which it was made, and no code of the project takes part. Otherwise only the names that both have
    are compared.
    """

    names: tuple[str, ...]
    is_sure: bool


def load_row(binding: type[Binding], row: str, using: str) -> Any | None:
    """Return a row by its key as text, or None if there is no such row or the key is invalid."""
    model = binding.model_class()
    try:
        return model._base_manager.using(using).filter(pk=value_validation.coerce(model._meta.pk, row)).first()
    except ValueError:
        return None


def row_groups(bound: Binding, row: Any) -> list[str]:
    """Return the groups that a row is in."""
    try:
        return list(bound.group_names(row))
    except Exception as error:  # the project's code; its failure is an answer too
        return [gettext("(fails: %(error)s)") % {"error": type(error).__name__}]


def compare(
    binding: type[Binding], row: Any, latest: Event | None, definitions: Definitions, using: str
) -> Comparison | None:
    """Return how a stored row differs from its last event, or ``None`` if that is unknown."""
    if latest is None or latest.kind not in (Event.ROW, Event.GONE):
        return None
    if latest.kind == Event.ROW and latest.data == "{}":
        return None
    told = read_json(latest.data)
    if not isinstance(told, dict):
        return None
    if latest.kind == Event.GONE:
        return Comparison(tuple(sorted(told)) or (gettext("the row"),), True)
    try:
        stored = json.loads(encode_value(binding(using=using).outgoing_data(row)))
    except Exception:  # the project's code, whose failure a trial shows
        return None
    has_changed = definitions.has_changed_since(latest.version, MAKING) or stored.keys() != told.keys()
    if has_changed and definitions.has_changed_since(latest.version, ("model", "serializer")):
        return None
    names = sorted(name for name in stored if name in told and stored[name] != told[name])
    return Comparison(tuple(names), not binding.runs_code() and not (has_changed and not names))


def data_names(
    binding: type[Binding], row: Any | None, event: Event, using: str
) -> tuple[set[str] | None, set[str] | None]:
    """Return the names in the data of an event, and those that it would have now; ``None`` if they are unknown."""
    told = read_json(event.data)
    if not isinstance(told, dict) or not told:
        return None, None
    if row is None:
        return set(told), None if binding.runs_code() else {field.name for field in binding.bound_fields()}
    try:
        return set(told), set(json.loads(encode_value(binding(using=using).outgoing_data(row))))
    except Exception:  # the project's code, whose failure a trial shows
        return set(told), None


def says_it_is_there(latest: Event, definitions: Definitions) -> bool:
    """Return whether clients that received an event still show its row, under the present rules."""
    if latest.kind != Event.ROW or definitions.has_changed_since(latest.version, PLACING):
        return False
    return any(action != "delete" for _, action in groups_of(latest))
