"""Capture ``Model.save``: the row's groups before, the write, its events, as one transaction.

The hook sits at ``Model._save_table``, which writes one table: a signal comes too late, for a receiver that saves again
would be heard before the write that caused it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connections, models, transaction

from declbind.conf import settings

from . import log
from .also import both_ways, keep_coming, keep_watching
from .batch import Batch
from .drafts import Groups, draft_bulk, draft_hidden, draft_write, groups_of, unread
from .entries import Draft
from .hooks import Arguments, note_unread
from .index import Index, current_index, known_index
from .joint_update import CannotJoinError, JointUpdate, can_join
from .known_values import stored_row, take_values
from .lists import keep_owners, remember_owners
from .locks import take_write_lock
from .places import is_logged
from .plans import Plan
from .rows import all_rows, load_row
from .seams import HOOKED
from .triggers.quiet import quiet

SAVE_PARENTS, SAVE_TABLE = HOOKED["_save_parents"], HOOKED["_save_table"]


@dataclass(frozen=True)
class _Start:
    """What was read of a child's row before its parents were written."""

    plan: Plan | None
    old: Groups | None
    others: Batch | None
    #: The plans and old groups of its parents that have parents themselves: theirs may hang on those.
    parents: dict[type[models.Model], tuple[Plan, Groups | None]]


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
        index, pk = current_index(), self._get_pk_val(cls._meta)
        plan, others = index.plan_for(cls), _others(index, cls, cls)
        between = {
            parent: (heard, key)
            for parent, key in _parents_with_keys(self, cls, {})
            if parent._meta.parents and (heard := index.plan_for(parent))
        }
        if plan is None and not others and not between:
            return original(self, *args, **kwargs)
        take_write_lock(using)
        old = None if plan is None else _old_groups(plan, pk, using)
        parents = {parent: (heard, _old_groups(heard, key, using)) for parent, (heard, key) in between.items()}
        _started.saves[id(self)] = _Start(plan, old, _read_others(others, pk, using), parents)
        try:
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

        def write() -> Any:
            with quiet(index, using):
                return original(self, *call.args, **call.kwargs)

        index = current_index() if known is None else known
        concrete = type(self)._meta.concrete_model
        is_parent = concrete is not cls
        started = _started.saves.get(id(self)) if is_parent else _started.saves.pop(id(self), None)
        was_read, plan, old = False, None, None
        if started is not None and not is_parent:
            was_read, plan, old = True, started.plan, started.old
        elif started is not None and cls in started.parents:
            was_read, (plan, old) = True, started.parents[cls]
        else:
            plan = index.plan_for(cls)
        lists, others, watches = index.lists_through(cls), _others(index, cls, concrete), index.watches_of(cls)
        if (plan is None and not (lists or others or watches)) or (is_parent and _passes_by(cls, update_fields)):
            # A table that is a part of bound rows is told of with the rest of them.
            if cls._meta.db_table in index.bound_tables():
                return write()
            return original(self, *call.args, **call.kwargs)
        if raw and not settings.CAPTURE_RAW:
            return write()
        is_plain = not (lists or others or watches or is_parent or raw or force_insert or update_fields is not None)
        if plan is not None and is_plain and call.are_known:
            update = functools.partial(original, self, cls=cls, force_update=True, using=using)
            if can_join(plan, self, using) and _save_in_one(index, plan, self, update, using):
                return True
        with transaction.atomic(using=using, savepoint=False):
            take_write_lock(using)
            pk = self._get_pk_val(cls._meta)
            is_new = pk is None or _will_insert(self, cls, raw, force_insert, force_update)
            if not (was_read or plan is None or is_new):
                old = _old_groups(plan, pk, using)
            if started is not None and not is_parent:
                batch = started.others
            else:
                batch = None if is_new else _read_others(others, pk, using)
            beside = batch or (Batch(using) if lists or watches else None)
            if beside is not None and lists:
                if not is_new:
                    keep_owners(beside, lists, all_rows(cls, using).filter(pk=pk))
                remember_owners(beside, lists, [self])
            if beside is not None and watches:
                if not is_new:
                    keep_watching(beside, both_ways(watches), cls, [pk])
                keep_coming(beside, watches, [self])
            updated = write()
            self._state.db = using
            drafts = []
            if plan is not None:
                as_given = raw or update_fields is not None
                drafts = _draft_save(plan, self, cls, old if updated else None, as_given, using)
            if beside is not None:
                if lists:
                    stored = all_rows(cls, using).filter(pk=self._get_pk_val(cls._meta))
                    keep_owners(beside, lists, stored, is_after=True)
                keep_watching(beside, watches, cls, [self._get_pk_val(cls._meta)], is_after=True)
                drafts += beside.drafts()
            log.append(drafts, using)
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


def _others(index: Index, table: Any, concrete: Any) -> list[tuple[Plan, str]]:
    """Return who hears of a table's rows by a child row of its own, which no step of this save is about.

    Of the children of the model that is saved, the step of its own table tells, whatever other table has changed.
    """
    family = index.family_of(table)
    if not family or (len(family) == 1 and family[0][1] == "pk"):
        return []
    return [
        (plan, lookup)
        for plan, lookup in family
        if not issubclass(concrete, plan.model) and (table is concrete or not issubclass(plan.model, concrete))
    ]


def _read_others(others: list[tuple[Plan, str]], pk: Any, using: str) -> Batch | None:
    if not others or pk is None:
        return None
    batch = Batch(using)
    for plan, lookup in others:
        batch.will_change(plan, [pk], lookup)
    return batch


def _save_in_one(index: Index, plan: Plan, instance: Any, update: Callable[[], Any], using: str) -> bool:
    """Update a row and append its events by one statement; False, and nothing is written, where that cannot be."""
    connection = connections[using]
    with transaction.atomic(using=using, savepoint=False) if plan.needs_old else contextlib.nullcontext():
        if plan.needs_old:
            take_write_lock(using)
        old = _old_groups(plan, instance.pk, using)
        row = take_values(plan, instance, plan.model._meta.pk, using)
        drafts = [] if old is None else draft_write(plan, row, row.pk, old, using)
        if not drafts:
            return False
        joint = JointUpdate(drafts, plan, connection)
        try:
            with connection.execute_wrapper(joint), quiet(index, using):
                update()
        except CannotJoinError:
            return False
        except DatabaseError:
            # What Django raises when the row is not there. It may be inserted then, which takes a transaction.
            if not joint.is_missing:
                raise
            return False
        log.ring_after_commit(connection)
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
    except Exception as error:
        return draft_bulk(plan, unread(plan, using, error))
    return draft_hidden(plan, pk, old, using) if row is None else draft_write(plan, row, row.pk, old, using)


def _old_groups(plan: Plan, pk: Any, using: str) -> Groups | None:
    """Return the groups of the stored row, ``None`` where there is none; empty where the diff can do without them."""
    if not plan.needs_old:
        return {}
    try:
        row = None if pk is None else load_row(plan, pk, plan.group_fields, using)
    except Exception as error:
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
