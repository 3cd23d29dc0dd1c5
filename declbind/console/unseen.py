"""Tell what a binding does not see: the kinds of write that leave no event, and writes that were noticed to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import deletion

from declbind.bindings import Binding
from declbind.checks import foreign_database
from declbind.core.errors import Problem
from declbind.outbound.plans import current_index
from declbind.outbound.triggers import tables, upkeep
from declbind.outbound.triggers.upkeep import TableState

#: What Django 6.1 calls an ``on_delete`` that the database carries out.
_BY_DATABASE: Any = getattr(deletion, "DatabaseOnDelete", ())

INSTALL = "Run `manage.py declbind triggers --install`."


@dataclass(frozen=True)
class Gap:
    """One kind of write that a binding does not see: what, and what to do. ``is_fault``: it was meant to be seen."""

    text: str
    action: str
    is_fault: bool = False

    def as_problem(self, stream: str) -> Problem:
        """Return the warning for a check."""
        return Problem("$.capture", f"Binding {stream!r} does not see: {self.text} {self.action}")

    def as_json(self) -> dict[str, Any]:
        """Return what a machine reads."""
        return {"text": self.text, "action": self.action, "fault": self.is_fault}


def find_gaps(binding: type[Binding], using: str, states: Sequence[TableState] | None = None) -> list[Gap]:
    """Return what a binding in force does not see, what was meant to be seen first.

    ``states`` are the triggers of the tables as ``upkeep.load_states`` gives them; without them they are loaded, where
    the binding wants triggers. Nothing else here makes a query.
    """
    if not binding.spec().outbound:
        return []
    return sorted(_gaps(binding, using, states), key=lambda gap: not gap.is_fault)


def load_trigger_states(binding: type[Binding], using: str) -> list[TableState]:
    """Return the triggers of the tables that a binding in force has watched; none where it wants none."""
    if not wants_triggers(binding):
        return []
    return [state for state in upkeep.load_states(using) if binding.stream in state.streams]


def wants_triggers(binding: type[Binding]) -> bool:
    """Tell whether a binding is to hear of more than what the ORM writes."""
    return binding.spec().outbound and binding.spec().capture == "triggers"


def _gaps(binding: type[Binding], using: str, states: Sequence[TableState] | None) -> Iterator[Gap]:
    options: Any = binding.model_class()._meta
    alias = foreign_database(binding)
    if alias:
        yield Gap(
            f"Every write: {options.label} is written to database {alias!r}, the log is in {using!r}.",
            "Route app 'declbind' to the database of the bound models.",
            is_fault=True,
        )
        return
    others = [other for other in connections if other != using]
    if others:
        yield Gap(
            f"Writes to another database of the settings ({', '.join(map(repr, others))}) by using().",
            f"Write {options.label} to {using!r} only.",
        )
    if binding.spec().capture != "triggers":
        yield Gap(
            "Raw SQL and other programs.",
            'Say "capture": "triggers" and run `manage.py declbind triggers --install`, or announce the rows with '
            "declbind.touch(queryset).",
        )
        yield from _cascades(binding)
    elif not upkeep.is_supported(using):
        yield Gap(
            f"Raw SQL and other programs: there are no triggers for {connections[using].display_name}.",
            "Announce the rows with declbind.touch(queryset).",
            is_fault=True,
        )
    else:
        yield from _trigger_gaps(binding, using, upkeep.load_states(using) if states is None else states)


def _trigger_gaps(binding: type[Binding], using: str, states: Sequence[TableState]) -> Iterator[Gap]:
    stream = binding.stream
    for state in states:
        if stream not in state.streams or state.is_well:
            continue
        if state.state == "outdated":
            text = f"The triggers of table {state.table} are older than the binding or the table."
        else:
            what = ", ".join(state.unmarked)
            text = (
                f"Raw SQL and other programs that {what} rows of table {state.table}: its triggers are {state.state}."
            )
        yield Gap(text, INSTALL, is_fault=True)
    if connections[using].vendor == "sqlite":
        yield Gap(
            "The row that INSERT OR REPLACE takes the place of: the new one is told as created.",
            "Update rows instead, or set PRAGMA recursive_triggers in the program that does it.",
        )


def _cascades(binding: type[Binding]) -> Iterator[Gap]:
    """Yield what the database itself does to rows when others go (``DB_CASCADE`` and its kin, since Django 6.1)."""
    for model in tables.table_models(binding.model_class()):
        for field in model._meta.local_concrete_fields:
            action = getattr(field.remote_field, "on_delete", None)
            if isinstance(action, _BY_DATABASE):
                yield Gap(
                    f"What the database does to rows when what {field.name!r} points to is deleted ({action}).",
                    'Say "capture": "triggers", or let Django do it.',
                    is_fault=True,
                )


def faulty_streams(using: str) -> Iterator[tuple[str, Gap]]:
    """Yield the gaps that were not meant, with the streams that have them. Loads the triggers once, if at all."""
    bindings = current_index().registry.by_stream.values()
    states = upkeep.load_states(using) if any(map(wants_triggers, bindings)) else []
    for binding in bindings:
        for gap in find_gaps(binding, using, states):
            if gap.is_fault:
                yield str(binding.stream), gap


def load_faults(using: str) -> dict[str, list[Gap]]:
    """Return the gaps that were not meant, by stream."""
    faults: dict[str, list[Gap]] = {}
    for stream, gap in faulty_streams(using):
        faults.setdefault(stream, []).append(gap)
    return faults
