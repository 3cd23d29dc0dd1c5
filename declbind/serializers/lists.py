"""Read the many-to-many lists of several rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from declbind.batches import in_batches

#: The attribute under which a row that was read for an event or a snapshot has its lists: ``{field name: keys}``.
_LISTS = "_declbind_lists"


def load_lists(rows: Sequence[Any], listed: Iterable[Any], using: str) -> None:
    """Read the lists of rows, a query for each field. Only for rows that nobody else holds: it is kept on them."""
    fields = list(listed)
    if len(rows) < 2 or not fields:
        return  # One row's are read when they are asked for, as many queries.
    by_key = {row.pk: row for row in rows}
    for row in rows:
        setattr(row, _LISTS, {field.name: [] for field in fields})
    for field in fields:
        through = field.remote_field.through
        owner = through._meta.get_field(field.m2m_field_name()).attname
        target = through._meta.get_field(field.m2m_reverse_field_name()).attname
        for some in in_batches(by_key, using):
            pairs = through._base_manager.using(using).filter(**{f"{owner}__in": some}).order_by(target)
            for key, value in pairs.values_list(owner, target):
                getattr(by_key[key], _LISTS)[field.name].append(value)


def related_keys(instance: Any, field: Any) -> list[Any]:
    """Return the keys of a many-to-many field's rows, sorted; those that were read for it, else from the database."""
    found = vars(instance).get(_LISTS, {}).get(field.name)
    if found is not None:
        return list(found)
    target = field.remote_field.through._meta.get_field(field.m2m_reverse_field_name()).attname
    rows = field.remote_field.through._base_manager.using(instance._state.db)
    return list(rows.filter(**{field.m2m_field_name(): instance.pk}).order_by(target).values_list(target, flat=True))
