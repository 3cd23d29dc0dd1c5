"""Capture what query sets write without the rows' own ``save`` and ``delete``.

``update`` (and with it ``aupdate`` and what related managers do in bulk), ``bulk_create``, ``bulk_update`` and
``_raw_delete``. Each costs at most two queries more, whatever the number of rows, up to ``BULK_LIMIT``.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, router, transaction
from django.db.models.expressions import RawSQL

from declbind.batches import in_batches

from .batch import Batch
from .deletes import CAPTURED
from .lists import keep_owners
from .places import is_logged
from .plans import Index, Plan, current_index
from .returning import INSERT, UPDATE, returning
from .rows import is_as_stored, keys_of, narrow
from .triggers.quiet import quiet

#: Above so many, keys go as one list of the database's instead of a parameter each.
MAX_PLAIN_KEYS = 1_000


class _Busy(threading.local):
    """Whether this thread is inside of a call that is captured as a whole."""

    is_captured = False


_busy = _Busy()


def _database(rows: Any) -> str:
    using: str = rows._db or router.db_for_write(rows.model, **rows._hints)
    return using


# --- update ----------------------------------------------------------------------------------------------------------


def capture_update(original: Any) -> Any:
    """Wrap ``QuerySet.update``."""

    @functools.wraps(original)
    def update(self: Any, **kwargs: Any) -> Any:
        write = _Update.build(self, kwargs) if _is_open(self) else None
        if write is None:
            return original(self, **kwargs)
        with transaction.atomic(using=write.using, savepoint=False):
            keys = write.read([self])
            with write.watching(), quiet(write.index, write.using):
                count = original(_only(self, keys, write.using), **kwargs)
            self._result_cache = None
            write.append()
        return count

    return update


def capture_bulk_update(original: Any) -> Any:
    """Wrap ``QuerySet.bulk_update``, which updates in batches: they are read as one."""

    @functools.wraps(original)
    def bulk_update(self: Any, objs: Any, fields: Any, batch_size: Any = None) -> Any:
        rows, names = tuple(objs), list(fields)
        write = _Update.build(self, names) if _is_open(self) and rows else None
        if write is None or any(row.pk is None for row in rows):
            return original(self, rows, names, batch_size)
        with transaction.atomic(using=write.using, savepoint=False):
            write.read([self.filter(pk__in=some) for some in in_batches([row.pk for row in rows], write.using)])
            with _captured(), write.watching(), quiet(write.index, write.using):
                count = original(self, rows, names, batch_size)
            write.append()
        return count

    return bulk_update


class _Update:
    """One update of the rows of a model: which tables it writes, who hears of them, and what was there."""

    def __init__(self, model: Any, fields: Sequence[Any], index: Index, using: str) -> None:
        self.using, self.index = using, index
        self._model = model._meta.concrete_model
        self._fields = set(fields)
        self._lists = index.lists_through(self._model)
        self._own = index.plan_for(self._model)
        self._moves_key = any(field.primary_key for field in fields)
        # A column of a parent is written to the parent's table, which is shared with the parent's other children.
        tables = dict.fromkeys((self._model, *(field.model._meta.concrete_model for field in fields)))
        self._heard = {plan.model: (plan, lookup, table) for table in tables for plan, lookup in index.family_of(table)}
        own = self._own
        self._is_alone = own is not None and own.shows_all and len(self._heard) == 1 and not self._lists
        self._batch = Batch(using)
        self._through: list[Any] = []

    @classmethod
    def build(cls, rows: Any, names: Iterable[str]) -> _Update | None:
        """Return what to do about an update, ``None`` where nobody hears of it or Django will refuse it."""
        index, options = current_index(), rows.model._meta
        if not index.has_bindings or rows.query.combinator or rows.query.is_sliced:
            return None
        try:
            fields = [options.pk if name == "pk" else options.get_field(name) for name in names]
        except FieldDoesNotExist:
            return None
        if not all(getattr(field, "concrete", False) for field in fields):
            return None
        using = _database(rows)
        update = cls(rows.model, fields, index, using)
        if not (update._heard or update._lists) or not is_logged(rows.model, using):
            return None
        return update

    def read(self, chosen: Sequence[Any]) -> list[Any] | None:
        """Read the rows of query sets; return the keys of the last, ``None`` where these do not matter."""
        if self._moves_key:
            for plan, _, _ in self._heard.values():
                self._batch.lose_track(plan)
        own, keys = self._own, None
        for rows in chosen:
            if own is not None and self._is_alone:
                keys = self._batch.will_change(own, keys_of(rows), moves=self._moves(own))
            else:
                keys = self._read_all(rows)
        return keys

    def _read_all(self, rows: Any) -> list[Any]:
        """Read the rows of everybody who hears of them; return the keys of the call's own."""
        # Not by a manager, which may hide some: who is hidden may be seen afterwards.
        meant: models.QuerySet[Any] = models.QuerySet(self._model, using=self.using).filter(pk__in=keys_of(rows))
        keys = [row.pk for row in narrow(meant, (), self.using)]
        for plan, lookup, table in self._heard.values():
            found = keys if table is self._model else self._keys_in(table, keys)
            self._batch.will_change(plan, found, lookup, self._moves(plan))
            if lookup == "pk" and not plan.shows_all:
                self._batch.create(plan, found)
        self._through += keys
        self._keep_owners(keys)
        return keys

    def _keys_in(self, table: Any, keys: list[Any]) -> list[Any]:
        column = table._meta.pk.name
        rows = self._model._base_manager.using(self.using)
        return [
            key
            for some in in_batches(keys, self.using)
            for key in rows.filter(pk__in=some).values_list(column, flat=True)
        ]

    def _keep_owners(self, keys: list[Any]) -> None:
        if self._lists:
            for some in in_batches(keys, self.using):
                keep_owners(self._batch, self._lists, self._model._base_manager.filter(pk__in=some))

    def _moves(self, plan: Plan) -> bool:
        return plan.group_fields is None or not self._fields.isdisjoint(plan.group_fields)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the rows as the update of the block returns them, where that saves reading them again."""
        own = self._own
        if own is None or not (self._is_alone and own.is_plain) or self._batch.is_by_group(own):
            yield
            return
        with returning(own.model, own.fields, UPDATE, self.using) as returned:
            yield
        if returned.is_complete:
            self._batch.take(own, returned.rows)

    def append(self) -> None:
        """Append the events, after the update."""
        self._keep_owners(self._through)
        self._batch.append()


def _only(rows: Any, keys: list[Any] | None, using: str) -> Any:
    """Narrow an update to the rows that were read.

    Between the reading and the update another transaction may commit a row that the update would find too, and nobody
    would be told of. SQLite lets nobody write in between, and MySQL locks what was read against such rows.
    """
    connection = connections[using]
    if keys is None or connection.vendor != "postgresql":
        return rows
    if len(keys) <= MAX_PLAIN_KEYS:
        return rows.filter(pk__in=keys)
    field = rows.model._meta.pk
    column = field.rel_db_type(connection)
    values = [field.get_db_prep_value(key, connection) for key in keys]
    return rows.filter(pk__in=RawSQL(f"SELECT unnest(%s::{column}[])", [values], output_field=field))


# --- bulk_create -----------------------------------------------------------------------------------------------------


def capture_bulk_create(original: Any) -> Any:
    """Wrap ``QuerySet.bulk_create``; that of a through model is where ``add()`` and ``set()`` of a list end.

    Not ``m2m_changed`` for the latter: it tells nothing of the mirrored rows of a symmetrical list, and a listener
    costs each ``add`` a query.
    """

    @functools.wraps(original)
    def bulk_create(
        self: Any,
        objs: Any,
        batch_size: Any = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Any = None,
        unique_fields: Any = None,
    ) -> Any:
        def write(rows: Any) -> Any:
            return original(self, rows, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)

        index = current_index()
        plan, lists = index.plan_for(self.model), index.lists_through(self.model)
        if (plan is None and not lists) or not is_logged(self.model, using := _database(self)):
            return write(objs)
        rows, model = list(objs), self.model._meta.concrete_model
        with transaction.atomic(using=using, savepoint=False):
            batch = Batch(using)
            met = _met(model, rows, unique_fields, using) if update_conflicts else []
            for stored in met or ():
                if plan is not None:
                    batch.will_change(plan, keys_of(stored))
                keep_owners(batch, lists, stored)
            if ignore_conflicts:
                with returning(model, (), INSERT, using) as returned, quiet(index, using):
                    created = write(rows)
                keys = [row.pk for row in returned.rows] if returned.is_complete else None
            else:
                with quiet(index, using):
                    created = write(rows)
                keys = [row.pk for row in rows]
            is_new = not (ignore_conflicts or update_conflicts)
            _note_created(batch, plan, lists, rows, None if met is None else keys, is_new)
            batch.append()
        return created

    return bulk_create


def _note_created(
    batch: Batch, plan: Plan | None, lists: Any, rows: list[Any], keys: list[Any] | None, is_new: bool
) -> None:
    """Note rows that were given to be created, with the keys that they have if these are known."""
    if plan is not None:
        if keys is None or any(key is None or hasattr(key, "resolve_expression") for key in keys):
            batch.lose_track(plan)
        else:
            batch.create(plan, map(plan.model._meta.pk.to_python, keys))
            pk, is_plain = plan.model._meta.pk, plan.is_plain and not plan.m2m
            if is_new and is_plain and all(is_as_stored(plan, row, pk) for row in rows):
                batch.take(plan, rows)
    if lists:
        through = lists[0][1].remote_field.through._base_manager
        for some in [None] if keys is None else in_batches(keys, batch.using):
            keep_owners(batch, lists, rows if some is None else through.filter(pk__in=some))


def _met(model: Any, rows: Sequence[Any], unique_fields: Any, using: str) -> list[models.QuerySet[Any]] | None:
    """Return queries for the stored rows that an upsert will update; ``None`` where it cannot be told."""
    options = model._meta
    if not unique_fields or not connections[using].features.can_return_rows_from_bulk_insert:
        return None
    names = [options.pk.attname if name == "pk" else options.get_field(name).attname for name in unique_fields]
    values = [tuple(getattr(row, name) for name in names) for row in rows]
    if any(hasattr(value, "resolve_expression") for some in values for value in some):
        return None
    # A row with a null meets no other.
    whole = [some for some in values if None not in some]
    stored: models.QuerySet[Any] = models.QuerySet(model, using=using)
    if len(names) == 1:
        single = (some for (some,) in whole)
        return [stored.filter(**{f"{names[0]}__in": some}) for some in in_batches(single, using)]
    step = 500
    return [
        stored.filter(reduce(or_, (models.Q(**dict(zip(names, some, strict=True))) for some in whole[at : at + step])))
        for at in range(0, len(whole), step)
    ]


# --- _raw_delete -----------------------------------------------------------------------------------------------------


def capture_raw_delete(original: Any) -> Any:
    """Wrap ``QuerySet._raw_delete``, for who calls it himself: a collector's calls are captured with the collector."""

    @functools.wraps(original)
    def _raw_delete(self: Any, using: str) -> Any:
        if not _is_open(self):
            return original(self, using)
        index = current_index()
        plan, lists = index.plan_for(self.model), index.lists_through(self.model)
        if (plan is None and not lists) or not is_logged(self.model, using):
            return original(self, using)
        with transaction.atomic(using=using, savepoint=False):
            batch = Batch(using)
            if plan is not None:
                batch.will_delete(plan, keys_of(self))
            keep_owners(batch, lists, self)
            with quiet(index, using):
                count = original(self, using)
            batch.append()
        return count

    return _raw_delete


def _is_open(rows: Any) -> bool:
    """Tell whether a query set's write is to be captured, and not a part of what is captured already."""
    return not (_busy.is_captured or getattr(rows, CAPTURED, False))


@contextlib.contextmanager
def _captured() -> Iterator[None]:
    _busy.is_captured = True
    try:
        yield
    finally:
        _busy.is_captured = False
