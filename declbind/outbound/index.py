"""Index: who hears of which table under one registry, and which registry a write follows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from django.db import models

from declbind import registry as registries
from declbind.registry import BindingRegistry, get_registry, is_settled
from declbind.relations import Hop

from .observers import bulk_observers
from .plans import Plan, build_plan


class _Heard(dict[type[models.Model], bool]):
    """Whether anybody hears of writes to a model's tables, found out at the first look."""

    def __init__(self, find_out: Callable[[type[models.Model]], bool]) -> None:
        self._find_out = find_out

    def __missing__(self, model: type[models.Model]) -> bool:
        heard = self[model] = self._find_out(model)
        return heard


class Index:
    """What was worked out for one registry: plans as they are needed, and the bound lists by their through models."""

    def __init__(self, registry: BindingRegistry) -> None:
        self.registry = registry
        self._plans: dict[type[models.Model], Plan | None] = {}
        self._marked: dict[type[models.Model], Plan] | None = None
        self._bound_tables: frozenset[str] | None = None
        self._tables: frozenset[str] | None = None
        #: Of most models nobody hears, and their writes end here: at one look into a dict, without a call.
        self.heard = _Heard(self._hears)
        self._families: dict[type[models.Model], tuple[tuple[Plan, str], ...]] = {}
        self._watches: dict[Any, list[tuple[type[models.Model], Hop]]] = {}
        owners: dict[Any, dict[Any, None]] = {}
        bound: dict[type[models.Model], None] = {}
        for bindings in registry.by_model.values():
            for binding in bindings:
                concrete: Any = binding.model_class()._meta.concrete_model
                bound[concrete] = None
                for hop in binding.resolved().also if binding.spec().outbound else ():
                    self._watches.setdefault(hop.model._meta.concrete_model, []).append((concrete, hop))
                for listed in binding.bound_fields():
                    if listed.many_to_many:
                        owners.setdefault(listed.remote_field.through, {})[concrete, listed] = None
        self._bound = tuple(bound)
        self._owners = {through: tuple(found) for through, found in owners.items()}

    def plan_for(self, model: type[models.Model]) -> Plan | None:
        """Return the plan of a model, or ``None`` for one that nothing outbound is bound to."""
        concrete = model._meta.concrete_model
        if concrete is None:
            return None
        try:
            return self._plans[concrete]
        except KeyError:
            plan = self._plans[concrete] = build_plan(self.registry, concrete)
            return plan

    def family_of(self, table: type[models.Model]) -> tuple[tuple[Plan, str], ...]:
        """Return who hears of a write to a model's own table: its plan, and those of its children, which inherit.

        Each is paired with the name of the field by which its rows are found from keys of the table.
        """
        concrete = table._meta.concrete_model
        if concrete is None:
            return ()
        try:
            return self._families[concrete]
        except KeyError:
            found = [
                (plan, "pk" if plan.model is concrete else concrete._meta.pk.name)
                for model in self._bound
                if issubclass(model, concrete) and (plan := self.plan_for(model))
            ]
            family = self._families[concrete] = tuple(found)
            return family

    def _hears(self, model: type[models.Model]) -> bool:
        """Tell whether a write to the model's own table, or to one that it inherits from, is anybody's concern."""
        options: Any = model._meta
        # By its label also for ``is_logged``, which speaks of classes that only share it.
        return (
            model in bulk_observers
            or options.label_lower in self.registry.by_model
            or any(
                self.plan_for(table)
                or self.family_of(table)
                or self.lists_through(table)
                or self.watches_of(table)
                or table._meta.db_table in self.bound_tables()
                for table in (model, options.concrete_model or model, *options.all_parents)
            )
        )

    def watches_of(self, table: type[models.Model]) -> list[tuple[Plan, Hop]]:
        """Return the plans whose rows are worth sending again when rows of a model's own table change, and how."""
        if not self._watches:
            return []
        concrete = table._meta.concrete_model
        return list(
            dict.fromkeys(
                (plan, hop)
                for model, watches in self._watches.items()
                if concrete is not None and issubclass(model, concrete)
                for bound, hop in watches
                if (plan := self.plan_for(bound))
            )
        )

    def marked_plans(self) -> list[Plan]:
        """Return the plans of those bindings that hear of database triggers."""
        if self._marked is None:
            plans = (build_plan(self.registry, model, is_marked=True) for model in self._bound)
            self._marked = {plan.model: plan for plan in plans if plan is not None}
        return list(self._marked.values())

    def marked_family_of(self, table: type[models.Model]) -> list[tuple[Plan, str]]:
        """Like ``family_of``, of those bindings that hear of database triggers."""
        plans = {plan.model: plan for plan in self.marked_plans()}
        return [(plans[plan.model], lookup) for plan, lookup in self.family_of(table) if plan.model in plans]

    def marked_lists_through(self, through: type[models.Model]) -> list[tuple[Plan, Any]]:
        """Like ``lists_through``, of those bindings that hear of database triggers."""
        plans = {plan.model: plan for plan in self.marked_plans()}
        lists = ((plans.get(plan.model), listed) for plan, listed in self.lists_through(through))
        return [(plan, listed) for plan, listed in lists if plan is not None and listed in plan.m2m]

    def marked_watches_of(self, table: type[models.Model]) -> list[tuple[Plan, Hop]]:
        """Like ``watches_of``, of those bindings that hear of database triggers."""
        plans = {plan.model: plan for plan in self.marked_plans()}
        hops = {hop for plan in plans.values() for outlet in plan.outlets for hop in outlet.binding.resolved().also}
        return [(plans[plan.model], hop) for plan, hop in self.watches_of(table) if plan.model in plans and hop in hops]

    def marked_relations(self) -> list[type[models.Model]]:
        """Return the models whose rows make others worth sending again, for bindings that hear of database triggers."""
        return [model for model in self._watches if self.marked_watches_of(model)]

    def bound_tables(self) -> frozenset[str]:
        """Return the names of the tables of which some binding hears: those of its rows and of its lists."""
        if self._bound_tables is None:
            plans = [plan for model in self._bound if (plan := self.plan_for(model))]
            found = {parent for plan in plans for parent in (plan.model, *plan.model._meta.all_parents)}
            found |= {listed.remote_field.through for plan in plans for listed in plan.m2m}
            self._bound_tables = frozenset(model._meta.db_table for model in found)
        return self._bound_tables

    def marked_tables(self) -> frozenset[str]:
        """Return the names of the tables that database triggers may watch."""
        if self._tables is None:
            found = {
                parent._meta.db_table
                for plan in self.marked_plans()
                for parent in (plan.model, *plan.model._meta.all_parents)
            }
            others = [
                *(listed.remote_field.through for plan in self.marked_plans() for listed in plan.m2m),
                *(parent for model in self.marked_relations() for parent in (model, *model._meta.all_parents)),
            ]
            self._tables = frozenset(found | {other._meta.db_table for other in others})
        return self._tables

    def lists_through(self, through: type[models.Model]) -> list[tuple[Plan, Any]]:
        """Return the bound many-to-many fields that a through model holds, each with the plan of the rows' owners."""
        owners = self._owners.get(through)
        if owners is None:
            return []
        return [(plan, listed) for model, listed in owners if (plan := self.plan_for(model)) and listed in plan.m2m]


_latest: Index | None = None
_tried: ContextVar[Index | None] = ContextVar("declbind_tried_index", default=None)


def current_index() -> Index:
    """Return the index of the registry in force. A write asks once, so that all of it follows one configuration."""
    global _latest
    registry, index = get_registry(), _latest
    if index is None or index.registry is not registry:
        tried = _tried.get()
        if tried is not None and tried.registry is registry:
            return tried
        index = _latest = Index(registry)
    return index


def known_index() -> Index | None:
    """Return the index of the registry in force, if that is known without asking the database.

    For writes of unbound models, which are to cost next to nothing: they end at ``heard`` of it.
    """
    index = _latest
    return index if index is not None and is_settled(index.registry) else None


@contextlib.contextmanager
def trying(registry: BindingRegistry) -> Iterator[Index]:
    """Let this thread's writes follow a registry inside the block, and nobody else's (see ``registry.trying``)."""
    index = Index(registry)
    token = _tried.set(index)
    try:
        with registries.trying(registry):
            yield index
    finally:
        _tried.reset(token)


def plan_for(model: type[models.Model]) -> Plan | None:
    """Return the plan of a model in force, or ``None`` for one that nothing outbound is bound to."""
    return current_index().plan_for(model)
