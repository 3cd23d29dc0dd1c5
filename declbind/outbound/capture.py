"""Capture of model writes: each write of a bound row becomes events of the log, in the transaction of the write.

``HOOKS`` lists the methods that are wrapped. Each kind of write has a module: ``saves``, ``deletes``, ``updates``,
``inserts`` and ``lists``. A hook looks up the registry in force at each write and passes writes of unbound models on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from django.db import models, router, transaction

from declbind.batches import in_batches

from . import catalog, detector, hooks, memory_databases, seams
from .batch import Batch
from .deletes import capture_delete, capture_raw_delete
from .django_types import Key, Method, Rows
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
    """A method that is wrapped: the class or module that has it, its name, and what makes the wrapper."""

    owner: object
    name: str
    wrap: Callable[[Method], Method]

    @property
    def seam(self) -> Seam:
        """What the hook needs of the method."""
        return seams.HOOKED[self.name]


#: The methods that are wrapped. ``seams`` says what each must be like.
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
    """Install the hooks that are not in place, and log which private names are not as expected."""
    for hook in HOOKS:
        hooks.install(hook.seam, hook.wrap)
    forget_list_managers()
    for fault in find_faults():
        logger.error("%s %s", fault.text, fault.action)
    if any(seams.find_name_faults(seams.NEEDED)):
        return  # what follows serves the hooks, none of which is installed
    catalog.install()
    memory_databases.install()
    migrating.install()
    detector.install()


def find_faults() -> Iterator[SeamFault]:
    """Yield the private names that are not as expected, and the hooks that writes do not reach any more."""
    yield from seams.find_name_faults()
    yield from hooks.find_hook_faults(hook.seam for hook in HOOKS)


def touch(rows: Rows | Iterable[models.Model]) -> int:
    """Announce rows by hand, as if each had been saved unchanged; return how many.

    For writes that no hook sees. Takes a query set or instances of one model; the events are in the transaction that is
    open on the rows' database, or in one of their own. More than ``BULK_LIMIT`` rows are announced by group.
    """
    queryset = rows if isinstance(rows, models.QuerySet) else None
    instances = [] if queryset is not None else list(rows)
    if queryset is None and not instances:
        return 0
    model = queryset.model if queryset is not None else type(instances[0])
    listeners = current_index().all.of(model._meta.concrete_model or model)
    plans = [plan for plan in (listeners.plan, *listeners.twins) if plan is not None]
    # Where the rows are written: reading, and whoever read the instances, may have been sent to a replica.
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
