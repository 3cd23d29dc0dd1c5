"""Capture of ``Model.delete``, ``QuerySet.delete`` and ``_raw_delete``, with cascades and keys set to null.

The hook is at ``Collector.delete``, when all affected rows are known. Receivers of ``pre_delete`` or ``post_delete``
would disable Django's fast deletes for unbound models as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from functools import reduce
from operator import or_
from typing import Concatenate, ParamSpec, Protocol, TypeAlias

from django.db import connections, models

from declbind.django_types import Column, Rows

from . import log
from .also import keep_watching
from .batch import Batch
from .hooks import note_unknown_call
from .index import Index, TableListeners, Watch, current_index, known_index
from .lists import keep_owners
from .observers import delete_observers, observed
from .places import is_logged
from .plans import Plan
from .rows import keys_of
from .seams import HOOKED
from .writes import CapturedWrite, is_covered, only
from .written_rows import Chosen

#: Rows that a collector has gathered: a query that it runs itself, or instances.
Gathered: TypeAlias = "Rows | Collection[models.Model]"
P = ParamSpec("P")


class Collector(Protocol):
    """The attributes of Django's deletion collector that capture reads."""

    using: str
    data: dict[type[models.Model], Collection[models.Model]]
    fast_deletes: list[Rows]
    field_updates: dict[tuple[Column, object], list[Gathered]]


def capture_delete(
    original: Callable[Concatenate[Collector, P], object],
) -> Callable[Concatenate[Collector, P], object]:
    """Wrap ``Collector.delete``: read the affected rows, let Django delete, append the events."""

    @functools.wraps(original)
    def delete(self: Collector, /, *args: P.args, **kwargs: P.kwargs) -> object:
        using = self.using
        if not self.data and len(self.fast_deletes) == 1 and not self.field_updates:
            # If Django makes a single ``_raw_delete`` call, the hook of ``_raw_delete`` captures it. Most deletes are
            # of unbound rows, so the listeners should be looked up only once.
            return original(self, *args, **kwargs)
        _call_observers(self)
        known = known_index()
        if known is not None and not _is_bound(self, known):
            return original(self, *args, **kwargs)
        if not log.is_here(using):
            _report_elsewhere(self)
            return original(self, *args, **kwargs)
        write = CapturedWrite(connections[using], current_index())
        by_model = {model: write.listeners_of(model) for model, _ in _entries(self)}
        updated = {key: write.listeners_of(key[0].model) for key in self.field_updates}
        nulled = {key: listeners for key, listeners in updated.items() if listeners.are_any}
        is_listened_to = any(_plans_of(found) or found.lists or found.watches for found in by_model.values())
        if not (nulled or is_listened_to or write.is_marked):
            return original(self, *args, **kwargs)
        batch = write.batch
        with write:
            for model, instances in self.data.items():
                for plan in _plans_of(by_model[model]):
                    batch.will_delete(plan, [row.pk for row in instances])
            self.fast_deletes = [_read_gone(query, by_model[query.model], write) for query in self.fast_deletes]
            for key, listeners in nulled.items():
                model = key[0].model
                self.field_updates[key] = found = _joined(self.field_updates[key], listeners, write)
                for plan, lookup in (*listeners.family, *((twin, "pk") for twin in listeners.twins)):
                    for rows in found:
                        batch.will_change(plan, _chosen(rows, using), lookup)
                for rows in found:
                    _keep_watching(batch, listeners.watches, model, rows)
            for model, rows in _entries(self):
                if by_model[model].lists:
                    keep_owners(batch, by_model[model].lists, rows)
                _keep_watching(batch, by_model[model].watches, model, rows)
            covered = [*self.fast_deletes, *(rows for found in self.field_updates.values() for rows in found)]
            result = write.run(lambda: original(self, *args, **kwargs), covered)
            write.append()
        return result

    return delete


def _call_observers(collector: Collector) -> None:
    for model, instances in collector.data.items():
        if model in delete_observers:
            for row in instances:
                delete_observers[model](row, collector.using)


def _report_elsewhere(collector: Collector) -> None:
    for model in (*collector.data, *(rows.model for rows in collector.fast_deletes)):
        is_logged(model, collector.using)  # logs that the write is not captured


def _entries(collector: Collector) -> list[tuple[type[models.Model], Gathered]]:
    """Return the rows that are deleted, as pairs of a model and a query or list of instances."""
    return [*collector.data.items(), *((rows.model, rows) for rows in collector.fast_deletes)]


