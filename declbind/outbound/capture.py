"""Capture of model writes: each write of a bound row becomes events in the log, in the same transaction.

``HOOKS`` lists the methods that are wrapped. Each kind of write has a module: ``saves``, ``deletes``, ``updates``,
``inserts`` and ``lists``. A hook looks up the registry in force at each write, and passes writes of unbound models
through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from django.db import models, router, transaction

from declbind.batches import in_batches
from declbind.django_types import Key, Method, Rows

from . import catalog, detector, hooks, memory_databases, seams
from .batch import Batch
from .deletes import capture_delete, capture_raw_delete
from .index import current_index
from .inserts import capture_bulk_create
from .lists import capture_list_manager, forget_list_managers
from .locks import take_write_lock
from .parents import capture_save_parents
from .places import database_of, is_logged
from .rows import all_rows
from .saves import capture_save_table
from .seam_checks import Seam, SeamFault
from .triggers import migrating
from .updates import capture_bulk_update, capture_update

logger = logging.getLogger("declbind")


class Hook(NamedTuple):
    """A method that is wrapped: the class or module that has it, its name, and the function that makes the wrapper."""

    owner: object
    name: str
    wrap: Callable[[Method], Method]

    @property
    def seam(self) -> Seam:
        """Return what the hook requires of the method."""
        return seams.HOOKED[self.name]


#: The methods that are wrapped. ``seams`` describes the signature that each must have.
HOOKS: tuple[Hook, ...] = tuple(
    Hook(seams.HOOKED[name].find_owner(), name, wrap)
    for name, wrap in (
        ("_save_parents", capture_save_parents),
        ("_save_table", capture_save_table),
        ("delete", capture_delete),
        ("update", capture_update),
        ("bulk_update", capture_bulk_update),
        ("bulk_create", capture_bulk_create),
        ("_raw_delete", capture_raw_delete),
        ("create_forward_many_to_many_manager", capture_list_manager),
    )
)


def install() -> None:
    """Install the hooks that are missing, and log the private names that are not as expected."""
    for hook in HOOKS:
        hooks.install(hook.seam, hook.wrap)
    forget_list_managers()
    for fault in find_faults():
        logger.error("%s %s", fault.text, fault.action)
    if any(seams.find_name_faults(seams.NEEDED)):
        return  # without hooks there is nothing else to check
    catalog.install()
    memory_databases.install()
    migrating.install()
    detector.install()


def find_faults() -> Iterator[SeamFault]:
    """Yield the private names that are not as expected, and the hooks that writes no longer reach."""
    yield from seams.find_name_faults()
    yield from hooks.find_hook_faults(hook.seam for hook in HOOKS)


def touch(rows: Rows | Iterable[models.Model]) -> int:
    """Announce rows by hand, as if each had been saved unchanged.

    This is for writes that no hook sees. The events are added to the open transaction on the rows' database, or to a
    new one. More than ``BULK_LIMIT`` rows are announced by group.

    Args:
        rows: A query set, or instances of one model.

    Returns:
        The number of rows.
    """
    queryset = rows if isinstance(rows, models.QuerySet) else None
    instances = [] if queryset is not None else list(rows)
    if queryset is None and not instances:
        return 0
    model = queryset.model if queryset is not None else type(instances[0])
    listeners = current_index().all.of(model._meta.concrete_model or model)
    plans = [plan for plan in (listeners.plan, *listeners.twins) if plan is not None]
    # Use the database that the rows are written to; the query set or the instances may come from a replica.
    using = database_of(queryset) if queryset is not None else router.db_for_write(model, instance=instances[0])
    if not plans or not is_logged(model, using):
        return 0
    with transaction.atomic(using=using):
        take_write_lock(using)
        keys: list[Key] = [row.pk for row in instances]
        if queryset is not None:
            keys = list(queryset.using(using).values_list("pk", flat=True))
        stored = all_rows(plans[0].model, using)
        keys = [
            key
            for some in in_batches(dict.fromkeys(keys), using)
            for key in stored.filter(pk__in=some).values_list("pk", flat=True)
        ]
        batch = Batch(using)
        for plan in plans:
            batch.keep(plan, keys)
        batch.append()
    return len(keys)


__all__ = ["HOOKS", "Hook", "find_faults", "install", "touch"]
