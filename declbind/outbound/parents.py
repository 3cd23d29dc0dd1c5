"""Capture of the parents' tables, which Django writes before the child's own table when a child is saved.

The child's groups may depend on a parent's columns, so they are read before the first table is written. The events of
the row are appended after its own table is written (see ``saves``).
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Iterator, Sequence

from django.db import connections, models

from declbind.django_types import Key, Method

from . import log
from .batch import Batch
from .drafts import Groups
from .hooks import note_unknown_call
from .index import Relative, TableListeners, current_index
from .locks import take_write_lock
from .saved_rows import key_in, old_groups
from .seams import HOOKED
from .writes import CapturedWrite

SAVE_PARENTS = HOOKED["_save_parents"]


class ChildSave(CapturedWrite):
    """The save of a child row, from its parents' tables to its own. The subject is the instance.

    The batch holds the rows that are related through the child's own table.

    Attributes:
        listeners: The listeners of the child's own table.
        old: The row's groups before the save.
        parents: The listeners and old groups of the parents that have parents themselves, because their groups may
            depend on those.
    """

    listeners: TableListeners
    old: Groups | None
    parents: dict[type[models.Model], tuple[TableListeners, Groups | None]]


def capture_save_parents(original: Method) -> Method:
    """Wrap ``Model._save_parents`` to read the child row's groups first, which may depend on a parent's columns."""

    @functools.wraps(original)
    def _save_parents(
        self: models.Model,
        cls: type[models.Model] | None = None,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
        force_insert: object = False,
        *more: object,
        **named: object,
    ) -> object:
        if cls is not None and not (cls._meta.parents or more or named):
            return original(self, cls, using, update_fields, force_insert)
        args, kwargs = (cls, using, update_fields, force_insert, *more), named
        if cls is None or using is None:
            note_unknown_call(SAVE_PARENTS)
            return original(self, *args, **kwargs)
        if not cls._meta.parents:
            return original(self, *args, **kwargs)
        if type(self)._meta.concrete_model is not cls or not log.is_here(using):
            return original(self, *args, **kwargs)
        write, pk = ChildSave(connections[using], current_index()), key_in(cls, self)
        listeners = write.listeners = write.listeners_of(cls)
        others = unsaved_children(listeners.family, cls, cls)
        between = {
            parent: (found, key)
            for parent, key in _parents_with_keys(self, cls, {})
            if parent._meta.parents and (found := write.listeners_of(parent)).plan is not None
        }
        write.is_marked |= any(write.is_table_marked(parent) for parent in cls._meta.all_parents)
        if listeners.plan is None and not others and not between and not write.is_marked:
            return original(self, *args, **kwargs)
        take_write_lock(using)
        write.old = old_groups(listeners.plan, pk, using)
        write.parents = {
            parent: (found, old_groups(found.plan, key, using)) for parent, (found, key) in between.items()
        }
        read_others(write.batch, others, pk)
        try:
            write.begin_call(self)
            return original(self, *args, **kwargs)
        except BaseException:
            write.leave_call()
            raise

    return _save_parents


def _parents_with_keys(
    instance: models.Model, cls: type[models.Model], keys: dict[str, Key]
) -> Iterator[tuple[type[models.Model], Key]]:
    """Yield all ancestors of a model, with the keys under which ``instance`` will be saved in their tables.

    ``keys`` are the keys, by attribute, that Django has yet to copy from a child's link (as ``Model._save_parents``
    does).
    """
    for parent, link in cls._meta.parents.items():
        attname = parent._meta.pk.attname
        key = getattr(instance, attname)
        if key is None and link is not None:
            key = keys[attname] = getattr(instance, link.attname) or keys.get(link.attname)
        yield parent, key
        yield from _parents_with_keys(instance, parent, keys)


def unsaved_children(
    family: Sequence[Relative], table: type[models.Model], concrete: type[models.Model]
) -> list[Relative]:
    """Return the listeners for child rows of a table that this save does not write.

    Child rows of the saved model itself are reported when their own table is saved.
    """
    if not family or (len(family) == 1 and family[0].lookup == "pk"):
        return []
    return [
        relative
        for relative in family
        if not issubclass(concrete, relative.plan.model)
        and (table is concrete or not issubclass(relative.plan.model, concrete))
    ]


def read_others(batch: Batch, others: list[Relative], pk: Key) -> None:
    if pk is not None:
        for plan, lookup in others:
            batch.will_change(plan, [pk], lookup)


def writes_nothing_of(parent: type[models.Model], update_fields: Container[str] | None) -> bool:
    """Return whether ``save(update_fields=...)`` of a child writes no column of this parent or of its parents."""
    return update_fields is not None and not any(
        field.name in update_fields or field.attname in update_fields for field in parent._meta.concrete_fields
    )
