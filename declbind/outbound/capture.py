"""Capture model writes: turn each write of a bound row into events of the log, in the transaction of the write.

Captured here: ``save()`` in every form (fixtures too), ``delete()`` of instances and query sets with their cascades and
``SET_NULL``, and many-to-many changes from either side. The hooks sit at the ORM's own narrow places, such as
``Model._save_table`` and ``Collector.delete``: signals come too late for the first (a receiver that saves again would
be heard before the write that caused it) and would cost unbound models their fast deletes for the second.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Container, Iterable
from typing import Any

from django.db import DatabaseError, connections, models, router, transaction
from django.db.models.deletion import Collector

from declbind.conf import settings
from declbind.registry import current_registry, database_alias

from . import log
from .drafts import Groups, draft_hidden, draft_rows, draft_updates, draft_write, groups_of
from .joint_update import CannotJoinError, JointUpdate, can_join
from .plans import Plan, current_index, plan_for
from .rows import in_batches, is_as_stored, load_row, load_rows, load_rows_of

logger = logging.getLogger("declbind")

#: Models and databases of which it was said that their writes are not heard.
_told: set[tuple[str, str]] = set()


def _is_logged(model: type[models.Model], using: str | None) -> bool:
    """Tell whether writes of a model on a database can be logged; says so, once, of bound ones that cannot.

    A router that sends a bound model elsewhere is found by a system check. This finds ``using=`` in the code.
    """
    if log.is_here(using):
        return True
    concrete: Any = model._meta.concrete_model
    if using is None or concrete is None or using == database_alias() or (concrete._meta.label, using) in _told:
        return False
    bindings = current_registry().by_model.get(concrete._meta.label_lower, ())
    if any(binding.spec().outbound for binding in bindings):
        _told.add((concrete._meta.label, using))
        logger.error(
            "Nobody hears of writes of %s to database %r: the log is in %r, and an event is stored in the transaction "
            "of its write. Bound by: %s. Write to %r, or route declbind's models to the database of the bound ones.",
            concrete._meta.label,
            using,
            database_alias(),
            ", ".join(repr(binding.stream) for binding in bindings),
            database_alias(),
        )
    return False


# --- save ------------------------------------------------------------------------------------------------------------


class _Children(threading.local):
    """What was read of a child row before its parents' tables were written, by the instance's id; one per thread.

    An entry lives from the start of ``Model._save_parents`` to the ``_save_table`` that follows, so that it never meets
    another object with this id.
    """

    def __init__(self) -> None:
        self.stored: dict[int, tuple[Plan, Groups | None]] = {}


_children = _Children()


def capture_save_parents(original: Any) -> Any:
    """Wrap ``Model._save_parents``: read a child row's old groups first, for they may hang on a parent's columns."""

    @functools.wraps(original)
    def _save_parents(self: Any, cls: Any, using: Any, *args: Any, **kwargs: Any) -> Any:
        is_child = bool(cls._meta.parents) and type(self)._meta.concrete_model is cls
        if not is_child or not log.is_here(using) or (plan := plan_for(cls)) is None:
            return original(self, cls, using, *args, **kwargs)
        _children.stored[id(self)] = plan, _old_groups(plan, self._get_pk_val(cls._meta), using)
        try:
            return original(self, cls, using, *args, **kwargs)
        except BaseException:
            del _children.stored[id(self)]
            raise

    return _save_parents


def capture_save_table(original: Any) -> Any:
    """Wrap ``Model._save_table``: read the old groups, write, append the events, as one transaction."""

    @functools.wraps(original)
    def _save_table(
        self: Any,
        raw: bool = False,
        cls: Any = None,
        force_insert: bool = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
    ) -> Any:
        def write() -> Any:
            return original(self, raw, cls, force_insert, force_update, using, update_fields)

        if (raw and not settings.CAPTURE_RAW) or not _is_logged(cls, using):
            return write()
        is_parent = type(self)._meta.concrete_model is not cls
        stored = None if is_parent else _children.stored.pop(id(self), None)
        index = current_index()
        plan = stored[0] if stored else index.plan_for(cls)
        lists = index.lists_through(cls)
        if (plan is None and not lists) or (is_parent and _passes_by(cls, update_fields)):
            return write()
        if plan is not None and not (lists or is_parent or raw or force_insert or update_fields is not None):
            update = functools.partial(original, self, cls=cls, force_update=True, using=using)
            if can_join(plan, self, using) and _save_in_one(plan, self, update, using):
                return True
        with transaction.atomic(using=using, savepoint=False):
            pk = self._get_pk_val(cls._meta)
            is_new = pk is None or _will_insert(self, cls, raw, force_insert, force_update)
            old = stored[1] if stored else None if plan is None or is_new else _old_groups(plan, pk, using)
            owners = _Owners()
            if lists and not is_new:
                owners.add(lists, cls._base_manager.filter(pk=pk), using)
            updated = write()
            self._state.db = using
            drafts = []
            if plan is not None:
                as_given = raw or update_fields is not None
                drafts = _draft_save(plan, self, cls, old if updated else None, as_given, using)
            if lists:
                owners.add(lists, cls._base_manager.filter(pk=self._get_pk_val(cls._meta)), using)
                drafts += owners.draft(using)
            log.append(drafts, using)
        return updated

    return _save_table


def _save_in_one(plan: Plan, instance: Any, update: Callable[[], Any], using: str) -> bool:
    """Update a row and append its events by one statement; False, and nothing is written, where that cannot be."""
    connection = connections[using]
    with transaction.atomic(using=using, savepoint=False) if plan.needs_old else contextlib.nullcontext():
        old = _old_groups(plan, instance.pk, using)
        drafts = [] if old is None else draft_write(plan, instance, instance.pk, old, using)
        if not drafts:
            return False
        joint = JointUpdate(drafts, plan, connection)
        try:
            with connection.execute_wrapper(joint):
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


def _draft_save(plan: Plan, instance: Any, cls: Any, old: Groups | None, as_given: bool, using: str) -> list[log.Draft]:
    """Return the events of a saved instance; ``as_given`` says that its values need not be those of the row."""
    pk, row = instance._get_pk_val(cls._meta), instance
    # A second parent has a primary key of its own, under which its lists are kept.
    is_other_row = bool(plan.m2m) and pk != instance.pk
    if as_given or is_other_row or not is_as_stored(plan, instance, cls._meta.pk):
        row = load_row(plan, pk, plan.fields, using)
        if row is None:
            return draft_hidden(plan, instance, pk, old, using)
        pk = row.pk
    return draft_write(plan, row, pk, old, using)


def _old_groups(plan: Plan, pk: Any, using: str) -> Groups | None:
    """Return the groups of the stored row, ``None`` where there is none; empty where the diff can do without them."""
    if not plan.needs_old:
        return {}
    row = None if pk is None else load_row(plan, pk, plan.group_fields, using)
    return None if row is None else groups_of(plan, row, using)


def _will_insert(instance: Any, cls: Any, raw: bool, force_insert: Any, force_update: bool) -> bool:
    """Tell whether Django inserts without looking for a row first (the rule of ``Model._save_table``)."""
    if force_insert:
        return True
    if raw or force_update or not instance._state.adding:
        return False
    return all(field.has_default() or field.has_db_default() for field in cls._meta.pk_fields)


def _passes_by(parent: Any, update_fields: Any) -> bool:
    """Tell whether a child's ``save(update_fields=...)`` writes no column of this parent."""
    return update_fields is not None and not any(
        field.name in update_fields or field.attname in update_fields for field in parent._meta.local_concrete_fields
    )


