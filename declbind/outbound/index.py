"""The bindings that listen to each table in one registry, and the choice of the registry for a write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cached_property
from typing import NamedTuple

from django.apps import apps
from django.db import models

from declbind import registry as registries
from declbind.django_types import ListField, concrete_model, through_of
from declbind.registry import BindingRegistry, get_registry, is_settled
from declbind.relations import Hop

from .observers import bulk_observers
from .plans import Plan, build_plan


class Relative(NamedTuple):
    """A plan whose rows have columns in a table, and the field that finds them by keys of the table."""

    plan: Plan
    lookup: str


class ListOwner(NamedTuple):
    """A plan whose rows own a many-to-many list that is stored in a table."""

    plan: Plan
    field: ListField


class Watch(NamedTuple):
    """A plan whose rows are sent again when rows of a table change, and how to find them."""

    plan: Plan
    hop: Hop


class TableListeners(NamedTuple):
    """The plans that must report a write to one table."""

    #: The plan of the rows themselves.
    plan: Plan | None = None
    #: That plan, and those of the models that inherit the table's columns.
    family: tuple[Relative, ...] = ()
    lists: tuple[ListOwner, ...] = ()
    watches: tuple[Watch, ...] = ()
    #: The plans of other bound models with the same table and key.
    twins: tuple[Plan, ...] = ()

    @property
    def are_any(self) -> bool:
        """Return whether a write to the table may have to be reported."""
        return bool(self.family or self.lists or self.watches or self.twins)

    @property
    def plans(self) -> list[Plan]:
        """Return all plans that listen."""
        owners = [listener.plan for listener in self.lists]
        return [*(one.plan for one in self.family), *owners, *(one.plan for one in self.watches), *self.twins]


class Listeners:
    """The listeners of each table, for all outbound bindings or only for those with one ``capture`` mode."""

    def __init__(self, registry: BindingRegistry, capture: str | None = None) -> None:
        self._registry, self._capture = registry, capture
        self._plans: dict[type[models.Model], Plan | None] = {}
        self._tables: dict[type[models.Model], TableListeners] = {}
        self._watches: dict[type[models.Model], dict[tuple[type[models.Model], Hop], None]] = {}
        self._owners: dict[type[models.Model], dict[tuple[type[models.Model], ListField], None]] = {}
        bound: dict[type[models.Model], None] = {}
        for bindings in registry.by_model.values():
            for binding in bindings:
                spec, concrete = binding.spec(), concrete_model(binding.model_class())
                if not spec.outbound or capture not in (None, spec.capture):
                    continue
                bound[concrete] = None
                for hop in binding.resolved().also:
                    self._watches.setdefault(concrete_model(hop.model), {})[concrete, hop] = None
                for listed in binding.list_fields():
                    self._owners.setdefault(through_of(listed), {})[concrete, listed] = None
        self._bound = tuple(bound)

    def plan_for(self, model: type[models.Model]) -> Plan | None:
        """Return the plan of a model, or ``None`` if nothing is bound to it."""
        concrete = model._meta.concrete_model
        if concrete is None:
            return None
        try:
            return self._plans[concrete]
        except KeyError:
            plan = self._plans[concrete] = build_plan(self._registry, concrete, self._capture)
            return plan

    def of(self, table: type[models.Model]) -> TableListeners:
        """Return the listeners of a model's own table."""
        try:
            return self._tables[table]
        except KeyError:
            listeners = self._tables[table] = self._find(table)
            return listeners

    def _find(self, table: type[models.Model]) -> TableListeners:
        concrete = table._meta.concrete_model
        if concrete is None:
            return TableListeners()
        watches = (
            Watch(plan, hop)
            for model, found in self._watches.items()
            if issubclass(model, concrete)
            for bound, hop in found
            if (plan := self.plan_for(bound))
        )
        found = TableListeners(
            self.plan_for(concrete),
            tuple(
                Relative(plan, "pk" if model is concrete else concrete._meta.pk.name)
                for model in self._bound
                if issubclass(model, concrete) and (plan := self.plan_for(model))
            ),
            tuple(
                ListOwner(plan, listed)
                for model, listed in self._owners.get(table, ())
                if (plan := self.plan_for(model)) and listed in plan.m2m
            ),
            tuple(dict.fromkeys(watches)),
            tuple(plan for model in self._bound if _are_twins(model, concrete) and (plan := self.plan_for(model))),
        )
        twin = None if found.are_any else self._find_twin(concrete)
        return found if twin is None else self.of(twin)._replace(lists=())

    def _find_twin(self, model: type[models.Model]) -> type[models.Model] | None:
        """Return a model with listeners that shares its table and key with an unbound model.

        Historical models of migrations do not count, because their table may lack columns of the present model.
        """
        twin = self.tables.get(model._meta.db_table)
        return twin if twin is not None and _are_twins(twin._meta.concrete_model, model) else None

    @cached_property
    def tables(self) -> dict[str, type[models.Model]]:
        """Return the tables that have listeners: table name -> the model stored in it."""
        rows = [model for bound in self._bound for model in _table_models(bound)]
        related = [model for watched in self._watches for model in _table_models(watched)]
        return {model._meta.db_table: model for model in reversed((*rows, *self._owners, *related))}

    def models_of(self, table: str) -> tuple[type[models.Model], ...]:
        """Return the models with listeners that are stored in a table. Several models may share a table."""
        first = self.tables.get(table)
        if first is None:
            return ()
        return (first, *(model for model in self._bound if _are_twins(model, first._meta.concrete_model)))

    @cached_property
    def bound_tables(self) -> frozenset[str]:
        """Return the names of the tables that hold bound rows and their lists."""
        rows = [model for bound in self._bound for model in _table_models(bound)]
        return frozenset(model._meta.db_table for model in (*rows, *self._owners))


