"""The history of a table's rows in a batch of marks: the state of a row at the place of a mark.

A mark carries the columns of one table. The other columns of the row come from marks before or after it. The row is
thus reported as it was then, even if it has changed since or was deleted.
"""

from __future__ import annotations

from django.db import models

from declbind.django_types import Key, RowValues, concrete_model

#: A model, for its own table.
Table = type[models.Model]


class Histories:
    """The marked writes of one batch, by row."""

    def __init__(self) -> None:
        self._writes: dict[Table, dict[Key, list[tuple[int, RowValues | None, RowValues | None]]]] = {}

    def add(self, model: Table, key: Key, place: int, old: RowValues | None, new: RowValues | None) -> None:
        """Add a write of a row. Call it for each row in the order of places."""
        self._writes.setdefault(model, {}).setdefault(key, []).append((place, old, new))

    def columns_at(self, model: Table, key: Key, place: int) -> RowValues:
        """Return the columns of a row after the write at a place, its parents' included, as far as known."""
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
        """Return the keys of rows of a model that were deleted after a place and belonged to a parent's row."""
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