# --- delete ----------------------------------------------------------------------------------------------------------


#: Who wants to know of rows that are deleted one by one, by model: called with a row and the database, before it goes.
#: A signal's listener would do, and would make each ``QuerySet.delete()`` of the model load its rows first.
delete_observers: dict[type[models.Model], Callable[[Any, str], None]] = {}


def capture_delete(original: Any) -> Any:
    """Wrap ``Collector.delete``: read what is about to go or to be set null, let Django delete, append the events."""

    @functools.wraps(original)
    def delete(self: Any) -> Any:
        using = self.using
        for model in delete_observers.keys() & self.data.keys():
            for row in self.data[model]:
                delete_observers[model](row, using)
        if not log.is_here(using):
            for model in (*self.data, *(rows.model for rows in self.fast_deletes)):
                _is_logged(model, using)  # which says so
            return original(self)
        index = current_index()
        entries = [*self.data.items(), *((rows.model, rows) for rows in self.fast_deletes)]
        gone = [(plan, objects) for model, objects in entries if (plan := index.plan_for(model))]
        nulled = [
            (plan, objects)
            for (field, _), found in self.field_updates.items()
            for objects in found
            if (plan := index.plan_for(field.model))
        ]
        unlisted = [(lists, objects) for model, objects in entries if (lists := index.lists_through(model))]
        if not (gone or nulled or unlisted):
            return original(self)
        with transaction.atomic(using=using, savepoint=False):
            drafts: list[log.Draft] = []
            seen: set[tuple[Any, Any]] = set()
            for plan, objects in gone:
                drafts += draft_rows(plan, load_rows_of(plan, objects, plan.fields, using), seen, using)
            before: dict[Any, tuple[Plan, dict[Any, Groups]]] = {}
            for plan, objects in nulled:
                groups = before.setdefault(plan.model, (plan, {}))[1]
                groups.update(
                    (row.pk, groups_of(plan, row, using))
                    for row in load_rows_of(plan, objects, plan.group_fields, using)
                )
            owners = _Owners()
            for lists, objects in unlisted:
                owners.add(lists, objects, using)
            result = original(self)
            for plan, groups in before.values():
                pks = [pk for pk in groups if (plan.model, pk) not in seen]
                for pk, row in load_rows(plan, pks, plan.fields, using).items():
                    seen.add((plan.model, pk))
                    drafts += draft_write(plan, row, pk, groups[pk], using)
            drafts += owners.draft(using, seen)
            log.append(drafts, using)
        return result

    return delete


