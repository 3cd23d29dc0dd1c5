"""Say which tables want triggers, and which of their columns a mark has to carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from django.db import models

from declbind.conf import settings
from declbind.outbound.django_types import Column, column_name, concrete_model
from declbind.outbound.index import Index, TableListeners
from declbind.outbound.plans import Plan


@dataclass(frozen=True)
class WantedTable:
    """One table of which writes are to be marked."""

    name: str
    key: str
    #: Columns that marks carry, the key among them, in the table's order.
    columns: tuple[str, ...]
    #: Streams that want it.
    streams: tuple[str, ...]
    #: More rows than these, written by one statement, are marked as one.
    limit: int


#: What a row was before a write, and what it is after it.
Side = Literal["old", "new"]
SIDES: tuple[Side, ...] = ("old", "new")


class Image(NamedTuple):
    """A row as a mark carries it: before the write or after it."""

    #: The place of the mark among those that were read.
    place: int
    side: Side
    #: The values of the columns that were asked for.
    values: list[object]


@dataclass(frozen=True)
class HeardTable:
    """What a mark of a table means: which model's it is, and who hears of it."""

    model: type[models.Model]
    listeners: TableListeners


def heard_tables(index: Index) -> dict[str, HeardTable]:
    """Return the tables that bindings with triggers hear of, by their names."""
    return {name: HeardTable(model, index.marked.of(model)) for name, model in index.marked.tables.items()}


def table_models(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the models in whose tables a model's rows lie: its own, and the parents' that it inherits from."""
    return [concrete_model(table) for table in (model, *model._meta.all_parents)]


def wanted_tables(index: Index) -> list[WantedTable]:
    """Return the tables that want triggers, by name."""
    wanted = []
    for name, heard in heard_tables(index).items():
        options = heard.model._meta
        fields: set[object] = {options.pk}
        for plan, _ in heard.listeners.family:
            fields.update(plan.fields)
        for _, listed in heard.listeners.lists:
            fields.add(options.get_field(listed.m2m_field_name()))
        for _, hop in heard.listeners.watches:
            fields.add(options.pk if hop.column == "pk" else hop.model._meta.get_field(hop.column))
        wanted.append(
            WantedTable(
                name=name,
                key=column_name(options.pk),
                columns=_columns(options.local_concrete_fields, fields),
                streams=_streams(heard.listeners.plans),
                limit=settings.BULK_LIMIT,
            )
        )
    return sorted(wanted, key=lambda table: table.name)


def _columns(local: Iterable[Column], fields: set[object]) -> tuple[str, ...]:
    return tuple(column_name(field) for field in local if field in fields or field.primary_key)


def _streams(plans: Iterable[Plan]) -> tuple[str, ...]:
    return tuple(sorted({outlet.stream for plan in plans for outlet in plan.outlets}))
