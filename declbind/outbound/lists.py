"""Find the rows whose many-to-many lists change with rows of a through model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from .batch import Batch
from .plans import Plan


def keep_owners(batch: Batch, lists: Iterable[tuple[Plan, Any]], rows: Any) -> None:
    """Note the rows that own what is listed by through rows, given as a query set or as instances.

    To be called before through rows go or are changed, and after they were changed or came.
    """
    for plan, listed in lists:
        owner = owner_column(listed)
        if isinstance(rows, models.QuerySet):
            keys = set(rows.using(batch.using).order_by().values_list(owner, flat=True))
        else:
            keys = {getattr(row, owner) for row in rows}
        batch.keep(plan, keys - {None}, plan.outlets_of(listed))


def owner_column(listed: Any) -> str:
    """Return the name of the column that holds, in a list's through rows, the row that has the list."""
    column: str = listed.remote_field.through._meta.get_field(listed.m2m_field_name()).attname
    return column