# --- many-to-many ----------------------------------------------------------------------------------------------------


def _columns(field: Any) -> tuple[str, str]:
    """Return the names of the columns that hold, in a list's through rows, the row that has the list and the listed."""
    options = field.remote_field.through._meta
    names = field.m2m_field_name(), field.m2m_reverse_field_name()
    return options.get_field(names[0]).attname, options.get_field(names[1]).attname


def _pairs(field: Any, rows: Iterable[Any]) -> set[tuple[Any, Any]]:
    owner, listed = _columns(field)
    return {(getattr(row, owner), getattr(row, listed)) for row in rows}


def _listed_pairs(field: Any, owners: Iterable[Any], using: str) -> set[tuple[Any, Any]]:
    columns = _columns(field)
    through = field.remote_field.through._base_manager.using(using)
    return {
        pair
        for some in in_batches(owners, using)
        for pair in through.filter(**{f"{columns[0]}__in": some}).values_list(*columns)
    }


class _Owners:
    """Gather the rows whose many-to-many lists change with rows of a through model."""

    def __init__(self) -> None:
        self._found: dict[type[models.Model], tuple[Plan, set[Any]]] = {}

    def add(self, lists: Iterable[tuple[Plan, Any]], objects: Any, using: str) -> None:
        """Add the rows that own what is listed by through rows, given as a query set or as instances."""
        for plan, field in lists:
            owner, _ = _columns(field)
            if isinstance(objects, models.QuerySet):
                pks = set(objects.using(using).order_by().values_list(owner, flat=True))
            else:
                pks = {getattr(row, owner) for row in objects}
            self.add_rows(plan, pks)

    def add_rows(self, plan: Plan, pks: Iterable[Any]) -> None:
        """Add rows by their keys."""
        self._found.setdefault(plan.model, (plan, set()))[1].update(pks)

    def draft(self, using: str, seen: Container[tuple[Any, Any]] = ()) -> list[log.Draft]:
        """Return the events of the rows that are still there and not ``seen``: (model, key) of those with an event."""
        drafts: list[log.Draft] = []
        for plan, pks in self._found.values():
            unseen = [pk for pk in pks if (plan.model, pk) not in seen]
            drafts += draft_updates(plan, load_rows(plan, unseen, plan.fields, using), using)
        return drafts


def capture_bulk_create(original: Any) -> Any:
    """Wrap ``QuerySet.bulk_create`` for the through models of bound lists, where ``add()`` and ``set()`` end.

    Not ``m2m_changed``: it tells nothing of the mirrored rows of a symmetrical list, and a listener costs each ``add``
    a query. What shortens a list deletes through rows, and is captured there.
    """

    @functools.wraps(original)
    def bulk_create(
        self: Any, objs: Any, batch_size: Any = None, ignore_conflicts: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        lists = current_index().lists_through(self.model)
        using = self._db or router.db_for_write(self.model, **self._hints)
        if not lists or not log.is_here(using):
            return original(self, objs, batch_size, ignore_conflicts, *args, **kwargs)
        rows = list(objs)
        with transaction.atomic(using=using, savepoint=False):
            owners = _Owners()
            for plan, field in lists:
                pairs = _pairs(field, rows)
                # Django adds what is listed already once more and lets the database ignore it.
                known = _listed_pairs(field, {owner for owner, _ in pairs}, using) if ignore_conflicts else set()
                owners.add_rows(plan, {owner for owner, _ in pairs - known})
            created = original(self, rows, batch_size, ignore_conflicts, *args, **kwargs)
            log.append(owners.draft(using), using)
        return created

    return bulk_create


# --- by hand, and the hooks' place -----------------------------------------------------------------------------------


def touch(rows: Any) -> int:
    """Announce rows by hand, as if each had been saved unchanged; return how many.

    For writes that no hook sees. Takes a query set or instances of one model; the events are in the transaction that is
    open on the rows' database, or in one of their own.
    """
    queryset = rows if isinstance(rows, models.QuerySet) else None
    instances = [] if queryset is not None else list(rows)
    if queryset is None and not instances:
        return 0
    model = queryset.model if queryset is not None else type(instances[0])
    plan = plan_for(model)
    using = queryset.db if queryset is not None else instances[0]._state.db
    if plan is None or not _is_logged(model, using):
        return 0
    pks = list(queryset.values_list("pk", flat=True)) if queryset is not None else [row.pk for row in instances]
    with transaction.atomic(using=using):
        found = load_rows(plan, pks, plan.fields, using)
        log.append(draft_updates(plan, found, using), using)
    return len(found)


def install() -> None:
    """Put the hooks in, once per process. They ask for the registry in force at each write."""
    model: Any = models.Model
    collector: Any = Collector
    queryset: Any = models.QuerySet
    if not hasattr(model._save_table, "__wrapped__"):
        model._save_parents = capture_save_parents(model._save_parents)
        model._save_table = capture_save_table(model._save_table)
        collector.delete = capture_delete(collector.delete)
        queryset.bulk_create = capture_bulk_create(queryset.bulk_create)
