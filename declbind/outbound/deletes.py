"""Capture ``Model.delete``, ``QuerySet.delete`` and ``_raw_delete``: what goes with them, and what is set null.

The hook sits at ``Collector.delete``, which has gathered all of it. Listeners of ``pre_delete`` and ``post_delete``
would cost unbound models their fast deletes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db import models, transaction

from . import log
from .also import keep_watching
from .batch import Batch, Chosen
from .hearers import Hearers
from .hooks import note_unread
from .index import Index, current_index, known_index
from .lists import keep_owners
from .locks import take_write_lock
from .observers import delete_observers, observed
from .once import CAPTURED, is_open
from .places import is_logged
from .rows import keys_of
from .seams import HOOKED
from .triggers.quiet import quiet


def capture_delete(original: Any) -> Any:
    """Wrap ``Collector.delete``: read what is about to go or to be set null, let Django delete, append the events."""

    @functools.wraps(original)
    def delete(self: Any, *args: Any, **kwargs: Any) -> Any:
        using = self.using
        if not self.data and len(self.fast_deletes) == 1 and not self.field_updates:
            # All that Django does is one ``_raw_delete``, which captures itself: most deletes are of unbound rows, and
            # are to ask once whether somebody hears of them.
            return original(self, *args, **kwargs)
        for model, rows in self.data.items():
            if model in delete_observers:
                for row in rows:
                    delete_observers[model](row, using)
        known = known_index()
        if known is not None and not _is_heard(self, known):
            return original(self, *args, **kwargs)
        if not log.is_here(using):
            for model in (*self.data, *(rows.model for rows in self.fast_deletes)):
                is_logged(model, using)  # which says so
            return original(self, *args, **kwargs)
        index = current_index()
        entries = [*self.data.items(), *((rows.model, rows) for rows in self.fast_deletes)]
        gone = [(plan, rows) for model, rows in entries if (plan := index.plan_for(model))]
        nulled = [key for key in self.field_updates if index.family_of(key[0].model) or index.watches_of(key[0].model)]
        unlisted = [(lists, rows) for model, rows in entries if (lists := index.lists_through(model))]
        watched = [(watches, model, rows) for model, rows in entries if (watches := index.watches_of(model))]
        if not (gone or nulled or unlisted or watched):
            return original(self, *args, **kwargs)
        with transaction.atomic(using=using, savepoint=False):
            take_write_lock(using)
            batch = Batch(using)
            for plan, rows in gone:
                batch.will_delete(plan, _chosen(rows, using))
            for key in nulled:
                self.field_updates[key] = found = _joined(self.field_updates[key])
                for plan, lookup in index.family_of(key[0].model):
                    for rows in found:
                        batch.will_change(plan, _chosen(rows, using), lookup)
                for rows in found:
                    is_query = isinstance(rows, models.QuerySet)
                    watches = index.watches_of(key[0].model)
                    keep_watching(batch, watches, key[0].model, rows if is_query else [row.pk for row in rows])
            for lists, rows in unlisted:
                keep_owners(batch, lists, rows)
            for watches, model, rows in watched:
                is_query = isinstance(rows, models.QuerySet)
                keep_watching(batch, watches, model, rows if is_query else [row.pk for row in rows])
            for rows in self.fast_deletes:
                setattr(rows, CAPTURED, True)
            with quiet(index, using):
                result = original(self, *args, **kwargs)
            batch.append()
        return result

    return delete


def _is_heard(collector: Any, index: Index) -> bool:
    """Tell whether anybody may hear of what a collector has gathered."""
    # Loops, and no generators: of most deletes nobody hears, and these are to cost next to nothing.
    heard = index.heard
    for model in collector.data:
        if heard[model]:
            return True
    for rows in collector.fast_deletes:
        if heard[rows.model]:
            return True
    for field, _ in collector.field_updates:  # noqa: SIM110 - like the others
        if heard[field.model]:
            return True
    return False


def _chosen(rows: Any, using: str) -> Chosen:
    return keys_of(rows, using) if isinstance(rows, models.QuerySet) else [row.pk for row in rows]


def _joined(found: Sequence[Any]) -> list[Any]:
    """Join query sets into one, as Django is about to, and mark it, so that its update is not captured once more."""
    queries = [rows for rows in found if isinstance(rows, models.QuerySet) and rows._result_cache is None]
    others = [rows for rows in found if not any(rows is query for query in queries)]
    if queries:
        joined = reduce(or_, queries)
        setattr(joined, CAPTURED, True)
        others.append(joined)
    return others


def capture_raw_delete(original: Any) -> Any:
    """Wrap ``QuerySet._raw_delete``, for who calls it himself: a collector's calls are captured with the collector."""

    @functools.wraps(original)
    def _raw_delete(self: Any, *args: Any, **kwargs: Any) -> Any:
        using = args[0] if args else kwargs.get("using")
        if using is None:
            note_unread(HOOKED["_raw_delete"])
            return original(self, *args, **kwargs)
        known = known_index()
        if (known is not None and not known.heard[self.model]) or not is_open(self):
            return original(self, *args, **kwargs)
        index = current_index()
        hearers = Hearers.of(self.model, index)
        if hearers is None or not is_logged(self.model, using):
            with observed(self, None, using):
                return original(self, *args, **kwargs)
        with transaction.atomic(using=using, savepoint=False):
            take_write_lock(using)
            batch = Batch(using)
            if hearers.plan is not None:
                batch.will_delete(hearers.plan, keys_of(self, using))
            keep_owners(batch, hearers.lists, self)
            keep_watching(batch, hearers.watches, self.model, self)
            with observed(self, None, using), quiet(index, using):
                count = original(self, *args, **kwargs)
            batch.append()
        return count

    return _raw_delete
