"""Rows whose many-to-many lists change with rows of a through model.

``set()`` of a list removes and adds through rows. When it is finished, it is reported as one change of each row that
owns the list. A list whose contents are unchanged is not reported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, Protocol, TypeAlias

from django.apps import apps
from django.db import connections, models, router
from django.db.models.fields import related_descriptors

from declbind.django_types import Connection, Key, ListField, Rows, through_of
from declbind.serializers.lists import list_columns
from declbind.stored_rows import value_of

from .batch import Batch
from .hooks import note_unknown_call
from .index import Index, current_index, known_index
from .places import is_logged
from .plans import Plan
from .seams import HOOKED
from .writes import CapturedWrite, find_begun

#: Pairs of keys: the row that owns the list, and the listed row.
Pairs = set[tuple[Key, Key]]


#: Rows of a through model, as a query or as instances.
ThroughRows: TypeAlias = "Rows | Iterable[models.Model]"
P = ParamSpec("P")


class ListManager(Protocol):
    """The manager of one row's many-to-many list. Django makes a class for each list."""

    through: type[models.Model]
    instance: models.Model
    set: Callable[..., object]


class ListChange(CapturedWrite):
    """A call of ``set()`` on a list: the through rows that it has removed and added so far.

    The subject is the through model.
    """

    def __init__(self, connection: Connection, index: Index) -> None:
        super().__init__(connection, index)
        self._pairs: dict[tuple[type[models.Model], ListField], tuple[Plan, Pairs, Pairs]] = {}

    def remember(self, plan: Plan, listed: ListField, owners: Iterable[Key]) -> None:
        """Read the groups of rows before their list is changed, if project code computes the groups."""
        self.batch.remember(plan, owners, plan.outlets_of(listed))

    def note(self, plan: Plan, listed: ListField, rows: ThroughRows, came: bool) -> None:
        """Record through rows that are about to be deleted, or, with ``came``, that were inserted."""
        _, gone, new = self._pairs.setdefault((plan.model, listed), (plan, set(), set()))
        pairs = _pairs(listed, rows, self.using)
        if not came:
            self.remember(plan, listed, {owner for owner, _ in pairs})
        (new if came else gone).update(pairs)

    def append_changes(self) -> None:
        """Append the events of the lists whose contents have changed."""
        for (_, listed), (plan, gone, new) in self._pairs.items():
            owners = dict.fromkeys(owner for owner, _ in sorted(gone ^ new, key=repr))
            self.batch.keep_related(plan, owners, plan.outlets_of(listed), is_after=True)
        self.append()


def keep_owners(
    batch: Batch, lists: Iterable[tuple[Plan, ListField]], rows: ThroughRows, came: bool = False, is_after: bool = False
) -> None:
    """Record the rows that own the lists in which through rows appear. The through rows are a query set or instances.

    Call it before through rows are deleted or changed. Call it with ``is_after`` after a change, and with ``came``
    after an insert.
    """
    for plan, listed in lists:
        through = through_of(listed)
        with batch.guarded([plan], [through]):
            change = find_begun(ListChange, through, connections[batch.using])
            if change is not None:
                change.note(plan, listed, rows, came)
            else:
                owners = _owners(listed, rows, batch.using)
                batch.keep_related(plan, owners, plan.outlets_of(listed), is_after or came)


def remember_owners(batch: Batch, lists: Iterable[tuple[Plan, ListField]], rows: Iterable[models.Model]) -> None:
    """Read the groups of the rows that will own new through rows, if project code computes the groups."""
    for plan, listed in lists:
        if any(outlet.has_group_code for outlet in plan.outlets_of(listed)):
            through = through_of(listed)
            with batch.guarded([plan], [through]):
                owners, change = (
                    _owners(listed, rows, batch.using),
                    find_begun(ListChange, through, connections[batch.using]),
                )
                if change is not None:
                    change.remember(plan, listed, owners)
                else:
                    batch.remember(plan, owners, plan.outlets_of(listed))


def _owners(listed: ListField, rows: ThroughRows, using: str) -> set[Key]:
    owner, _ = list_columns(listed)
    if isinstance(rows, models.QuerySet):
        return set(rows.using(using).order_by().values_list(owner, flat=True)) - {None}
    return {value_of(row, owner) for row in rows} - {None}


def capture_list_manager(original: Callable[P, type[ListManager]]) -> Callable[P, type[ListManager]]:
    """Wrap the function that makes the manager class of a list, so that each class gets a wrapped ``set``."""

    @functools.wraps(original)
    def create_forward_many_to_many_manager(*args: P.args, **kwargs: P.kwargs) -> type[ListManager]:
        manager = original(*args, **kwargs)
        if hasattr(manager, "set"):
            manager.set = _capture_set(manager.set)
        else:
            note_unknown_call(HOOKED["create_forward_many_to_many_manager"])
        return manager

    return create_forward_many_to_many_manager


def forget_list_managers() -> None:
    """Make Django recreate the manager classes of all lists, in case the code of an app has used them already."""
    kind = getattr(related_descriptors, "ManyToManyDescriptor", ())
    for model in apps.get_models(include_auto_created=True):
        for descriptor in vars(model).values():
            if isinstance(descriptor, kind):
                vars(descriptor).pop("related_manager_cls", None)


def _capture_set(
    original: Callable[Concatenate[ListManager, P], object],
) -> Callable[Concatenate[ListManager, P], object]:
    @functools.wraps(original)
    def set_list(self: ListManager, /, *args: P.args, **kwargs: P.kwargs) -> object:
        known = known_index()
        if known is not None and not known.bound[self.through]:
            return original(self, *args, **kwargs)
        using = router.db_for_write(self.through, instance=self.instance)
        index = current_index()
        if not index.all.of(self.through).lists or not is_logged(self.through, using):
            return original(self, *args, **kwargs)
        connection = connections[using]
        if find_begun(ListChange, self.through, connection) is not None:
            return original(self, *args, **kwargs)
        with ListChange(connection, index) as change:
            change.listeners_of(self.through)
            try:
                change.begin_call(self.through)
                original(self, *args, **kwargs)
            finally:
                change.leave_call()
            change.end_call()
            change.append_changes()
        return None

    return set_list


def _pairs(listed: ListField, rows: ThroughRows, using: str) -> Pairs:
    owner, target = list_columns(listed)
    if isinstance(rows, models.QuerySet):
        return set(rows.using(using).order_by().values_list(owner, target))
    return {(value_of(row, owner), value_of(row, target)) for row in rows}
