"""The tables that need triggers, and the columns that a mark has to carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from django.db import models

from declbind.conf import settings
from declbind.django_types import Column, column_name, concrete_model
from declbind.outbound.index import Index, TableListeners
from declbind.outbound.plans import Plan


@dataclass(frozen=True)
class WantedTable:
    """A table that needs triggers."""

    name: str
    key: str
    #: The columns that marks carry, the key included, in the order of the table.
    columns: tuple[str, ...]
    #: The streams that need the triggers.
    streams: tuple[str, ...]
    #: A statement that writes more rows than this gets one mark without values.
    limit: int


#: The two versions of a row in a mark: before and after the write.
Side = Literal["old", "new"]
SIDES: tuple[Side, ...] = ("old", "new")


class Image(NamedTuple):
    """One version of a row in a mark."""

    #: The index of the mark in the list that was read.
    place: int
    side: Side
    #: The values of the requested columns.
    values: list[object]


@dataclass(frozen=True)
class CapturedTable:
    """One model that is stored in a marked table, and its listeners."""

    model: type[models.Model]
    listeners: TableListeners


def captured_tables(index: Index) -> dict[str, list[CapturedTable]]:
    """Return the tables that bindings with triggers listen to: table name -> one entry for each model stored in it.

    Models that share a table are kept apart, because each reads the columns through its own fields.
    """
    return {
        name: [
            CapturedTable(model, index.marked.of(model)._replace(twins=())) for model in index.marked.models_of(name)
        ]
        for name in index.marked.tables
    }


def table_models(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the models whose tables hold a model's rows: itself, and the parents that it inherits from."""
    return [concrete_model(table) for table in (model, *model._meta.all_parents)]


def wanted_tables(index: Index) -> list[WantedTable]:
    """Return the tables that need triggers, sorted by name."""
    wanted = []
    for name, captured in captured_tables(index).items():
        key = captured[0].model._meta.pk
        wanted.append(
            WantedTable(
                name=name,
                key=column_name(key),
                columns=tuple(dict.fromkeys(column for one in captured for column in _columns_of(one))),
                streams=_streams(plan for one in captured for plan in one.listeners.plans),
                limit=settings.BULK_LIMIT,
            )
        )
    return sorted(wanted, key=lambda table: table.name)


def _columns_of(captured: CapturedTable) -> list[str]:
    """Return the columns that a model's listeners need, in the order of the model's fields."""
    options = captured.model._meta
    fields: set[object] = {options.pk}
    for plan, _ in captured.listeners.family:
        fields.update(plan.fields)
    for _, listed in captured.listeners.lists:
        fields.add(options.get_field(listed.m2m_field_name()))
    for _, hop in captured.listeners.watches:
        fields.add(options.pk if hop.column == "pk" else hop.model._meta.get_field(hop.column))
    local: Iterable[Column] = options.local_concrete_fields
    return [column_name(field) for field in local if field in fields or field.primary_key]


def _streams(plans: Iterable[Plan]) -> tuple[str, ...]:
    return tuple(sorted({outlet.stream for plan in plans for outlet in plan.outlets}))
