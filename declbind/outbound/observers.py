"""Tell those who want to know of writes that send no signal, whether anything is bound to the model or not.

Signals would do for most of it, and a listener would make each ``QuerySet.delete()`` of the model load its rows first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

from django.db import models, transaction

from .django_types import Rows

DeleteObserver: TypeAlias = Callable[[models.Model, str], None]
BulkObserver: TypeAlias = "Callable[[Rows, frozenset[str] | None, str], None]"

#: By model: called with a row that is deleted by itself and the database, before it goes.
delete_observers: dict[type[models.Model], DeleteObserver] = {}
#: By model: called with a query set whose rows are about to be written at once, the names of the columns (``None``:
#: they go) and the database, in the transaction of the write.
bulk_observers: dict[type[models.Model], BulkObserver] = {}


def observed(rows: Rows, names: Iterable[str] | None, using: str) -> AbstractContextManager[None]:
    """Tell of a write of many rows; to be entered around it."""
    observe = bulk_observers.get(rows.model)
    # What Django is about to refuse is not looked at.
    if observe is None or rows.query.is_sliced or rows.query.combinator:
        return contextlib.nullcontext()
    return _observed(observe, rows, None if names is None else frozenset(names), using)


@contextlib.contextmanager
def _observed(observe: BulkObserver, rows: Rows, names: frozenset[str] | None, using: str) -> Iterator[None]:
    with transaction.atomic(using=using, savepoint=False):
        observe(rows, names, using)
        yield
