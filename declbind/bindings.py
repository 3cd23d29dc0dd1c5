"""Binding: what ties a model to clients. Records are built into subclasses of it; a project may write its own.

``Binding`` knows rows, groups, rights and writes, and no protocol; ``WebsocketBinding`` is the subclass that the
WebSocket consumers serve. Every key of a binding record is a class attribute of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, connections, models, router

from declbind import signals, validation
from declbind.core import course
from declbind.core.errors import ClientError, ConfigError
from declbind.core.frames import encode
from declbind.core.groups import GroupTemplate, match_template
from declbind.core.spec import AUDIENCES, DEFAULTS, KEYS, STAFF, BindingSpec
from declbind.equality import only_among, only_equal
from declbind.fields import bound_fields, concrete_field, find_model, held_fields, stored_field, writable_fields
from declbind.relations import Hop, find_hops
from declbind.serializers import get_serializer
from declbind.serializers.exact import exact_key, keep_exact
from declbind.serializers.guard import Guard
from declbind.stored_rows import AnyRow, model_of, value_of
from declbind.stored_values import as_stored, comparable, group_text, holds_documents, is_compared_apart

#: What Django calls the permission behind each action.
DJANGO_ACTIONS = {"view": "view", "create": "add", "update": "change", "delete": "delete"}


@dataclass(frozen=True, eq=False)
class Resolved:
    """What a binding class comes to once models are loaded; made at first use, once per class."""

    spec: BindingSpec
    model: type[models.Model]
    bound: tuple[Any, ...]
    #: The names of the fields that are not sent before somebody has accepted them.
    held: tuple[str, ...]
    writable: tuple[Any, ...]
    where: Mapping[str, tuple[Any, ...]]
    #: The same by the names of the columns' attributes, in the form in which they are compared in memory.
    where_values: Mapping[str, tuple[Any, ...]]
    #: Columns of group templates and ``where`` that do not compare as Python does, by the names of their attributes.
    compared_apart: Mapping[str, Any]
    #: Each group template with its placeholders and the attributes that fill them; a constant one with none.
    templates: tuple[tuple[GroupTemplate, tuple[tuple[str, str], ...]], ...]
    #: How rows are found from those that ``also`` names.
    also: tuple[Hop, ...]
    #: Whether capture runs code of the project for this binding, which may query, fail, or read any field.
    runs_code: bool
    #: Whether the binding words its whole payload.
    own_payload: bool
    #: What judges the payloads that code of the project makes; None where only fields are sent.
    guard: Guard | None


class Binding:
    """Tie a model to clients. A class without ``model`` or without ``stream`` is abstract.

    One instance serves one request or one captured write; ``user`` is who asks, ``None`` while a write is captured.
    Outbound methods (``group_names``, ``serialize_data``, ``serialize``) may be called in any process that writes.
    """

    model: ClassVar[Any] = None
    stream: ClassVar[str | None] = None
    fields: ClassVar[Any] = None
    exclude: ClassVar[Any] = None
    groups: ClassVar[Sequence[str]] = ()
    permissions: ClassVar[Any] = {}
    direction: ClassVar[str] = "both"
    writable: ClassVar[Sequence[str] | None] = None
    where: ClassVar[Mapping[str, Any]] = {}
    scope: ClassVar[Mapping[str, str]] = {}
    relate: ClassVar[Mapping[str, Any]] = {}
    grow: ClassVar[bool] = False
    auto_subscribe: ClassVar[bool] = False
    sensitive: ClassVar[Sequence[str]] = ()
    serializer: ClassVar[str] = "default"
    capture: ClassVar[str] = "orm"
    also: ClassVar[Sequence[str]] = ()
    retention: ClassVar[int | None] = None
    enabled: ClassVar[bool] = True
    description: ClassVar[str] = ""
    #: The fields that ``"__all__"`` and ``exclude`` may send; set by the registry (see ``BindingSpec.known``).
    known: ClassVar[frozenset[str] | None] = None
    #: Names of properties and methods of the row (without arguments) that are sent along with the fields.
    send_members: ClassVar[Sequence[str]] = ()

    #: What the last payload of this instance lacks because it looks like a secret: the places of the keys.
    withheld: tuple[str, ...] = ()

    def __init__(self, user: Any = None, using: str | None = None) -> None:
        self.user = user
        self.using = using

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Announce the class: a module that is imported after the start may define bindings too."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            signals.binding_defined.send(sender=cls)

    # --- what the class is -------------------------------------------------------------------------------------------

    @classmethod
    def is_concrete(cls) -> bool:
        """Tell whether the class names a model and a stream."""
        return cls.model is not None and cls.stream is not None

    @classmethod
    def spec(cls) -> BindingSpec:
        """Return the class as a record; raises ``ConfigError`` for one with neither ``fields`` nor ``exclude``."""
        document: dict[str, Any] = {
            key: list(value) if isinstance(value := getattr(cls, key), tuple) else value
            for key in KEYS
            if key not in ("model", "stream") and getattr(cls, key) != DEFAULTS[key]
        }
        if cls.fields is None and cls.exclude is None:
            raise ConfigError(f"{cls.__module__}.{cls.__qualname__}: expected 'fields' or 'exclude', got neither.")
        return BindingSpec(stream=cls.stream or "", model=cls.model_name(), known=cls.known, **document)

    @classmethod
    def model_name(cls) -> str:
        """Return the bound model as ``app_label.ModelName``."""
        return cls.model if isinstance(cls.model, str) else str(cls.model._meta.label)

    @classmethod
    def resolved(cls) -> Resolved:
        """Return model, fields and templates; raises ``ConfigError`` or ``LookupError`` where they do not exist."""
        own: Resolved | None = cls.__dict__.get("_resolved")
        if own is None:
            spec = cls.spec()
            model = find_model(spec.model)
            if model is None:
                raise LookupError(f"There is no model {spec.model!r}.")
            where = {
                name: validation.accepted_values(concrete_field(model, name), value)
                for name, value in spec.where.items()
            }
            columns = [stored_field(model, name) for name in where]
            columns += [
                stored_field(model, name) for template in spec.group_templates for name in template.placeholders
            ]
            own = Resolved(
                spec=spec,
                model=model,
                bound=tuple(bound_fields(model, spec)),
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
                runs_code=bool(cls.send_members)
                or cls.serializer != "default"
                or cls.overrides("group_names", "serialize_data", "serialize"),
                own_payload=cls.overrides("serialize"),
                guard=_make_guard(cls, model, spec),
            )
            cls._resolved = own  # type: ignore[attr-defined]
        return own

    @classmethod
    def model_class(cls) -> type[models.Model]:
        """Return the bound model."""
        return cls.resolved().model

    @classmethod
    def model_label(cls) -> str:
        """Return the label that frames carry: the binding's own model, lower case."""
        return str(cls.model_class()._meta.label_lower)

    @classmethod
    def concrete_label(cls) -> str:
        """Return the label of the concrete model, which proxies share."""
        concrete: Any = cls.model_class()._meta.concrete_model
        return str(concrete._meta.label_lower)

    @classmethod
    def bound_fields(cls) -> tuple[Any, ...]:
        """Return the fields that are sent."""
        return cls.resolved().bound

    @classmethod
    def writable_fields(cls) -> tuple[Any, ...]:
        """Return the fields that clients may write, in create and update alike."""
        return cls.resolved().writable

    @classmethod
    def held_names(cls) -> list[str]:
        """Return the names of the fields that the model got later and that nobody has accepted yet."""
        return list(cls.resolved().held)

    @classmethod
    def fingerprint(cls) -> str:
        """Return a text that changes when the binding means something else."""
        held = cls.held_names()
        waiting = f" without {', '.join(held)}" if held else ""
        return f"{cls.__module__}.{cls.__qualname__} {encode(cls.spec().to_dict())}{waiting}"

    @classmethod
    def overrides(cls, *names: str) -> bool:
        """Tell whether a subclass replaced any of these methods by code of its own."""
        return any(getattr(getattr(cls, name), "__func__", getattr(cls, name)) is not _original(name) for name in names)

    @classmethod
    def runs_code(cls) -> bool:
        """Tell whether capture runs code of the project for this binding, which may query, fail, or read any field."""
        return cls.resolved().runs_code

    # --- rows --------------------------------------------------------------------------------------------------------

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the rows that exist for this binding: the base manager's, inside ``where``."""
        model = self.model_class()
        rows = model._base_manager.using(self.using or router.db_for_read(model))
        return only_among(rows, self.resolved().where)

    def scoped(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Narrow rows to those the user owns by ``scope``; none for a user without the value."""
        values = self.scope_values()
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def relatable(self, field: Any, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Narrow the rows of a related model to those that the user may write into a relation, by ``relate``."""
        rule = self.resolved().spec.relate.get(field.name, "any")
        if isinstance(rule, str):
            return rows
        values = {name: self._user_value(source) for name, source in rule.items()}
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def scope_values(self) -> dict[str, Any]:
        """Return ``{field: the user's value}``; the value is ``None`` for an anonymous user."""
        return {name: self._user_value(source) for name, source in self.resolved().spec.scope.items()}

    def _user_value(self, source: str) -> Any:
        name = source.removeprefix("$user.")
        if self.user is None or not self.user.is_authenticated:
            return None
        return self.user.pk if name == "pk" else getattr(self.user, name)

    def is_inside(self, instance: AnyRow) -> bool:
        """Return whether a stored row is inside ``where``."""
        resolved = self.resolved()
        if not resolved.compared_apart:
            wanted = resolved.where_values
            return not wanted or all(value_of(instance, attname) in values for attname, values in wanted.items())
        return not self.outside_where(instance)

    def outside_where(self, instance: AnyRow) -> list[str]:
        """Return the keys of ``where`` that a stored row does not meet."""
        resolved = self.resolved()
        outside = []
        for name, (attname, values) in zip(resolved.where, resolved.where_values.items(), strict=True):
            value = value_of(instance, attname)
            if attname in resolved.compared_apart:
                value = comparable(resolved.compared_apart[attname], value)
            if value not in values:
                outside.append(name)
        return outside

    # --- outbound ----------------------------------------------------------------------------------------------------

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        """Return the groups that hear of a row: its templates rendered; a template with a null value gives none."""
        names, resolved = [], cls.resolved()
        apart = resolved.compared_apart
        for template, placeholders in resolved.templates:
            values = {name: value_of(instance, attname) for name, attname in placeholders}
            if apart:
                for name, attname in placeholders:
                    if attname in apart:
                        values[name] = group_text(apart[attname], values[name])
            group = template.render(values)
            if group is not None:
                names.append(group)
        return names

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        """Return the ``data`` of a frame for a stored row."""
        data = dict(get_serializer(self.serializer)(instance, self))
        if self.serializer != "default":
            documents = {field.name for field in self.bound_fields() if holds_documents(field)}
            data = {name: value if name in documents else keep_exact(value) for name, value in data.items()}
        for name in self.send_members:
            member = getattr(instance, name)
            data[name] = keep_exact(member() if callable(member) else member)
        return data

    def outgoing_data(self, instance: Any) -> Mapping[str, Any]:
        """Return ``serialize_data`` without what looks like a secret and is not in ``sensitive``; see ``withheld``."""
        data, guard = self.serialize_data(instance), self.resolved().guard
        if guard is None:
            return data
        cleaned, self.withheld = guard.clean(data)
        return cleaned

    def outgoing_payload(self, instance: Any, action: str) -> Mapping[str, Any]:
        """Return ``serialize`` without the same."""
        payload, guard = self.serialize(instance, action), self.resolved().guard
        if guard is None or not payload:
            return payload
        cleaned, self.withheld = guard.clean_payload(payload)
        return cleaned

    def serialize(self, instance: Any, action: str) -> dict[str, Any]:
        """Return the whole payload; an empty one sends nothing."""
        return {
            "action": action,
            "pk": exact_key(instance.pk, model_of(instance)._meta.pk),
            "data": self.serialize_data(instance),
            "model": self.model_label(),
        }

    # --- rights ------------------------------------------------------------------------------------------------------

    def rule(self, action: str) -> str | bool:
        """Return who may: a codename, "authenticated", "staff", True or False; without a rule Django's own codename."""
        spec = self.resolved().spec
        rule: str | bool | None = spec.permissions.get(action)
        if rule is None:
            options = self.model_class()._meta
            return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}"
        return rule

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Tell whether a user may create, update or delete (``pk`` is ``None`` for create).

        Asks for the codename as such and, with a row, for the codename on that row: backends that know rows answer the
        second, Django's own only the first.
        """
        rule = self.rule(action)
        if isinstance(rule, bool) or rule in AUDIENCES:
            return is_in_audience(user, rule)
        if _has_codename(user, rule):
            return True
        if pk is None or not user.is_authenticated:
            return False
        rows = self.scoped(self.get_queryset())
        if connections[rows.db].in_atomic_block:
            # What the right was given for must not change before the write.
            rows = rows.select_related(None).select_for_update()
        try:
            instance = rows.filter(pk=validation.coerce(self.model_class()._meta.pk, pk)).first()
        except ValueError:
            return False
        return instance is not None and _has_codename(user, rule, instance)

    def has_view_permission(self, user: Any, params: Mapping[str, Any]) -> bool:
        """Tell whether a user may subscribe with these params. Asked at subscribe, snapshot and resume."""
        rule = self.rule("view")
        if isinstance(rule, bool) or rule in AUDIENCES:
            return is_in_audience(user, rule)
        return _has_codename(user, rule)

    def subscription_group(self, user: Any, params: Mapping[str, Any]) -> str | None:
        """Return the group that params stand for; ``None`` where groups are code of their own.

        Raises ``ClientError`` for params that no template takes.
        """
        if self.overrides("group_names"):
            return None
        template = match_template(self.resolved().spec.group_templates, params)
        model = self.model_class()
        # Only to know how the database's values are read; no query is made.
        using = self.using or DEFAULT_DB_ALIAS
        values = {
            name: as_stored(stored_field(model, name), value, using)
            for name, value in self.param_values(params).items()
        }
        return template.render(self.group_values(values))

    @classmethod
    def group_values(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of a stored row, by the names of columns, as group templates take them."""
        resolved = cls.resolved()
        if not resolved.compared_apart:
            return dict(values)
        fields = {name: stored_field(resolved.model, name) for name in values}
        return {
            name: group_text(fields[name], value) if fields[name].attname in resolved.compared_apart else value
            for name, value in values.items()
        }

    def param_values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return params as the fields' Python values, so that "03" and 3 are one group; raises ``ClientError``."""
        values: dict[str, Any] = {}
        errors: dict[str, list[str]] = {}
        for name, value in params.items():
            try:
                values[name] = validation.coerce(concrete_field(self.model_class(), name), value)
            except ValueError as error:
                errors[name] = [f"{error}."]
            else:
                if values[name] is None:
                    errors[name] = ["Expected a value, got null: a row without one is in no group."]
        if errors:
            raise ClientError("invalid", f"Not valid: {', '.join(sorted(errors))}.", errors)
        return values

    # --- inbound -----------------------------------------------------------------------------------------------------

    def deserialize(self, content: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return action, pk and data of a request's payload."""
        return content.get("action"), content.get("pk"), content.get("data", {})

    def create(self, data: Mapping[str, Any]) -> Any:
        """Store a new row from whitelisted data and return it; raises ``ClientError`` ``invalid``."""
        model = self.model_class()
        owner = {concrete_field(model, name).attname: value for name, value in self.scope_values().items()}
        return validation.save_new(self, model(**owner), data)

    def update(self, pk: Any, data: Mapping[str, Any]) -> Any:
        """Store the sent fields of a row and return it; raises ``ClientError`` ``not_found`` or ``invalid``."""
        return validation.save_sent(self, self.get_object(pk), data)

    def delete(self, pk: Any) -> Any:
        """Delete a row; raises ``ClientError`` ``not_found``."""
        row = self.get_object(pk)
        course.enter("store", row)
        row.delete()

    def get_object(self, pk: Any) -> Any:
        """Return the row, locked until the transaction ends; one that is absent or not the user's is ``not_found``.

        Call it inside a transaction. ``pk`` is the client's JSON value, or the key that it stands for.
        """
        course.enter("row", pk)
        model: Any = self.model_class()
        # Joined rows are not ours to lock, and PostgreSQL cannot lock the outer side of a join.
        rows = self.scoped(self.get_queryset()).select_related(None).select_for_update()
        try:
            return rows.get(pk=validation.coerce(model._meta.pk, pk))
        except (model.DoesNotExist, ValueError):
            raise ClientError("not_found", f"There is no {model._meta.verbose_name} {pk!s:.60}.") from None

    def check_inside(self, instance: Any) -> None:
        """Refuse (``ClientError`` ``invalid``) a stored row that is outside of ``where`` or not the user's."""
        course.enter("inside", instance)
        spec = self.resolved().spec
        if not (spec.where or spec.scope):
            return
        if not self.scoped(self.get_queryset()).filter(pk=instance.pk).exists():
            raise self.outside_error()

    def outside_error(self) -> ClientError:
        """Return the answer to a write that would put a row outside of ``where`` or into another user's hands."""
        spec = self.resolved().spec
        model, bound = self.model_class(), {field.name for field in self.bound_fields()}
        names = {concrete_field(model, name).name for name in (*spec.where, *spec.scope)}
        text = "This value is outside of what this stream covers."
        return ClientError(
            "invalid",
            "The row would lie outside of what this stream covers.",
            {name: [text] for name in sorted(names & bound)},
        )


class _Consumer:
    """Stand for a binding in ``WebsocketDemultiplexer.consumers``: the class itself."""

    def __get__(self, instance: Any, owner: type[WebsocketBinding]) -> type[WebsocketBinding]:
        return owner


class WebsocketBinding(Binding):
    """Tie a model to WebSocket clients. ``consumer`` is what a demultiplexer takes."""

    consumer = _Consumer()


def build_binding(spec: BindingSpec) -> type[WebsocketBinding]:
    """Return a new subclass for a record; the class is named after the stream and registered nowhere."""
    attributes: dict[str, Any] = {key: getattr(spec, key) for key in KEYS} | {"known": spec.known}
    attributes["__module__"] = __name__
    attributes["__doc__"] = spec.description or f"The binding of stream {spec.stream!r}."
    attributes["spec"] = classmethod(lambda cls: spec)
    name = "".join(part.capitalize() for part in spec.stream.replace(".", "-").replace("_", "-").split("-"))
    return type(f"{name}Binding", (WebsocketBinding,), attributes)


def _make_guard(cls: type[Binding], model: type[models.Model], spec: BindingSpec) -> Guard | None:
    if not (cls.send_members or cls.serializer != "default" or cls.overrides("serialize_data", "serialize")):
        return None
    bound = bound_fields(model, spec)
    documents = [field.name for field in bound if holds_documents(field)]
    return Guard(spec.sensitive, [field.name for field in bound], documents)


def limit_binding(cls: type[Binding], known: frozenset[str] | None) -> type[Binding]:
    """Return a subclass that sends only these fields of ``"__all__"`` or ``exclude``; the class itself if it does."""
    if known is None or known == cls.known:
        return cls
    spec = replace(cls.spec(), known=known)
    model = find_model(spec.model)
    if model is not None and not held_fields(model, spec):
        return cls
    last: type[Binding] | None = cls.__dict__.get("_limited")
    if last is None or last.known != known:
        # In this module, so that nobody takes it for a class of the project.
        attributes = {"__module__": __name__, "__doc__": cls.__doc__, "__qualname__": cls.__qualname__, "known": known}
        last = type(cls.__name__, (cls,), attributes)
        cls._limited = last  # type: ignore[attr-defined]
    return last


@cache
def _original(name: str) -> Any:
    method = Binding.__dict__[name]
    return getattr(method, "__func__", method)


def is_in_audience(user: Any, rule: str | bool) -> bool:
    """Return whether a rule that is no codename lets a user: True, False, "authenticated" or "staff".

    The two words ask for an active user, as ``has_perm()`` does. A user model without ``is_active`` or ``is_staff`` has
    active users and no staff.
    """
    if isinstance(rule, bool):
        return rule
    if user is None or not user.is_authenticated or not getattr(user, "is_active", True):
        return False
    return rule != STAFF or bool(getattr(user, "is_staff", False))


def _has_codename(user: Any, codename: str, instance: Any = None) -> bool:
    # A user model without PermissionsMixin has no has_perm: nobody gave such a user any right.
    has_perm = getattr(user, "has_perm", None)
    return has_perm is not None and bool(has_perm(codename) if instance is None else has_perm(codename, instance))
