"""Plans: what capture needs to know to report a write to one model, computed once per registry and model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import models

from declbind.bindings import Binding
from declbind.code_digest import digest_code
from declbind.django_types import Column, ListField
from declbind.fields import stored_field
from declbind.registry import BindingRegistry
from declbind.relations import Hop
from declbind.stored_values import column_of


@dataclass(frozen=True)
class Outlet:
    """The properties of one binding that capture needs, looked up once instead of at each write."""

    binding: type[Binding]
    stream: str
    label: str
    #: Whether code of the project runs in capture, which may query, fail, or return anything.
    runs_code: bool
    own_payload: bool
    #: Whether code of the project determines the groups of a row, which may then depend on other rows.
    has_group_code: bool
    #: The many-to-many fields that are sent.
    lists: tuple[ListField, ...]
    #: The groups, if they are the same for each row.
    constant_groups: tuple[str, ...] | None


@dataclass(frozen=True)
class Plan:
    """The properties of one model that capture needs, built once per registry and model."""

    model: type[models.Model]
    #: The version of the configuration that the plan was built for.
    version: int
    #: The digest of the code of this process, which its events carry.
    code: str
    outlets: tuple[Outlet, ...]
    #: The columns that determine the groups, or ``None`` if project code computes them, which may read any column.
    group_fields: tuple[Column, ...] | None
    #: The columns of groups and data together.
    fields: tuple[Column, ...]
    m2m: tuple[ListField, ...]
    #: Whether a row is in one table, and the base manager neither hides rows nor adds columns.
    is_plain: bool
    #: Whether the base manager shows every row.
    shows_all: bool
    #: Statements and checks prepared for this plan, by columns and database.
    statements: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def needs_old(self) -> bool:
        """Return whether the stored row must be read before the write. It may leave a group or become hidden."""
        return self.group_fields is None or bool(self.group_fields) or not self.shows_all

    def outlets_of(self, field: Column) -> tuple[Outlet, ...]:
        """Return the outlets that send a field."""
        return tuple(outlet for outlet in self.outlets if field in outlet.binding.bound_fields())

    def outlets_watching(self, hop: Hop) -> tuple[Outlet, ...]:
        """Return the outlets whose rows are sent again when the row that the relation ``hop`` leads to is written."""
        return tuple(outlet for outlet in self.outlets if hop in outlet.binding.resolved().also)


def build_plan(registry: BindingRegistry, model: type[models.Model], capture: str | None = None) -> Plan | None:
    """Return the plan of a concrete model, or ``None`` if nothing outbound is bound to it.

    With ``capture``, only bindings with that capture mode count.
    """
    # A class that only shares the label is not the bound model; migrations make such classes.
    bindings = tuple(
        binding
        for binding in registry.by_model.get(model._meta.label_lower, ())
        if binding.spec().outbound and binding.model_class()._meta.concrete_model is model
        if capture in (None, binding.spec().capture)
    )
    if not bindings:
        return None
    group_fields: dict[Column, None] | None = {}
    data_fields: dict[Column, None] = {}
    for binding in bindings:
        resolved = binding.resolved()
        names = {name for template in resolved.spec.group_templates for name in template.placeholders}
        names |= set(resolved.where)
        columns = [stored_field(resolved.model, name) for name in sorted(names)]
        if binding.runs_code():
            group_fields = None
            columns = list(model._meta.concrete_fields)
        elif group_fields is not None:
            group_fields.update(dict.fromkeys(columns))
        data_fields.update(dict.fromkeys(columns))
        data_fields.update(
            dict.fromkeys(column_of(bound) for bound in resolved.bound if bound.concrete and not bound.many_to_many)
        )
    m2m = dict.fromkeys(listed for binding in bindings for listed in binding.list_fields())
    return Plan(
        model=model,
        version=registry.version,
        code=digest_code(registry),
        outlets=tuple(map(_build_outlet, bindings)),
        group_fields=None if group_fields is None else tuple(group_fields),
        fields=tuple(data_fields),
        m2m=tuple(m2m),
        is_plain=_is_plain(model),
        shows_all=_shows_all(model),
    )


def _build_outlet(binding: type[Binding]) -> Outlet:
    resolved = binding.resolved()
    templates = resolved.spec.group_templates
    is_constant = not (resolved.runs_code or resolved.where) and all(template.is_constant for template in templates)
    return Outlet(
        binding=binding,
        stream=str(binding.stream),
        label=binding.model_label(),
        runs_code=resolved.runs_code,
        own_payload=resolved.own_payload,
        has_group_code=binding.overrides("group_names"),
        lists=binding.list_fields(),
        constant_groups=tuple(template.render({}) or "" for template in templates) if is_constant else None,
    )


def _is_plain(model: type[models.Model]) -> bool:
    own_select = models.Field.select_format
    return (
        not model._meta.parents
        and _shows_all(model)
        and all(type(column).select_format is own_select for column in model._meta.concrete_fields)
    )


def _shows_all(model: type[models.Model]) -> bool:
    return type(model._base_manager) is models.Manager
