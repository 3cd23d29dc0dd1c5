"""Callbacks for ORM writes that send no signal, for bound and unbound models.

Signals would cover most of these writes, but with a receiver each ``QuerySet.delete()`` of the model would first load
its rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

from django.db import models, transaction

from declbind.django_types import Rows

DeleteObserver: TypeAlias = Callable[[models.Model, str], None]
BulkObserver: TypeAlias = "Callable[[Rows, frozenset[str] | None, str], None]"

#: By model: called with the row and the database alias before ``Model.delete`` deletes a single row.
delete_observers: dict[type[models.Model], DeleteObserver] = {}
#: By model: called in the transaction of a write of many rows, before it, with their query set, the names of the
#: written columns (``None`` for a delete) and the database.
bulk_observers: dict[type[models.Model], BulkObserver] = {}


def observed(rows: Rows, names: Iterable[str] | None, using: str) -> AbstractContextManager[None]:
    """Return a context manager that calls the observers of a write of many rows. Enter it around the write."""
    observe = bulk_observers.get(rows.model)
    # Calls for which Django will raise an error are not reported.
    if observe is None or rows.query.is_sliced or rows.query.combinator:
        return contextlib.nullcontext()
    return _observed(observe, rows, None if names is None else frozenset(names), using)


@contextlib.contextmanager
def _observed(observe: BulkObserver, rows: Rows, names: frozenset[str] | None, using: str) -> Iterator[None]:
    with transaction.atomic(using=using, savepoint=False):
        observe(rows, names, using)
        yield
