"""The fields that ``"__all__"`` and ``exclude`` of a stored record may send, and how an edit changes them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

from django.db import models

from declbind.core.errors import ConfigError
from declbind.core.spec import BindingSpec
from declbind.fields import bound_fields, find_model, held_fields, model_fields


class Definition(Protocol):
    """The part of a stored record that this module needs."""

    known: list[str] | None

    def to_spec(self) -> BindingSpec:
        """Return the record as a spec, without its ``known`` fields."""
        ...


class Choice(NamedTuple):
    """The only fields that an edit lets a record send; all present fields if ``names`` is ``None``."""

    names: frozenset[str] | None


def read_definition(record: Definition) -> tuple[type[models.Model], BindingSpec] | None:
    """Return the model and the spec of a readable record, with the fields that it may send."""
    try:
        spec = record.to_spec()
    except ConfigError:
        return None
    model = find_model(spec.model)
    known = frozenset(record.known) if isinstance(record.known, list) else None
    return None if model is None else (model, replace(spec, known=known))


def settle_known(before: Definition | None, after: Definition, choice: Choice | None = None) -> list[str] | None:
    """Return the value of ``known`` once ``after`` is stored in place of ``before``.

    Fields that are held back stay so, whatever else the edit changes, unless there is a choice. A new record sends all
    present fields.
    """
    found = read_definition(after)
    if found is None:
        return before.known if before is not None else after.known
    model, spec = found
    if not spec.is_open or spec.grow:
        return None
    names = {field.name for field in bound_fields(model, replace(spec, known=None))}
    if choice is not None:
        names = names if choice.names is None else names & choice.names
    elif before is None:
        names = names if spec.known is None else names & spec.known
    was = read_definition(before) if before is not None else None
    if was is not None and was[0] is model:
        if choice is None:
            names -= {field.name for field in held_fields(*was)}
        # A process with newer code may have accepted fields that the model in this process does not have yet.
        names |= set(was[1].known or ()) - {field.name for field in model_fields(model)}
    return sorted(names)
