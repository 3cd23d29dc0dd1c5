"""Capture ``Model.save``: the row's groups before, the write, its events, as one transaction.

The hook sits at ``Model._save_table``, which writes one table: a signal comes too late, for a receiver that saves again
would be heard before the write that caused it.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable

from django.db import connections, models

from declbind.conf import settings

from .also import both_ways, keep_coming, keep_watching
from .django_types import Method, concrete_model
from .hooks import Arguments, note_unread
from .index import Index, current_index, known_index
from .joint_update import can_join, save_in_one
from .lists import keep_owners, remember_owners
from .parents import ChildSave, others_of, passes_by, read_others
from .places import is_logged
from .rows import all_rows
from .saved_rows import draft_saved, key_in, old_groups
from .seams import HOOKED
from .statements import has_wrappers
from .writes import CapturedWrite, find_begun

SAVE_TABLE = HOOKED["_save_table"]


def capture_save_table(original: Method) -> Method:
    """Wrap ``Model._save_table``: read the old groups, write, append the events, as one transaction."""

    def save_heard(self: models.Model, call: Arguments, known: Index | None) -> object:
        cls: type[models.Model] | None = call.get("cls")
        using: str | None = call.get("using")
        update_fields: Container[str] | None = call.get("update_fields")
        raw, force_insert, force_update = call.get("raw"), call.get("force_insert"), call.get("force_update")
        if cls is None or using is None:
            note_unread(SAVE_TABLE)
            return original(self, *call.args, **call.kwargs)
        if not is_logged(cls, using):
            return original(self, *call.args, **call.kwargs)

        index = current_index() if known is None else known
        concrete = concrete_model(type(self))
        is_parent = concrete is not cls
        child = find_begun(ChildSave, self, using)
        whole = None if is_parent else child
        if whole is not None:
            whole.leave_call()
        write = whole or CapturedWrite(using, index)
        is_reported = not raw or settings.CAPTURE_RAW

        def carry_out() -> object:
            updated = write.run(lambda: original(self, *call.args, **call.kwargs), is_reported=is_reported)
            if whole is not None:
                whole.end_call()
            return updated

        was_read, old = False, None
        if whole is not None:
            was_read, heard, old = True, whole.heard, whole.old
        elif child is not None and cls in child.parents:
            was_read, (heard, old) = True, child.parents[cls]
        else:
            may_be_marked = cls._meta.db_table in index.marked.tables
            is_verified = may_be_marked and is_reported and call.are_known and _is_plain_update(self, cls, call, using)
            heard = write.listeners_of(cls, may_be_known=is_verified)
            if is_verified and write.is_marked and not heard.are_any:
                return write.run_verified(lambda: original(self, *call.args, **call.kwargs), cls)
        plan, lists, watches = heard.plan, heard.lists, heard.watches
        others = others_of(heard.family, cls, concrete)
        if (plan is None and not (lists or others or watches)) or (is_parent and passes_by(cls, update_fields)):
            # Rows of which this table holds a part are reported with the rest of them.
            return carry_out()
        if not is_reported:
            return carry_out()
        is_plain = not (lists or others or watches or is_parent or raw or force_insert or update_fields is not None)
        if plan is not None and is_plain and call.are_known and not write.is_marked:
            update = functools.partial(original, self, cls=cls, force_update=True, using=using)
            if can_join(plan, self, using) and save_in_one(write, plan, self, update):
                return True
        with write:
            pk = key_in(cls, self)
            is_new = pk is None or _will_insert(self, cls, raw, force_insert, force_update)
            if not (was_read or plan is None or is_new):
                old = old_groups(plan, pk, using)
            if whole is None and not is_new:
                read_others(write.batch, others, pk)
            if lists:
                if not is_new:
                    keep_owners(write.batch, lists, all_rows(cls, using).filter(pk=pk))
                remember_owners(write.batch, lists, [self])
            if watches:
                if not is_new:
                    keep_watching(write.batch, both_ways(watches), cls, [pk])
                keep_coming(write.batch, watches, [self])
            updated = carry_out()
            self._state.db = using
            drafts = []
            if plan is not None:
                as_given = raw or update_fields is not None or not isinstance(self, plan.model)
                drafts = draft_saved(plan, self, cls, old if updated else None, as_given, using)
            pk = key_in(cls, self)
            if lists:
                keep_owners(write.batch, lists, all_rows(cls, using).filter(pk=pk), is_after=True)
            keep_watching(write.batch, watches, cls, [pk], is_after=True)
            if others or lists or watches or whole is not None:
                drafts += write.batch.drafts()
            write.append(drafts)
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
        # Most models are unbound, and their saves end here: nothing is made for ``save_heard``. A model with parents
        # goes on, because something may have been read by a configuration that is not in force any more.
        # The arguments are spelled out because packing them takes twice as long.
        index = known_index()
        if index is not None and cls is not None and not index.heard[cls] and not (cls._meta.parents or more or named):
            return original(self, raw, cls, force_insert, force_update, using, update_fields)
        args = (raw, cls, force_insert, force_update, using, update_fields, *more)
        return save_heard(self, Arguments(SAVE_TABLE, args, named), index)

    return _save_table


def _is_plain_update(instance: models.Model, cls: type[models.Model], call: Arguments, using: str) -> bool:
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


def _will_insert(
    instance: models.Model, cls: type[models.Model], raw: bool, force_insert: object, force_update: bool
) -> bool:
    """Tell whether Django inserts without looking for a row first (the rule of ``Model._save_table``)."""
    if force_insert:
        return True
    if raw or force_update or not instance._state.adding:
        return False
    return all(field.has_default() or field.has_db_default() for field in cls._meta.pk_fields)
