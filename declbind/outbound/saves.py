"""Capture of ``Model.save``: the row's old groups, the write and its events, in one transaction.

The hook is at ``Model._save_table``, which writes one table. ``post_save`` is too late: if a receiver saves another
row, that save would be reported before the write that caused it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Iterable

from django.db import connections, models

from declbind.conf import settings
from declbind.django_types import Key, Method, concrete_model

from .also import both_ways, keep_future, keep_watching
from .catalog import facts_of
from .drafts import Groups
from .hooks import Arguments, note_unknown_call
from .index import Index, Relative, current_index, known_index
from .joint_update import can_join, save_in_one
from .lists import keep_owners, remember_owners
from .parents import ChildSave, read_others, unsaved_children, writes_nothing_of
from .places import is_logged
from .plans import Plan
from .rows import all_rows
from .saved_rows import draft_saved, key_in, old_groups
from .seams import HOOKED
from .statements import Counted, extended_update, has_wrappers
from .writes import CapturedWrite, find_begun

SAVE_TABLE = HOOKED["_save_table"]


def capture_save_table(original: Method) -> Method:
    """Wrap ``Model._save_table``: read the old groups, write, append the events, in one transaction."""

    def save_bound(self: models.Model, call: Arguments, known: Index | None) -> object:
        table: type[models.Model] | None = call.get("cls")
        using: str | None = call.get("using")
        if table is None or using is None:
            note_unknown_call(SAVE_TABLE)
            return original(self, *call.args, **call.kwargs)
        if not is_logged(table, using):
            return original(self, *call.args, **call.kwargs)
        save = _TableSave(self, table, using, call, current_index() if known is None else known)
        if save.is_left_to_triggers:
            return save.write.run_verified(lambda: original(self, *call.args, **call.kwargs), table)
        if not save.is_reported:
            return save.carry_out(original)
        if (plan := save.plan_to_join) is not None:
            update = functools.partial(original, self, cls=table, force_update=True, using=using)
            if save_in_one(save.write, plan, self, update):
                return True
        with save.write:
            save.read()
            updated = save.carry_out(original)
            save.append(bool(updated))
        return updated

    @functools.wraps(original)
    def _save_table(
        self: models.Model,
        raw: bool = False,
        cls: type[models.Model] | None = None,
        force_insert: object = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
        *more: object,
        **named: object,
    ) -> object:
        # Most models are unbound; their saves return here, before anything is made for ``save_bound``. A model with
        # parents continues, because something may have been read under a configuration that is no longer in force.
        # The parameters are listed by name, because packing them into a tuple takes twice as long.
        index = known_index()
        if index is not None and cls is not None and not index.bound[cls] and not (cls._meta.parents or more or named):
            return original(self, raw, cls, force_insert, force_update, using, update_fields)
        args = (raw, cls, force_insert, force_update, using, update_fields, *more)
        return save_bound(self, Arguments(SAVE_TABLE, args, named), index)

    return _save_table


class _TableSave:
    """The save of one table of an instance (its own or a parent's), and the events of that save.

    Attributes:
        write: The captured write that this table belongs to. For a child's own table, it is the write of all its
            tables, which ends with this one.
        is_left_to_triggers: Whether only the triggers report the save, provided the update finds them installed.
    """

    def __init__(
        self, instance: models.Model, table: type[models.Model], using: str, call: Arguments, index: Index
    ) -> None:
        self._instance, self._table, self._using, self._call = instance, table, using, call
        self._connection = connections[using]
        self._raw: bool = call.get("raw")
        self._update_fields: Container[str] | None = call.get("update_fields")
        self._is_captured: bool = not self._raw or settings.CAPTURE_RAW
        concrete = concrete_model(type(instance))
        self._is_parent = concrete is not table
        has_parts = self._is_parent or bool(table._meta.parents)
        begun = find_begun(ChildSave, instance, self._connection) if has_parts else None
        self._child = None if self._is_parent else begun
        if self._child is not None:
            self._child.leave_call()
        self.write = self._child or CapturedWrite(self._connection, index)
        self.is_left_to_triggers = self._was_read = False
        self._old: Groups | None = None
        if self._child is not None:
            self._was_read, self._listeners, self._old = True, self._child.listeners, self._child.old
        elif begun is not None and table in begun.parents:
            self._was_read, (self._listeners, self._old) = True, begun.parents[table]
        else:
            may_be_known = table._meta.db_table in index.marked.tables and self._is_plain_update()
            self._listeners = self.write.listeners_of(table, may_be_known=may_be_known)
            self.is_left_to_triggers = may_be_known and self.write.is_marked and not self._listeners.are_any
        self._others = unsaved_children(self._listeners.family, table, concrete)
        #: Counts the updated rows, if Django may consider the row saved although nothing has updated it.
        self._counted: Counted | None = None

    def _is_plain_update(self) -> bool:
        """Return whether the save is one update of one row on PostgreSQL that other packages leave unchanged."""
        return (
            self._connection.vendor == "postgresql"
            and self._is_captured
            and self._call.are_known
            and not (self._table._meta.parents or self._is_parent or self._raw or self._call.get("force_insert"))
            and not self._instance._state.adding
            and self._instance.pk is not None
            and not has_wrappers(self._connection)
        )

    @property
    def is_reported(self) -> bool:
        """Return whether the hooks report this table.

        A row in several tables is reported with its own table, which is saved last.
        """
        listeners = self._listeners
        has_listeners = listeners.lists or self._others or listeners.watches or listeners.twins
        if not self._is_captured or (listeners.plan is None and not has_listeners):
            return False
        return not (self._is_parent and writes_nothing_of(self._table, self._update_fields))

    @property
    def plan_to_join(self) -> Plan | None:
        """Return the plan of the row, if one statement can update it and insert its events."""
        listeners, call = self._listeners, self._call
        if (
            listeners.plan is None
            or listeners.lists
            or listeners.watches
            or listeners.twins
            or self._others
            or self._is_parent
        ):
            return None
        if self._raw or self._update_fields is not None or self.write.is_marked or not call.are_known:
            return None
        if call.get("force_insert") or not can_join(listeners.plan, self._instance, self._using):
            return None
        return listeners.plan

    def read(self) -> None:
        """Read the rows before the write, as far as the events need them."""
        listeners, table = self._listeners, self._table
        pk = key_in(table, self._instance)
        is_new = pk is None or self._will_insert()
        if not (self._was_read or listeners.plan is None or is_new):
            self._counted = self._count_updates(listeners.plan, pk)
            if self._counted is None:
                self._old = old_groups(listeners.plan, pk, self._using)
        if not (self._others or listeners.lists or listeners.watches or listeners.twins):
            return
        batch = self.write.batch
        if self._child is None and not is_new:
            read_others(batch, self._others, pk)
        if not is_new:
            read_others(batch, [Relative(twin, "pk") for twin in listeners.twins], pk)
        if listeners.lists:
            if not is_new:
                keep_owners(batch, listeners.lists, all_rows(table, self._using).filter(pk=pk))
            remember_owners(batch, listeners.lists, [self._instance])
        if listeners.watches:
            if not is_new:
                keep_watching(batch, both_ways(listeners.watches), table, [pk])
            keep_future(batch, listeners.watches, [self._instance])

    def _count_updates(self, plan: Plan, pk: Key | None) -> Counted | None:
        """Read the row before a save that Django considers done although nothing may have updated it.

        Django does so for models with ``select_on_save``, if the row exists. Return the counter of the updated rows,
        or ``None``.
        """
        table = self._table
        if plan.model is not table or not table._meta.select_on_save or facts_of(table, self._using).is_ordinary:
            return None
        self.write.batch.will_change(plan, [pk])
        return Counted(table)

    def _will_insert(self) -> bool:
        """Return whether Django inserts without trying an update first (the rule of ``Model._save_table``)."""
        if self._call.get("force_insert"):
            return True
        if self._raw or self._call.get("force_update") or not self._instance._state.adding:
            return False
        return all(field.has_default() or field.has_db_default() for field in self._table._meta.pk_fields)

    def carry_out(self, original: Method) -> object:
        """Call Django's method, which writes the table; return its result: whether the row already existed."""
        call = self._call
        counted = self._counted
        with contextlib.nullcontext() if counted is None else extended_update(counted, self._connection):
            updated: object = self.write.run(
                lambda: original(self._instance, *call.args, **call.kwargs), is_reported=self._is_captured
            )
        if self._child is not None:
            self._child.end_call()
        return updated

    def append(self, is_update: bool) -> None:
        """Append the events of the row, and of the rows related to it."""
        listeners, table, drafts = self._listeners, self._table, []
        self._instance._state.db = self._using
        batch, pk = self.write.batch, key_in(table, self._instance)
        if listeners.plan is not None and self._counted is not None:
            if not self._counted.count:
                batch.note_written(listeners.plan, ())
            batch.create(listeners.plan, [listeners.plan.model._meta.pk.to_python(pk)])
        elif listeners.plan is not None:
            as_given = (
                self._raw or self._update_fields is not None or not isinstance(self._instance, listeners.plan.model)
            )
            old = self._old if is_update else None
            drafts = draft_saved(listeners.plan, self._instance, table, old, as_given, self._using)
        is_gathered = (
            self._others or listeners.lists or listeners.watches or listeners.twins or self._counted is not None
        )
        if is_gathered or self._child is not None:
            if listeners.lists:
                keep_owners(batch, listeners.lists, all_rows(table, self._using).filter(pk=pk), is_after=True)
            keep_watching(batch, listeners.watches, table, [pk], is_after=True)
            for twin in listeners.twins:
                batch.create(twin, [twin.model._meta.pk.to_python(pk)])
            drafts += batch.drafts()
        self.write.append(drafts)
