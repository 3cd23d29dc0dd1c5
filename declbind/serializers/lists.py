"""Read the many-to-many lists of several rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import models

from declbind.batches import in_batches
from declbind.stored_rows import AnyRow, StoredRow, database_of

#: The attribute under which an instance that was read for a snapshot has its lists: `{field name: keys}`.
_LISTS = "_declbind_lists"


def load_lists(rows: Sequence[AnyRow], listed: Iterable[Any], using: str) -> None:
    """Read the lists of rows, a query for each field. Only for rows that nobody else holds: it is kept on them."""
    fields = list(listed)
    if len(rows) < 2 or not fields:
        return  # One row's are read when they are asked for, as many queries.
    by_key = {row.pk: {field.name: list[Any]() for field in fields} for row in rows}
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


def related_keys(row: AnyRow, field: Any) -> list[Any]:
    """Return the keys of a many-to-many field's rows, sorted; those that were read for it, else from the database."""
    lists = row.lists if isinstance(row, StoredRow) else vars(row).get(_LISTS, {})
    found = lists.get(field.name)
    if found is not None:
        return list(found)
    owner, target = list_columns(field)
    rows = through_rows(field, database_of(row)).filter(**{owner: row.pk})
    return list(rows.order_by(target).values_list(target, flat=True))


def through_rows(field: Any, using: str | None) -> models.QuerySet[Any]:
    """Return the rows that a many-to-many field is kept in, all of them, whatever a manager of theirs shows."""
    return models.QuerySet(field.remote_field.through, using=using)


def list_columns(field: Any) -> tuple[str, str]:
    """Return the attributes that hold, in a list's through rows, the row that has the list and the listed row."""
    options = field.remote_field.through._meta
    names = field.m2m_field_name(), field.m2m_reverse_field_name()
    return options.get_field(names[0]).attname, options.get_field(names[1]).attname
