"""Capture ``Model.save``: the row's groups before, the write, its events, as one transaction.

The hook sits at ``Model._save_table``, which writes one table: a signal comes too late, for a receiver that saves again
would be heard before the write that caused it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connections, models, transaction

from declbind.conf import settings

from . import log
from .also import both_ways, keep_coming, keep_watching
from .batch import Batch
from .catalog import facts_of
from .drafts import Groups, draft_bulk, draft_hidden, draft_write, groups_of, unread
from .entries import Draft
from .hooks import Arguments, note_unread
from .index import Index, Relative, TableListeners, current_index, known_index
from .joint_update import JointUpdate, can_join
from .known_values import stored_row, take_values
from .lists import keep_owners, remember_owners
from .locks import take_write_lock
from .places import is_logged
from .plans import Plan
from .rows import all_rows, load_row
from .seams import HOOKED
from .statements import Counted, extended_update, has_wrappers
from .writes import CapturedWrite

SAVE_PARENTS, SAVE_TABLE = HOOKED["_save_parents"], HOOKED["_save_table"]


@dataclass(frozen=True)
class _Start:
    """What was read of a child's row before its parents were written."""

    #: The write of all its tables, whose batch has the rows that are related by the child's own table.
    write: CapturedWrite
    heard: TableListeners
    old: Groups | None
    #: The listeners and old groups of its parents that have parents themselves: theirs may hang on those.
    parents: dict[type[models.Model], tuple[TableListeners, Groups | None]]


class _Started(threading.local):
    """What was read before a child's parents were written, by the instance's id; one per thread.

    An entry lives from the start of ``Model._save_parents`` to the ``_save_table`` of the child's own table, so that it
    never meets another object with this id.
    """

    def __init__(self) -> None:
        self.saves: dict[int, _Start] = {}


_started = _Started()


def capture_save_parents(original: Any) -> Any:
    """Wrap ``Model._save_parents``: read a child row's old groups first, for they may hang on a parent's columns."""

    @functools.wraps(original)
    def _save_parents(
        self: Any,
        cls: Any = None,
        using: Any = None,
        update_fields: Any = None,
        force_insert: Any = False,
        *more: Any,
        **named: Any,
    ) -> Any:
        if cls is not None and not (cls._meta.parents or more or named):
            return original(self, cls, using, update_fields, force_insert)
        args, kwargs = (cls, using, update_fields, force_insert, *more), named
        if cls is None or using is None:
            note_unread(SAVE_PARENTS)
            return original(self, *args, **kwargs)
        if not cls._meta.parents:
            return original(self, *args, **kwargs)
        if type(self)._meta.concrete_model is not cls or not log.is_here(using):
            return original(self, *args, **kwargs)
        write, pk = CapturedWrite(using, current_index()), self._get_pk_val(cls._meta)
        heard = write.listeners_of(cls)
        others = _others(heard.family, cls, cls)
        between = {
            parent: (found, key)
            for parent, key in _parents_with_keys(self, cls, {})
            if parent._meta.parents and (found := write.listeners_of(parent)).plan is not None
        }
        write.is_marked |= any(write.is_table_marked(parent) for parent in cls._meta.all_parents)
        if heard.plan is None and not others and not between and not write.is_marked:
            return original(self, *args, **kwargs)
        take_write_lock(using)
        old = _old_groups(heard.plan, pk, using)
        parents = {parent: (found, _old_groups(found.plan, key, using)) for parent, (found, key) in between.items()}
        _read_others(write.batch, others, pk)
        _started.saves[id(self)] = _Start(write, heard, old, parents)
        try:
            write.begin_call()
            return original(self, *args, **kwargs)
        except BaseException:
            del _started.saves[id(self)]
            raise

    return _save_parents


