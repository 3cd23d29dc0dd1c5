"""Reading of the many-to-many lists of several rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from django.db import models

from declbind.batches import in_batches
from declbind.django_types import Column, Key, ListField, Rows, through_of
from declbind.stored_rows import AnyRow, StoredRow, database_of

#: The attribute that holds the lists of an instance that was read for a snapshot: `{field name: keys}`.
_LISTS = "_declbind_lists"


def load_lists(rows: Sequence[AnyRow], listed: Iterable[ListField], using: str) -> None:
    """Read the many-to-many lists of rows, with one query for each field.

    The lists are stored on the row objects, so no other code may use these objects.
    """
    fields = list(listed)
    if len(rows) < 2 or not fields:
        return  # The lists of a single row are read on access, which takes no more queries.
    by_key = {row.pk: {field.name: list[Key]() for field in fields} for row in rows}
    for row in rows:
        if isinstance(row, StoredRow):
            row.lists = by_key[row.pk]
        else:
            setattr(row, _LISTS, by_key[row.pk])
    for field in fields:
        owner, target = list_columns(field)
        for some in in_batches(by_key, using):
            pairs = through_rows(field, using).filter(**{f"{owner}__in": some}).order_by(target)
            for key, value in pairs.values_list(owner, target):
                by_key[key][field.name].append(value)


def related_keys(row: AnyRow, field: ListField) -> list[Key]:
    """Return the sorted keys in a row's many-to-many field, from the stored list or from the database."""
    lists = row.lists if isinstance(row, StoredRow) else vars(row).get(_LISTS, {})
    found = lists.get(field.name)
    if found is not None:
        return list(found)
    owner, target = list_columns(field)
    rows = through_rows(field, database_of(row)).filter(**{owner: row.pk})
    return list(rows.order_by(target).values_list(target, flat=True))


def through_rows(field: ListField, using: str | None) -> Rows:
    """Return all through rows of a many-to-many field, including rows that their manager hides."""
    return models.QuerySet(through_of(field), using=using)


def list_columns(field: ListField) -> tuple[str, str]:
    """Return two attribute names of a list's through rows: of the row that owns the list, and of the listed row."""
    options = through_of(field)._meta
    names = field.m2m_field_name(), field.m2m_reverse_field_name()
    owner, target = (cast(Column, options.get_field(name)) for name in names)
    return owner.attname, target.attname
