"""A row as it is stored, compared with its last announcement."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from django.db.models import Model

from declbind import value_validation
from declbind.bindings import Binding
from declbind.console.shown import shown
from declbind.console.stored import read_json
from declbind.models import Event
from declbind.registry import get_registry
from declbind.serializers import encode_value

from .delivery import groups_of


def load_row(binding: type[Binding], row: str, using: str) -> Any | None:
    """Return a row by its key as text, or None if there is no such row or the key is invalid."""
    model = binding.model_class()
    try:
        return model._base_manager.using(using).filter(pk=value_validation.coerce(model._meta.pk, row)).first()
    except ValueError:
        return None


def row_groups(bound: Binding, row: Model) -> list[str]:
    """Return the groups that a row is in."""
    try:
        return list(bound.group_names(row))
    except Exception as error:  # the project's code; its failure is an answer too
        return [f"(fails: {type(error).__name__})"]


def find_latest(stream: str, keys: Collection[str], using: str) -> Event | None:
    """Return the last event of a row; ``keys`` are the forms in which the log may hold its key."""
    return shown(Event, using).filter(stream=stream, object_pk__in=keys).order_by("-pk").first()


def compare(binding: type[Binding], row: Model, latest: Event | None, using: str) -> list[str] | None:
    """Return the names whose stored values differ from the last event, or ``None`` if that is unknown."""
    if latest is None or binding.runs_code() or latest.version != get_registry().version:
        return None
    if latest.kind not in (Event.ROW, Event.GONE) or (latest.kind == Event.ROW and latest.data == "{}"):
        return None
    sent = read_json(latest.data)
    if not isinstance(sent, dict):
        return None
    stored = json.loads(encode_value(binding(using=using).outgoing_data(row)))
    return sorted(name for name in stored if latest.kind == Event.GONE or stored[name] != sent.get(name))


def says_it_is_there(latest: Event) -> bool:
    """Return whether clients that received an event still show its row, under the present rules."""
    if latest.kind != Event.ROW or latest.version != get_registry().version:
        return False
    return any(action != "delete" for _, action in groups_of(latest))
