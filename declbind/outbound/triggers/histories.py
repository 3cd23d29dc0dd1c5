"""The states that a row passed through in one batch of marks.

A mark carries the columns of one table. The other columns of the row are taken from marks before or after it. An event
thus shows the row as it was at the time of the write, even if the row has since been changed or deleted.
"""

from __future__ import annotations

from django.db import models

from declbind.django_types import Key, RowValues, concrete_model

#: A model, for its own table.
Table = type[models.Model]


class Histories:
    """The marked writes of one batch, grouped by row."""

    def __init__(self) -> None:
        self._writes: dict[Table, dict[Key, list[tuple[int, RowValues | None, RowValues | None]]]] = {}

    def add(self, model: Table, key: Key, place: int, old: RowValues | None, new: RowValues | None) -> None:
        """Add a write of a row. Writes of one row must be added in the order of their places in the batch."""
        self._writes.setdefault(model, {}).setdefault(key, []).append((place, old, new))

    def columns_at(self, model: Table, key: Key, place: int) -> RowValues:
        """Return the known columns of a row, parents' columns included, after the write at ``place``."""
        own: RowValues = {}
        for at, old, new in self._writes.get(model, {}).get(key, ()):
            if at > place:
                own = own or old or {}
                break
            own = new or old or {}
        found: RowValues = {}
        for parent, link in model._meta.parents.items():
            parent_key = key if link is None or link.primary_key else own.get(link.attname)
            if parent_key is not None:
                found.update(self.columns_at(concrete_model(parent), parent_key, place))
        return {**found, **own}

    def keys_of_children(self, model: Table, parent: Table, key: Key, place: int) -> list[Key]:
        """Return the keys of the rows of ``model`` that belonged to a parent's row and were deleted after ``place``."""
        link = model._meta.parents.get(parent)
        if link is None:
            return []
        return [
            child
            for child, writes in self._writes.get(model, {}).items()
            if any(
                at > place and old is not None and new is None and old.get(link.attname) == key
                for at, old, new in writes
            )
        ]