def _are_twins(one: type[models.Model] | None, other: type[models.Model] | None) -> bool:
    """Return whether two models of the project share a table and its key, so that a key means the same row in both."""
    if one is other or one is None or other is None or one._meta.db_table != other._meta.db_table:
        return False
    return bool(one._meta.apps is other._meta.apps is apps and one._meta.pk.column == other._meta.pk.column)


def _table_models(model: type[models.Model]) -> list[type[models.Model]]:
    return [model, *model._meta.all_parents]


class _BoundModels(dict[type[models.Model], bool]):
    """A cache of whether a write to a model's tables concerns any binding."""

    def __init__(self, find_out: Callable[[type[models.Model]], bool]) -> None:
        self._find_out = find_out

    def __missing__(self, model: type[models.Model]) -> bool:
        is_bound = self[model] = self._find_out(model)
        return is_bound


class Index:
    """Lookups for one registry: plans and listeners, built when they are needed.

    Attributes:
        all: The listeners of all bindings.
        marked: The listeners of bindings with ``"capture": "triggers"``.
        unmarked: The listeners of all other bindings.
        bound: Whether a write of a model concerns any binding. Most models are unbound; their writes return after
            one dict lookup.
        is_trial: Whether the registry is only tried out. Its writes are rolled back, and no trigger reports them.
    """

    def __init__(self, registry: BindingRegistry, is_trial: bool = False) -> None:
        self.registry, self.is_trial = registry, is_trial
        self.all = Listeners(registry)
        self.marked = Listeners(registry, "triggers")
        self.unmarked = Listeners(registry, "orm")
        self.bound = _BoundModels(self._is_bound)

    def plan_for(self, model: type[models.Model]) -> Plan | None:
        """Return the plan of a model, or ``None`` if nothing outbound is bound to it."""
        return self.all.plan_for(model)

    def _is_bound(self, model: type[models.Model]) -> bool:
        options = model._meta
        # The label is compared as well, because ``is_logged`` is called with historical models, which only share the
        # label.
        return (
            model in bulk_observers
            or options.label_lower in self.registry.by_model
            or any(
                self.all.of(table).are_any or table._meta.db_table in self.all.bound_tables
                for table in (model, options.concrete_model or model, *options.all_parents)
            )
        )


_latest: Index | None = None
_tried: ContextVar[Index | None] = ContextVar("declbind_tried_index", default=None)


def current_index() -> Index:
    """Return the index of the registry in force.

    A write calls this once, so that one configuration applies to the whole write.
    """
    global _latest
    registry, index = get_registry(), _latest
    if index is None or index.registry is not registry:
        tried = _tried.get()
        if tried is not None and tried.registry is registry:
            return tried
        index = _latest = Index(registry)
    return index


def known_index() -> Index | None:
    """Return the index of the registry in force if that takes no query, otherwise ``None``.

    Writes of unbound models use it to return early, after one lookup in ``bound``.
    """
    index = _latest
    return index if index is not None and is_settled(index.registry) else None


@contextlib.contextmanager
def trying(registry: BindingRegistry) -> Iterator[Index]:
    """Use ``registry`` for the writes of this thread inside the block (see ``registry.trying``)."""
    index = Index(registry, is_trial=True)
    token = _tried.set(index)
    try:
        with registries.trying(registry):
            yield index
    finally:
        _tried.reset(token)


def plan_for(model: type[models.Model]) -> Plan | None:
    """Return the plan of a model under the registry in force, or ``None`` if nothing outbound is bound to the model."""
    return current_index().plan_for(model)
