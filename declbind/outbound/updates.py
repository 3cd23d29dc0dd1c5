"""Capture of ``QuerySet.update`` and ``bulk_update``, and of methods that call them (``aupdate``, related managers).

The rows are read once before the update. If the database supports it, the update itself returns them afterwards. With
the insert of the events, this costs two more queries, for any number of rows up to ``BULK_LIMIT``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Concatenate, ParamSpec

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models

from declbind.batches import in_batches
from declbind.django_types import Column, Key, Method, Rows, concrete_model

from .also import both_ways, keep_watching
from .catalog import facts_of
from .hooks import Arguments, note_unknown_call, takes_options
from .index import current_index, known_index
from .lists import keep_owners
from .observers import observed
from .places import database_of, is_logged
from .plans import Plan
from .rows import all_rows, keys_of, load_keys
from .seams import HOOKED
from .statements import returning_update
from .writes import CapturedWrite, is_covered, only

P = ParamSpec("P")


def capture_update(original: Callable[Concatenate[Rows, P], object]) -> Callable[Concatenate[Rows, P], object]:
    """Wrap ``QuerySet.update``."""
    has_options = takes_options(original)

    @functools.wraps(original)
    def update(self: Rows, /, *args: P.args, **kwargs: P.kwargs) -> object:
        known = known_index()
        if known is not None and not known.bound[self.model]:
            return original(self, *args, **kwargs)
        using = database_of(self)
        if is_covered(self, using):
            return original(self, *args, **kwargs)
        names = _columns_among(self.model, kwargs) if has_options else kwargs
        change = _Update.build(self, names)
        if change is None:
            with observed(self, names, using):
                return original(self, *args, **kwargs)
        write = change.write
        if not change.is_listened_to:
            with observed(self, names, using):
                return write.run(lambda: original(self, *args, **kwargs))
        with write:
            keys = change.read([self])
            with observed(self, names, using), change.watching():
                count = write.run(lambda: original(only(self, keys, using), *args, **kwargs))
            self._result_cache = None
            if count == 0:
                change.note_nothing_written()
            change.append()
        return count

    return update


def capture_bulk_update(original: Method) -> Method:
    """Wrap ``QuerySet.bulk_update``. It updates in batches, whose rows are read together."""

    @functools.wraps(original)
    def bulk_update(self: Rows, *args: object, **kwargs: object) -> object:
        known = known_index()
        if known is not None and not known.bound[self.model]:
            return original(self, *args, **kwargs)
        call = Arguments(HOOKED["bulk_update"], args, kwargs)
        if not {"objs", "fields"} <= call.named.keys():
            note_unknown_call(HOOKED["bulk_update"])
            return original(self, *args, **kwargs)
        rows: tuple[models.Model, ...] = tuple(call.get("objs"))
        names: list[str] = list(call.get("fields"))
        call = call.replace(objs=rows, fields=names)
        using = database_of(self)
        change = None if not rows or is_covered(self, using) else _Update.build(self, names)
        # Without listeners nothing is captured here. Each batch passes through the hook of ``update``.
        if change is None or not change.is_listened_to or any(row.pk is None for row in rows):
            return original(self, *call.args, **call.kwargs)
        write = change.write
        with write:
            change.read([self.filter(pk__in=some) for some in in_batches([row.pk for row in rows], using)])
            meant = self.filter(pk__in=[row.pk for row in rows])
            with observed(meant, names, using), change.watching():
                # No code of the project runs in it.
                count = write.run(lambda: original(self, *call.args, **call.kwargs), covered="all")
            if count == 0:
                change.note_nothing_written()
            change.append()
        return count

    return bulk_update


def _columns_among(model: type[models.Model], names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are fields. A method of another package may accept other names."""
    fields = model._meta.get_fields()
    known = {"pk", *(field.name for field in fields), *(getattr(field, "attname", "") for field in fields)}
    return [name for name in names if name in known]