def _keep_watching(batch: Batch, watches: Sequence[Watch], model: type[models.Model], rows: Gathered) -> None:
    if watches:
        keep_watching(batch, watches, model, rows if isinstance(rows, models.QuerySet) else [row.pk for row in rows])


def _is_bound(collector: Collector, index: Index) -> bool:
    """Return whether the rows in a collector concern any binding."""
    # These are loops, not generator expressions, because most deletes concern no binding and must be fast.
    bound = index.bound
    for model in collector.data:
        if bound[model]:
            return True
    for rows in collector.fast_deletes:
        if bound[rows.model]:
            return True
    for field, _ in collector.field_updates:  # noqa: SIM110 - like the others
        if bound[field.model]:
            return True
    return False


def _chosen(rows: Gathered, using: str) -> Chosen:
    return keys_of(rows, using) if isinstance(rows, models.QuerySet) else [row.pk for row in rows]


def _plans_of(listeners: TableListeners) -> list[Plan]:
    """Return the plans of a table's own rows."""
    return [*([] if listeners.plan is None else [listeners.plan]), *listeners.twins]


def _read_gone(rows: Rows, listeners: TableListeners, write: CapturedWrite) -> Rows:
    """Read the rows of a query set that are about to be deleted; return a query for the rows that were read."""
    found = _read_own(rows, listeners, write)
    for twin in listeners.twins:
        write.batch.will_delete(twin, keys_of(found, write.using))
    return found


def _read_own(rows: Rows, listeners: TableListeners, write: CapturedWrite) -> Rows:
    plan = listeners.plan
    if plan is not None and plan.shows_all:
        return only(rows, write.batch.will_delete(plan, keys_of(rows, write.using)), write.using)
    rows = _locked(rows, listeners, write)
    if plan is not None:
        write.batch.will_delete(plan, keys_of(rows, write.using))
    return rows


def _locked(rows: Rows, listeners: TableListeners, write: CapturedWrite) -> Rows:
    """Lock the rows that a query set matches, so that the rows read are the rows written; return a query for them.

    On SQLite no other transaction can write in the meantime. On MySQL and MariaDB ``keys_of`` locks the rows.
    """
    if connections[write.using].vendor != "postgresql" or not listeners.are_any or rows.query.is_sliced:
        return rows
    keys = rows.using(write.using).order_by().values_list("pk", flat=True)
    is_alone = sum(1 for count in rows.query.alias_refcount.values() if count) < 2
    return only(rows, list(keys.select_for_update() if is_alone else keys), write.using)


def _joined(found: Sequence[Gathered], listeners: TableListeners, write: CapturedWrite) -> list[Gathered]:
    """Join query sets into one, as Django is about to, so that the rows read are the rows updated."""
    queries = [rows for rows in found if isinstance(rows, models.QuerySet) and rows._result_cache is None]
    others = [rows for rows in found if not any(rows is query for query in queries)]
    if queries:
        others.append(_locked(reduce(or_, queries), listeners, write))
    return others


def capture_raw_delete(original: Callable[Concatenate[Rows, P], object]) -> Callable[Concatenate[Rows, P], object]:
    """Wrap ``QuerySet._raw_delete`` for direct calls; a collector's calls are captured with the collector."""

    @functools.wraps(original)
    def _raw_delete(self: Rows, /, *args: P.args, **kwargs: P.kwargs) -> object:
        using = args[0] if args else kwargs.get("using")
        if not isinstance(using, str):
            note_unknown_call(HOOKED["_raw_delete"])
            return original(self, *args, **kwargs)
        known = known_index()
        if (known is not None and not known.bound[self.model]) or is_covered(self, using):
            return original(self, *args, **kwargs)
        if not is_logged(self.model, using):
            with observed(self, None, using):
                return original(self, *args, **kwargs)
        write = CapturedWrite(connections[using], current_index())
        listeners = write.listeners_of(self.model)
        if listeners.plan is None and not (listeners.lists or listeners.watches or listeners.twins):
            with observed(self, None, using):
                return write.run(lambda: original(self, *args, **kwargs))
        with write:
            rows = _read_gone(self, listeners, write)
            keep_owners(write.batch, listeners.lists, rows)
            keep_watching(write.batch, listeners.watches, self.model, rows)
            with observed(self, None, using):
                count = write.run(lambda: original(rows, *args, **kwargs))
            write.append()
        return count

    return _raw_delete
