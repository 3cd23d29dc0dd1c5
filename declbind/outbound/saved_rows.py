"""The row that a save writes: its groups before the write, and its events after the write."""

from __future__ import annotations

from django.db import models

from declbind.django_types import Key

from .drafts import Groups, draft_bulk, draft_hidden, draft_write, groups_of, unread
from .entries import Draft
from .known_values import stored_row
from .plans import Plan
from .rows import load_row


def old_groups(plan: Plan | None, pk: Key, using: str) -> Groups | None:
    """Return the groups of the stored row, or ``None`` if there is no row.

    The result is empty if the old groups are not needed.
    """
    if plan is None or not plan.needs_old:
        return {}
    try:
        row = None if pk is None else load_row(plan, pk, plan.group_fields, using)
    except Exception as error:  # a read of capture must not break the write
        return unread(plan, using, error)
    return None if row is None else groups_of(plan, row, using)


def key_in(table: type[models.Model], instance: models.Model) -> Key | None:
    """Return the key of an instance in a table, its own or a parent's, or ``None`` if it has none yet."""
    return instance._get_pk_val(table._meta)


def draft_saved(
    plan: Plan, instance: models.Model, cls: type[models.Model], old: Groups | None, as_given: bool, using: str
) -> list[Draft]:
    """Return the events of a saved instance.

    If ``as_given`` is true, the instance's values may differ from the stored ones, so the row is read back.
    """
    pk = key_in(cls, instance)
    # A second parent has its own primary key, and its many-to-many lists refer to that key.
    is_other_row = bool(plan.m2m) and pk != instance.pk
    try:
        row = None
        # Clients do not see a row that its base manager hides, whatever values the instance has.
        if plan.shows_all and not (as_given or is_other_row):
            row = stored_row(plan, instance, cls._meta.pk, using)
        if row is None and pk is not None:
            row = load_row(plan, pk, plan.fields, using)
    except Exception as error:  # a read of capture must not break the write
        return draft_bulk(plan, unread(plan, using, error))
    return draft_hidden(plan, pk, old, using) if row is None else draft_write(plan, row, row.pk, old, using)