def capture_save_table(original: Any) -> Any:
    """Wrap ``Model._save_table``: read the old groups, write, append the events, as one transaction."""

    def save_heard(self: Any, call: Arguments, known: Index | None) -> Any:
        cls, using, update_fields = call.get("cls"), call.get("using"), call.get("update_fields")
        raw, force_insert, force_update = call.get("raw"), call.get("force_insert"), call.get("force_update")
        if cls is None or using is None:
            note_unread(SAVE_TABLE)
            return original(self, *call.args, **call.kwargs)
        if not is_logged(cls, using):
            return original(self, *call.args, **call.kwargs)

        index = current_index() if known is None else known
        concrete = type(self)._meta.concrete_model
        is_parent = concrete is not cls
        started = _started.saves.get(id(self)) if is_parent else _started.saves.pop(id(self), None)
        whole = started.write if started is not None and not is_parent else None
        write = whole or CapturedWrite(using, index)
        is_reported = not raw or settings.CAPTURE_RAW

        def carry_out() -> Any:
            updated = write.run(lambda: original(self, *call.args, **call.kwargs), is_reported=is_reported)
            if whole is not None:
                whole.end_call(is_reported)
            return updated

        was_read, old = False, None
        if started is not None and not is_parent:
            was_read, heard, old = True, started.heard, started.old
        elif started is not None and cls in started.parents:
            was_read, (heard, old) = True, started.parents[cls]
        else:
            may_be_marked = cls._meta.db_table in index.marked.tables
            is_verified = may_be_marked and is_reported and call.are_known and _is_plain_update(self, cls, call, using)
            heard = write.listeners_of(cls, may_be_known=is_verified)
            if is_verified and write.is_marked and not heard.are_any:
                return write.run_verified(lambda: original(self, *call.args, **call.kwargs), cls)
        plan, lists, watches, twins = heard.plan, heard.lists, heard.watches, heard.twins
        others = _others(heard.family, cls, concrete)
        is_heard = plan is not None or lists or others or watches or twins
        if not is_heard or (is_parent and _passes_by(cls, update_fields)):
            # Rows of which this table holds a part are reported with the rest of them.
            return carry_out()
        if not is_reported:
            return carry_out()
        is_plain = not (lists or others or watches or twins)
        is_plain = is_plain and not (is_parent or raw or force_insert or update_fields is not None)
        if plan is not None and is_plain and call.are_known and not write.is_marked:
            update = functools.partial(original, self, cls=cls, force_update=True, using=using)
            if can_join(plan, self, using) and _save_in_one(write, plan, self, update):
                return True
        with write:
            pk = self._get_pk_val(cls._meta)
            is_new = pk is None or _will_insert(self, cls, raw, force_insert, force_update)
            held = None if was_read or is_new else _watch_for_cancelling(plan, cls, pk, write)
            if not (was_read or plan is None or is_new or held):
                old = _old_groups(plan, pk, using)
            if whole is None and not is_new:
                _read_others(write.batch, others, pk)
            if twins and not is_new:
                _read_others(write.batch, [Relative(twin, "pk") for twin in twins], pk)
            if lists:
                if not is_new:
                    keep_owners(write.batch, lists, all_rows(cls, using).filter(pk=pk))
                remember_owners(write.batch, lists, [self])
            if watches:
                if not is_new:
                    keep_watching(write.batch, both_ways(watches), cls, [pk])
                keep_coming(write.batch, watches, [self])
            with contextlib.nullcontext() if held is None else extended_update(held, connections[using]):
                updated = carry_out()
            self._state.db = using
            drafts = []
            if plan is not None and held is not None:
                if not held.count:
                    write.batch.note_written(plan, ())
                write.batch.create(plan, [plan.model._meta.pk.to_python(self._get_pk_val(cls._meta))])
            elif plan is not None:
                as_given = raw or update_fields is not None or not isinstance(self, plan.model)
                drafts = _draft_save(plan, self, cls, old if updated else None, as_given, using)
            pk = self._get_pk_val(cls._meta)
            if lists:
                keep_owners(write.batch, lists, all_rows(cls, using).filter(pk=pk), is_after=True)
            keep_watching(write.batch, watches, cls, [pk], is_after=True)
            for twin in twins:
                write.batch.create(twin, [twin.model._meta.pk.to_python(pk)])
            if others or lists or watches or twins or held is not None or whole is not None:
                drafts += write.batch.drafts()
            write.append(drafts)
        return updated

    @functools.wraps(original)
    def _save_table(
        self: Any,
        raw: bool = False,
        cls: Any = None,
        force_insert: bool = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
        *more: Any,
        **named: Any,
    ) -> Any:
        # Most models are unbound, and their saves end here: nothing is made for ``save_heard``. A model with parents
        # goes on, because something may have been read by a configuration that is not in force any more.
        # The arguments are spelled out because packing them takes twice as long.
        index = known_index()
        if index is not None and cls is not None and not index.heard[cls] and not (cls._meta.parents or more or named):
            return original(self, raw, cls, force_insert, force_update, using, update_fields)
        args = (raw, cls, force_insert, force_update, using, update_fields, *more)
        return save_heard(self, Arguments(SAVE_TABLE, args, named), index)

    return _save_table


def _is_plain_update(instance: Any, cls: Any, call: Arguments, using: str) -> bool:
    """Return whether a save is one update of one row on PostgreSQL that other packages leave as it is."""
    connection = connections[using]
    return (
        connection.vendor == "postgresql"
        and not (cls._meta.parents or call.get("raw") or call.get("force_insert"))
        and type(instance)._meta.concrete_model is cls
        and not instance._state.adding
        and instance.pk is not None
        and not has_wrappers(connection)
    )


