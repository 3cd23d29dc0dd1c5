"""Binding classes resolved against the loaded models: their model, fields and templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from django.db import models

from declbind import value_validation
from declbind.binding_keys import BindingKeys
from declbind.core.frames import encode
from declbind.core.groups import GroupTemplate
from declbind.core.spec import BindingSpec
from declbind.django_types import Column, ListField, concrete_model
from declbind.fields import bound_fields, concrete_field, find_model, held_fields, stored_field, writable_fields
from declbind.relations import Hop, find_hops
from declbind.serializers.guard import Guard
from declbind.stored_values import comparable, group_text, holds_documents, is_compared_apart

#: Each group template with its placeholders and the attributes that fill them. A constant template has none.
Templates = tuple[tuple[GroupTemplate, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, eq=False)
class Resolved:
    """A binding class resolved against the loaded models; made at first use, once per class."""

    spec: BindingSpec
    model: type[models.Model]
    bound: tuple[Column, ...]
    #: The names of the fields that are not sent until an operator has accepted them.
    held: tuple[str, ...]
    writable: tuple[Column, ...]
    where: Mapping[str, tuple[object, ...]]
    #: The conditions of ``where`` by attribute name, in the form in which they are compared in memory.
    where_values: Mapping[str, tuple[object, ...]]
    #: Attribute names of columns in group templates and ``where`` that the database compares differently from Python.
    compared_apart: Mapping[str, Column]
    templates: Templates
    #: How to find the rows of this binding from related rows that ``also`` names.
    also: tuple[Hop, ...]
    #: Whether capture runs project code for this binding. Such code may query, fail, or read any field.
    runs_code: bool
    #: Whether the binding makes its whole payload itself.
    own_payload: bool
    #: The check for secrets in payloads that project code makes. ``None`` if only fields are sent.
    guard: Guard | None

    def group_values(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return ``values`` of a stored row, by column name, in the form that group templates take."""
        if not self.compared_apart:
            return dict(values)
        fields = {name: stored_field(self.model, name) for name in values}
        return {
            name: group_text(fields[name], value) if fields[name].attname in self.compared_apart else value
            for name, value in values.items()
        }


def resolve(spec: BindingSpec, *, sends_members: bool, own_methods: frozenset[str]) -> Resolved:
    """Resolve a spec. ``own_methods`` are those of Binding's outbound methods that the class replaces.

    Raises:
        LookupError: The model or one of the fields does not exist.
        ValueError: A value of ``where`` does not fit its column.
    """
    model = find_model(spec.model)
    if model is None:
        raise LookupError(f"There is no model {spec.model!r}.")
    where = {
        name: value_validation.accepted_values(concrete_field(model, name), value) for name, value in spec.where.items()
    }
    placeholders = [name for template in spec.group_templates for name in template.placeholders]
    columns = [stored_field(model, name) for name in (*where, *placeholders)]
    bound = bound_fields(model, spec)
    has_own_data = sends_members or spec.serializer != "default" or not own_methods.isdisjoint(_PAYLOAD_METHODS)
    return Resolved(
        spec=spec,
        model=model,
        bound=tuple(bound),
        held=tuple(field.name for field in held_fields(model, spec)) if spec.known is not None else (),
        writable=tuple(writable_fields(model, spec)),
        where=where,
        where_values={
            (field := stored_field(model, name)).attname: tuple(comparable(field, value) for value in values)
            for name, values in where.items()
        },
        compared_apart={field.attname: field for field in columns if is_compared_apart(field)},
        templates=tuple(
            (template, tuple((name, stored_field(model, name).attname) for name in template.placeholders))
            for template in spec.group_templates
        ),
        also=tuple(dict.fromkeys(hop for path in spec.also for hop in find_hops(model, path))),
        runs_code=has_own_data or "group_names" in own_methods,
        own_payload="serialize" in own_methods,
        guard=_make_guard(spec, bound) if has_own_data else None,
    )


_PAYLOAD_METHODS = frozenset({"serialize_data", "serialize"})


def _make_guard(spec: BindingSpec, bound: Sequence[Column]) -> Guard:
    documents = [field.name for field in bound if holds_documents(field)]
    return Guard(spec.sensitive, [field.name for field in bound], documents)


class ResolvedBinding(BindingKeys):
    """A class of the keys of a record that knows the model and the fields that they name."""

    #: Names of properties and methods of the row (without arguments) that are sent along with the fields.
    send_members: ClassVar[Sequence[str]] = ()

    @classmethod
    def resolved(cls) -> Resolved:
        """Return the model, fields and templates of this class, resolved once and kept.

        Raises:
            ConfigError: The record is not valid.
            LookupError: The model or one of the fields does not exist.
        """
        own: Resolved | None = cls.__dict__.get("_resolved")
        if own is None:
            replaced = frozenset(name for name in ("group_names", "serialize_data", "serialize") if cls.overrides(name))
            own = resolve(cls.spec(), sends_members=bool(cls.send_members), own_methods=replaced)
            cls._resolved = own  # type: ignore[attr-defined]
        return own

    @classmethod
    def model_class(cls) -> type[models.Model]:
        """Return the bound model."""
        return cls.resolved().model

    @classmethod
    def model_label(cls) -> str:
        """Return the label that frames carry: the binding's own model, lower case."""
        return cls.model_class()._meta.label_lower

    @classmethod
    def concrete_label(cls) -> str:
        """Return the label of the concrete model, which proxies share."""
        return concrete_model(cls.model_class())._meta.label_lower

    @classmethod
    def bound_fields(cls) -> tuple[Column, ...]:
        """Return the fields that are sent."""
        return cls.resolved().bound

    @classmethod
    def list_fields(cls) -> tuple[ListField, ...]:
        """Return the many-to-many fields that are sent."""
        return tuple(field for field in cls.resolved().bound if isinstance(field, models.ManyToManyField))

    @classmethod
    def writable_fields(cls) -> tuple[Column, ...]:
        """Return the fields that clients may write, in create and update alike."""
        return cls.resolved().writable

    @classmethod
    def held_names(cls) -> list[str]:
        """Return the names of fields that were added to the model later and have not been accepted yet."""
        return list(cls.resolved().held)

    @classmethod
    def fingerprint(cls) -> str:
        """Return a text that changes when the meaning of the binding changes."""
        held = cls.held_names()
        waiting = f" without {', '.join(held)}" if held else ""
        return f"{cls.__module__}.{cls.__qualname__} {encode(cls.spec().to_dict())}{waiting}"

    @classmethod
    def overrides(cls, *names: str) -> bool:
        """Return whether a subclass has replaced any of the methods in ``names``."""
        return any(_function(getattr(cls, name)) is not _original(cls, name) for name in names)

    @classmethod
    def runs_code(cls) -> bool:
        """Return whether capture runs project code for this binding. Such code may query, fail, or read any field."""
        return cls.resolved().runs_code


#: declbind's own methods of bindings by name, as far as they were asked for.
_originals: dict[str, object] = {}


def _original(cls: type[ResolvedBinding], name: str) -> object:
    """Return declbind's own method, which is the one of the least derived binding class that has it."""
    if name not in _originals:
        owner = next(base for base in reversed(cls.__mro__) if name in vars(base) and issubclass(base, BindingKeys))
        _originals[name] = _function(vars(owner)[name])
    return _originals[name]


def _function(method: object) -> object:
    return getattr(method, "__func__", method)
