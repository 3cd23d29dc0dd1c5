"""Plan: what capture must know to tell of a write to one model, worked out once per registry and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from django.db import models

from declbind.bindings import Binding
from declbind.fields import concrete_field
from declbind.registry import BindingRegistry, get_registry


@dataclass(frozen=True)
class Plan:
    """What capture must know to tell of a write to one model: made once per registry and model."""

    model: type[models.Model]
    bindings: tuple[type[Binding], ...]
    #: Columns that decide the groups; ``None`` when a binding's code does, which may read any.
    group_fields: tuple[Any, ...] | None
    #: Columns of groups and data together.
    fields: tuple[Any, ...]
    m2m: tuple[Any, ...]
    #: Whether the columns of a row are in one table, shown by a manager that hides and adds nothing.
    is_plain: bool
    #: Statements worked out for this plan, by columns and database.
    statements: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def needs_old(self) -> bool:
        """Tell whether the stored row must be read before the write."""
        return self.group_fields is None or bool(self.group_fields)


@dataclass(frozen=True)
class _Index:
    """What was worked out for one registry: plans as they are needed, and the bound lists by their through models."""

    plans: dict[type[models.Model], Plan | None]
    lists: Mapping[type[models.Model], tuple[tuple[type[models.Model], Any], ...]]


_indexes: WeakKeyDictionary[BindingRegistry, _Index] = WeakKeyDictionary()


def _index_of(registry: BindingRegistry) -> _Index:
    index = _indexes.get(registry)
    if index is None:
        lists: dict[Any, dict[Any, None]] = {}
        for bindings in registry.by_model.values():
            for binding in bindings:
                for bound in binding.bound_fields():
                    if bound.many_to_many:
                        owner = (binding.model_class()._meta.concrete_model, bound)
                        lists.setdefault(bound.remote_field.through, {})[owner] = None
        index = _indexes[registry] = _Index({}, {through: tuple(owners) for through, owners in lists.items()})
    return index


def plan_for(model: type[models.Model]) -> Plan | None:
    """Return the plan of a model, or ``None`` for one that nothing outbound is bound to."""
    registry = get_registry()
    concrete = model._meta.concrete_model
    if concrete is None:
        return None
    plans = _index_of(registry).plans
    if concrete not in plans:
        plans[concrete] = _build_plan(registry, concrete)
    return plans[concrete]


def lists_through(through: type[models.Model]) -> list[tuple[Plan, Any]]:
    """Return the bound many-to-many fields that a through model holds, each with the plan of the rows that have it."""
    owners = _index_of(get_registry()).lists.get(through, ())
    return [(plan, listed) for model, listed in owners if (plan := plan_for(model)) and listed in plan.m2m]


def _build_plan(registry: BindingRegistry, model: type[models.Model]) -> Plan | None:
    # A class that only shares the label is not the bound model: migrations make such classes.
    bindings = tuple(
        binding
        for binding in registry.by_model.get(model._meta.label_lower, ())
        if binding.spec().outbound and binding.model_class()._meta.concrete_model is model
    )
    if not bindings:
        return None
    group_fields: dict[Any, None] | None = {}
    data_fields: dict[Any, None] = {}
    for binding in bindings:
        resolved = binding.resolved()
        names = {name for template in resolved.spec.group_templates for name in template.placeholders}
        names |= set(resolved.where)
        columns = [concrete_field(resolved.model, name) for name in sorted(names)]
        if binding.runs_code():
            group_fields = None
            columns = list(model._meta.concrete_fields)
        elif group_fields is not None:
            group_fields.update(dict.fromkeys(columns))
        data_fields.update(dict.fromkeys(columns))
        data_fields.update(
            dict.fromkeys(bound for bound in resolved.bound if bound.concrete and not bound.many_to_many)
        )
    m2m = dict.fromkeys(bound for binding in bindings for bound in binding.bound_fields() if bound.many_to_many)
    return Plan(
        model=model,
        bindings=bindings,
        group_fields=None if group_fields is None else tuple(group_fields),
        fields=tuple(data_fields),
        m2m=tuple(m2m),
        is_plain=_is_plain(model),
    )


def _is_plain(model: type[models.Model]) -> bool:
    own_select = models.Field.select_format
    return (
        not model._meta.parents
        and type(model._base_manager) is models.Manager
        and all(type(column).select_format is own_select for column in model._meta.concrete_fields)
    )