def _parents_with_keys(instance: Any, cls: Any, keys: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the parents of a model, and theirs, with the keys by which ``instance`` will be saved there.

    ``keys`` are those that Django has yet to copy from a child's link, by attribute (as ``Model._save_parents`` does).
    """
    for parent, link in cls._meta.parents.items():
        attname = parent._meta.pk.attname
        key = getattr(instance, attname)
        if key is None and link is not None:
            key = keys[attname] = getattr(instance, link.attname) or keys.get(link.attname)
        yield parent, key
        yield from _parents_with_keys(instance, parent, keys)


def _others(family: Sequence[Relative], table: Any, concrete: Any) -> list[Relative]:
    """Return the listeners whose rows are children of a table's rows, and which no step of this save is about.

    Children of the model that is saved are reported when their own table is saved, whatever other table has changed.
    """
    if not family or (len(family) == 1 and family[0].lookup == "pk"):
        return []
    return [
        relative
        for relative in family
        if not issubclass(concrete, relative.plan.model)
        and (table is concrete or not issubclass(relative.plan.model, concrete))
    ]


def _watch_for_cancelling(plan: Plan | None, cls: Any, pk: Any, write: CapturedWrite) -> Counted | None:
    """Read the row before a save that Django takes for done if the row is there, though nothing may have updated it.

    So it does for models with ``select_on_save``. Return what counts the rows that are updated, or ``None``.
    """
    if plan is None or plan.model is not cls or not cls._meta.select_on_save or facts_of(cls, write.using).is_ordinary:
        return None
    write.batch.will_change(plan, [pk])
    return Counted(cls)


def _read_others(batch: Batch, others: list[Relative], pk: Any) -> None:
    if pk is not None:
        for plan, lookup in others:
            batch.will_change(plan, [pk], lookup)


def _save_in_one(write: CapturedWrite, plan: Plan, instance: Any, update: Callable[[], Any]) -> bool:
    """Update a row and append its events by one statement; False, and nothing is written, where that cannot be."""
    using = write.using
    connection = connections[using]
    with transaction.atomic(using=using, savepoint=False) if plan.needs_old else contextlib.nullcontext():
        old = _old_groups(plan, instance.pk, using)
        row = take_values(plan, instance, plan.model._meta.pk, using)
        drafts = [] if old is None else draft_write(plan, row, row.pk, old, using)
        if not drafts:
            return False
        joint = JointUpdate(drafts, plan, connection)
        try:
            with joint.joined():
                write.run(update)
        except DatabaseError:
            # What Django raises when the row is not there. It may be inserted then, which takes a transaction.
            if not joint.is_missing:
                raise
            return False
        if joint.is_done:
            log.ring_after_commit(connection)
        else:  # another package wrote the row by a query of its own
            write.append(drafts)
    return True


def _draft_save(plan: Plan, instance: Any, cls: Any, old: Groups | None, as_given: bool, using: str) -> list[Draft]:
    """Return the events of a saved instance; ``as_given`` says that its values need not be those of the row."""
    pk = instance._get_pk_val(cls._meta)
    # A second parent has a primary key of its own, under which its lists are kept.
    is_other_row = bool(plan.m2m) and pk != instance.pk
    try:
        row = None
        # A row that its manager hides is out of sight, whatever the instance holds.
        if plan.shows_all and not (as_given or is_other_row):
            row = stored_row(plan, instance, cls._meta.pk, using)
        if row is None and pk is not None:
            row = load_row(plan, pk, plan.fields, using)
    except Exception as error:  # a read of capture must not break the write
        return draft_bulk(plan, unread(plan, using, error))
    return draft_hidden(plan, pk, old, using) if row is None else draft_write(plan, row, row.pk, old, using)


def _old_groups(plan: Plan | None, pk: Any, using: str) -> Groups | None:
    """Return the groups of the stored row, ``None`` if there is none; empty if the diff can do without them."""
    if plan is None or not plan.needs_old:
        return {}
    try:
        row = None if pk is None else load_row(plan, pk, plan.group_fields, using)
    except Exception as error:  # a read of capture must not break the write
        return unread(plan, using, error)
    return None if row is None else groups_of(plan, row, using)


def _will_insert(instance: Any, cls: Any, raw: bool, force_insert: Any, force_update: bool) -> bool:
    """Tell whether Django inserts without looking for a row first (the rule of ``Model._save_table``)."""
    if force_insert:
        return True
    if raw or force_update or not instance._state.adding:
        return False
    return all(field.has_default() or field.has_db_default() for field in cls._meta.pk_fields)


def _passes_by(parent: Any, update_fields: Any) -> bool:
    """Tell whether a child's ``save(update_fields=...)`` writes no column of this parent, inherited ones included."""
    return update_fields is not None and not any(
        field.name in update_fields or field.attname in update_fields for field in parent._meta.concrete_fields
    )
