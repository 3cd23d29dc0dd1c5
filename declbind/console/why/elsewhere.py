"""The row of a key in other places: other databases, and the tables of parents and children of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections, models, transaction

from declbind import value_validation
from declbind.bindings import Binding
from declbind.models import Event
from declbind.registry import get_registry

from .events import events_of, keys_of


@dataclass(frozen=True)
class OtherRow:
    """A row with the same key in another database; ``differs`` says whether it differs from the one of the log's."""

    alias: str
    differs: bool


@dataclass(frozen=True)
class Relative:
    """A parent or child model that has a row with the key, and the streams that send it."""

    label: str
    is_parent: bool
    streams: tuple[str, ...]


def find_other_rows(binding: type[Binding], key: str, row: Any | None, using: str) -> list[OtherRow]:
    """Return the other databases of the settings that hold a row with a key. Takes a query for each."""
    model = binding.model_class()
    found = []
    for alias in connections:
        if alias == using:
            continue
        try:
            rows = model._base_manager.using(alias).filter(pk=value_validation.coerce(model._meta.pk, key))
            # In a savepoint if a transaction is open there, which a missing table would end.
            with transaction.atomic(using=alias):
                other = rows.values().first()
        except Exception:  # the table is not there, or the database is not, or a test forbids it
            continue
        if other is not None:
            mine = None if row is None else model._base_manager.using(using).filter(pk=row.pk).values().first()
            found.append(OtherRow(alias, other != mine))
    return found


def find_relatives(binding: type[Binding], key: str, using: str) -> list[Relative]:
    """Return the parents and children of a model, by multi-table inheritance, that have a row with a key."""
    model = binding.model_class()
    parents = [(parent, True) for parent in model._meta.all_parents if not parent._meta.proxy]
    children = [(child, False) for child in _children(model)]
    found = []
    for relative, is_parent in (*parents, *children):
        try:
            rows = relative._base_manager.using(using).filter(pk=value_validation.coerce(relative._meta.pk, key))
            is_there = rows.exists()
        except ValueError:
            continue
        if is_there:
            found.append(Relative(relative._meta.label, is_parent, tuple(streams_of(relative))))
    return found


def find_change(relative: Relative, key: str, since: datetime | None, using: str) -> Event | None:
    """Return the last event of a relative's row, after a moment if one is given."""
    registry = get_registry()
    found: list[Event] = []
    for stream in relative.streams:
        events = events_of(stream, using).filter(object_pk__in=keys_of(key, registry.by_stream.get(stream)))
        if since is not None:
            events = events.filter(created_at__gt=since)
        last = events.order_by("-pk").first()
        if last is not None:
            found.append(last)
    return max(found, key=lambda event: event.pk, default=None)


def streams_of(model: type[models.Model]) -> list[str]:
    """Return the streams that send a model."""
    return [stream for stream, binding in get_registry().by_stream.items() if binding.model_class() is model]


def last_key(binding: type[Binding], using: str) -> int | None:
    """Return the last key that the database has given out for a model; ``None`` if that is unknown.

    On PostgreSQL and MySQL, a key that was given out and rolled back counts. On SQLite it does not.
    """
    key = binding.model_class()._meta.pk
    if not isinstance(key, models.AutoField | models.BigAutoField | models.SmallAutoField):
        return None
    table = binding.model_class()._meta.db_table
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [connection.ops.quote_name(table), key.column])
            sequence = cursor.fetchone()[0]
            if sequence is None:
                return None
            cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM " + sequence)
        elif connection.vendor == "sqlite":
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        else:
            quote = connection.ops.quote_name
            cursor.execute(f"SELECT MAX({quote(str(key.column))}) FROM {quote(table)}")
        found = cursor.fetchone()
    return int(found[0]) if found and found[0] is not None else 0


def _children(model: type[models.Model]) -> Iterator[type[models.Model]]:
    for relation in model._meta.related_objects:
        child = relation.related_model
        if getattr(relation, "parent_link", False) and isinstance(child, type):
            yield child
            yield from _children(child)