class _Update:
    """One update of a model's rows: the tables that it writes, their listeners, and the rows before the update."""

    def __init__(self, model: type[models.Model], fields: Sequence[Column], write: CapturedWrite) -> None:
        self.write, self.using, self._batch = write, write.using, write.batch
        self._model = concrete_model(model)
        self._fields = set(fields)
        # A column of a parent is written to the parent's table, which is shared with the parent's other children.
        tables = dict.fromkeys((self._model, *(concrete_model(field.model) for field in fields)))
        listeners = {table: write.listeners_of(table) for table in tables}
        self._own, self._lists = listeners[self._model].plan, listeners[self._model].lists
        self._moves_key = any(field.primary_key for field in fields)
        self._plans = {
            plan.model: (plan, lookup, table) for table in tables for plan, lookup in listeners[table].family
        }
        self._twins = {twin for table in tables for twin in listeners[table].twins}
        self._plans |= {twin.model: (twin, "pk", table) for table in tables for twin in listeners[table].twins}
        own = self._own
        self._watched = [(listeners[table].watches, table) for table in tables if listeners[table].watches]
        is_plain = own is not None and own.shows_all and not (self._lists or self._watched)
        self._is_alone = is_plain and len(self._plans) == 1
        self._written: list[Key] = []

    @property
    def is_listened_to(self) -> bool:
        """Return whether the hooks report any part of the update."""
        return bool(self._plans or self._lists or self._watched)

    @classmethod
    def build(cls, rows: Rows, names: Iterable[str]) -> _Update | None:
        """Return the update to capture, or ``None`` if it concerns no binding or Django will refuse it."""
        index, options = current_index(), rows.model._meta
        if not index.bound[rows.model] or rows.query.combinator or rows.query.is_sliced:
            return None
        try:
            fields = [options.pk if name == "pk" else options.get_field(name) for name in names]
        except FieldDoesNotExist:
            return None
        using = database_of(rows)
        columns = [field for field in fields if isinstance(field, models.Field) and field.concrete]
        if len(columns) < len(fields) or not is_logged(rows.model, using):
            return None
        return cls(rows.model, columns, CapturedWrite(connections[using], index))

    def read(self, chosen: Sequence[Rows]) -> list[Key] | None:
        """Read the rows of query sets.

        Returns:
            The keys of the last query set's rows, or ``None`` if they are not needed.
        """
        if self._moves_key:
            for plan, _, _ in self._plans.values():
                self._batch.lose_track(plan)
        own, keys = self._own, None
        for rows in chosen:
            keys = None
            with self._guarded():
                if own is not None and self._is_alone:
                    keys = self._batch.will_change(own, keys_of(rows, self.using), moves=self._moves(own))
                else:
                    keys = self._read_all(rows)
        return keys

    def _guarded(self) -> AbstractContextManager[None]:
        """Keep a failing read from breaking the write."""
        plans = [plan for plan, _, _ in self._plans.values()]
        plans += [plan for plan, _ in self._lists]
        plans += [plan for watches, _ in self._watched for plan, _ in watches]
        return self._batch.guarded(dict.fromkeys(plans), [self._model])

    def _read_all(self, rows: Rows) -> list[Key]:
        """Read the rows of all listeners; return the keys of the rows that the call updates."""
        # A manager is not used, because it may hide rows that become visible afterwards.
        keys = load_keys(all_rows(self._model, self.using).filter(pk__in=keys_of(rows, self.using)))
        for plan, lookup, table in self._plans.values():
            found = self._keys_in(table, keys)
            self._batch.will_change(plan, found, lookup, self._moves(plan))
            if lookup == "pk" and not plan.shows_all:
                self._batch.create(plan, found)
        self._written += keys
        self._keep_owners(keys)
        for watches, table in self._watched:
            keep_watching(self._batch, both_ways(watches), table, self._keys_in(table, keys))
        return keys

    def _keys_in(self, table: type[models.Model], keys: list[Key]) -> list[Key]:
        if table is self._model:
            return keys
        column = table._meta.pk.name
        rows = all_rows(self._model, self.using)
        return [
            key
            for some in in_batches(keys, self.using)
            for key in rows.filter(pk__in=some).values_list(column, flat=True)
        ]

    def _keep_owners(self, keys: list[Key], is_after: bool = False) -> None:
        if self._lists:
            for some in in_batches(keys, self.using):
                stored = all_rows(self._model, self.using).filter(pk__in=some)
                keep_owners(self._batch, self._lists, stored, is_after=is_after)

    def _moves(self, plan: Plan) -> bool:
        # The rows that a manager shows may depend on any column. A model with the same table has fields of its own
        # for the columns.
        is_known = plan.group_fields is not None and plan.shows_all and plan not in self._twins
        return not is_known or not self._fields.isdisjoint(plan.group_fields or ())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Collect the rows that the update in the block returns, if they then need not be read again."""
        own = self._own
        can_take = own is not None and self._is_alone and own.is_plain and not self._batch.is_by_group(own)
        facts = None if own is None else facts_of(own.model, self.using)
        is_own = own is not None and own.model is self._model
        if is_own and facts is not None and facts.is_table and not facts.is_ordinary:
            # A trigger may change a row after it was returned, and cancel its update.
            with returning_update(self._model, (), self.using) as returned:
                yield
            self._note_written(returned.find_keys())
            return
        if own is None or facts is None or not (can_take and facts.is_ordinary):
            yield
            return
        with returning_update(own.model, own.fields, self.using) as returned:
            yield
        # A row that was not returned may still exist: a trigger or a rule can cancel its update.
        if returned.is_complete and not self._batch.unwritten(own, {row.pk for row in returned.rows}):
            self._batch.take(own, returned.rows)

    def note_nothing_written(self) -> None:
        """Record that the update wrote none of the rows that were read before it."""
        self._note_written(())

    def _note_written(self, keys: Iterable[Key] | None) -> None:
        if self._own is not None and keys is not None:
            self._batch.note_written(self._own, keys)

    def append(self) -> None:
        """Append the events, after the update."""
        with self._guarded():
            self._keep_owners(self._written, is_after=True)
            for watches, table in self._watched:
                keep_watching(self._batch, watches, table, self._keys_in(table, self._written), is_after=True)
        self.write.append()
