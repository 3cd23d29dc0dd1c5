"""Capture model writes: turn each write of a bound row into events of the log, in the transaction of the write.

The hooks sit at the ORM's own narrow places, a module for each kind of write: ``saves``, ``deletes``, ``updates``
and ``inserts``. They
ask for the registry in force at each write, and leave the writes of unbound models as they are.
"""

from __future__ import annotations

from typing import Any

from django.db import models, router, transaction
from django.db.models.deletion import Collector
from django.db.models.fields import related_descriptors

from declbind.batches import in_batches

from . import detector
from .batch import Batch
from .deletes import capture_delete, capture_raw_delete
from .index import plan_for
from .inserts import capture_bulk_create
from .lists import capture_list_manager
from .locks import take_write_lock
from .places import is_logged
from .saves import capture_save_parents, capture_save_table
from .triggers import migrating
from .updates import capture_bulk_update, capture_update

#: The methods that are replaced: of which class, by what name, and what wraps them.
HOOKS: tuple[tuple[Any, str, Any], ...] = (
    (models.Model, "_save_parents", capture_save_parents),
    (models.Model, "_save_table", capture_save_table),
    (Collector, "delete", capture_delete),
    (models.QuerySet, "update", capture_update),
    (models.QuerySet, "bulk_update", capture_bulk_update),
    (models.QuerySet, "bulk_create", capture_bulk_create),
    (models.QuerySet, "_raw_delete", capture_raw_delete),
)


def install() -> None:
    """Put the hooks in, once per process."""
    for owner, name, wrap in HOOKS:
        method = getattr(owner, name)
        if not hasattr(method, "__wrapped__"):
            setattr(owner, name, wrap(method))
    make_manager = related_descriptors.create_forward_many_to_many_manager
    if not hasattr(make_manager, "__wrapped__"):
        related_descriptors.create_forward_many_to_many_manager = capture_list_manager(make_manager)
    migrating.install()
    detector.install()


def touch(rows: Any) -> int:
    """Announce rows by hand, as if each had been saved unchanged; return how many.

    For writes that no hook sees. Takes a query set or instances of one model; the events are in the transaction that is
    open on the rows' database, or in one of their own. More than ``BULK_LIMIT`` rows are announced by group.
    """
    queryset: Any = rows if isinstance(rows, models.QuerySet) else None
    instances = [] if queryset is not None else list(rows)
    if queryset is None and not instances:
        return 0
    model = queryset.model if queryset is not None else type(instances[0])
    plan = plan_for(model)
    # Where the rows are written: reading, and whoever read the instances, may have been sent to a replica.
    if queryset is not None:
        using = queryset._db or router.db_for_write(model, **queryset._hints)
    else:
        using = router.db_for_write(model, instance=instances[0])
    if plan is None or not is_logged(model, using):
        return 0
    with transaction.atomic(using=using):
        take_write_lock(using)
        keys = [row.pk for row in instances]
        if queryset is not None:
            keys = list(queryset.using(using).values_list("pk", flat=True))
        stored = plan.model._base_manager.using(using)
        keys = [
            key
            for some in in_batches(dict.fromkeys(keys), using)
            for key in stored.filter(pk__in=some).values_list("pk", flat=True)
        ]
        batch = Batch(using)
        batch.keep(plan, keys)
        batch.append()
    return len(keys)


__all__ = ["HOOKS", "install", "touch"]
