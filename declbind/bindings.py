"""Binding classes, which connect a model to clients.

The registry builds a subclass of them for each binding record. A project may write subclasses of its own.

``Binding`` covers rows, groups, permissions and writes, and knows no protocol. The WebSocket consumers serve its
subclass ``WebsocketBinding``. Every key of a binding record is a class attribute of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, connections, models, router

from declbind import row_validation, signals, value_validation
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

#: The first part of the codename that Django gives the permission for each action.
DJANGO_ACTIONS = {"view": "view", "create": "add", "update": "change", "delete": "delete"}


@dataclass(frozen=True, eq=False)
class Resolved:
    """A binding class resolved against the loaded models; made at first use, once per class."""

    spec: BindingSpec
    model: type[models.Model]
    bound: tuple[Any, ...]
    #: The names of the fields that are not sent until an operator has accepted them.
    held: tuple[str, ...]
    writable: tuple[Any, ...]
    where: Mapping[str, tuple[Any, ...]]
    #: The conditions of ``where`` by attribute name, in the form in which they are compared in memory.
    where_values: Mapping[str, tuple[Any, ...]]
    #: Attribute names of columns in group templates and ``where`` that the database compares differently from Python.
    compared_apart: Mapping[str, Any]
    #: Each group template with its placeholders and the attributes that fill them. A constant template has none.
    templates: tuple[tuple[GroupTemplate, tuple[tuple[str, str], ...]], ...]
    #: How to find the rows of this binding from related rows that ``also`` names.
    also: tuple[Hop, ...]
    #: Whether capture runs project code for this binding. Such code may query, fail, or read any field.
    runs_code: bool
    #: Whether the binding makes its whole payload itself.
    own_payload: bool
    #: The check for secrets in payloads that project code makes. ``None`` if only fields are sent.
    guard: Guard | None


class Binding:
    """The connection of a model to clients. A class without ``model`` or without ``stream`` is abstract.

    One instance serves one request or one captured write. ``user`` is the user of the request, or ``None`` while a
    write is captured. Any process that writes may call the outbound methods (``group_names``, ``serialize_data``,
    ``serialize``).
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

    #: The places of the keys that the last payload of this instance lacks because they look like secrets.
    withheld: tuple[str, ...] = ()

    def __init__(self, user: Any = None, using: str | None = None) -> None:
        self.user = user
        self.using = using

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Report the new class to the registry, because a module imported after the start may define bindings too."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            signals.binding_defined.send(sender=cls)

    # --- the class and its fields
    # -------------------------------------------------------------------------------------------

    @classmethod
    def is_concrete(cls) -> bool:
        """Return whether the class names a model and a stream."""
        return cls.model is not None and cls.stream is not None

    @classmethod
    def spec(cls) -> BindingSpec:
        """Return the class as a binding record.

        Raises:
            ConfigError: The class has neither ``fields`` nor ``exclude``, or breaks the schema.
        """
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
        """Return the model, fields and templates of this class, resolved once and kept.

        Raises:
            ConfigError: The record is not valid.
            LookupError: The model or one of the fields does not exist.
        """
        own: Resolved | None = cls.__dict__.get("_resolved")
        if own is None:
            spec = cls.spec()
            model = find_model(spec.model)
            if model is None:
                raise LookupError(f"There is no model {spec.model!r}.")
            where = {
                name: value_validation.accepted_values(concrete_field(model, name), value)
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
        return any(getattr(getattr(cls, name), "__func__", getattr(cls, name)) is not _original(name) for name in names)

    @classmethod
    def runs_code(cls) -> bool:
        """Return whether capture runs project code for this binding. Such code may query, fail, or read any field."""
        return cls.resolved().runs_code

    # --- rows --------------------------------------------------------------------------------------------------------

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the rows that exist for this binding: those of the base manager that meet ``where``."""
        model = self.model_class()
        rows = model._base_manager.using(self.using or router.db_for_read(model))
        return only_among(rows, self.resolved().where)

    def scoped(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Return the ``rows`` that belong to the user by ``scope``; none if the user lacks the value."""
        values = self.scope_values()
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def relatable(self, field: Any, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Return the ``rows`` of a related model that the user may write into the relation ``field``, by ``relate``."""
        rule = self.resolved().spec.relate.get(field.name, "any")
        if isinstance(rule, str):
            return rows
        values = {name: self._user_value(source) for name, source in rule.items()}
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def scope_values(self) -> dict[str, Any]:
        """Return ``{field: value of the user}``. The value is ``None`` for an anonymous user."""
        return {name: self._user_value(source) for name, source in self.resolved().spec.scope.items()}

    def _user_value(self, source: str) -> Any:
        name = source.removeprefix("$user.")
        if self.user is None or not self.user.is_authenticated:
            return None
        return self.user.pk if name == "pk" else getattr(self.user, name)

    def is_inside(self, instance: AnyRow) -> bool:
        """Return whether ``instance``, a stored row, meets ``where``."""
        resolved = self.resolved()
        if not resolved.compared_apart:
            wanted = resolved.where_values
            return not wanted or all(value_of(instance, attname) in values for attname, values in wanted.items())
        return not self.outside_where(instance)

    def outside_where(self, instance: AnyRow) -> list[str]:
        """Return the keys of ``where`` that ``instance``, a stored row, does not meet."""
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
        """Return the groups of ``instance``: its templates, rendered. A template with a null value gives no group."""
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
        """Return the ``data`` of a frame for ``instance``, a stored row."""
        data = dict(get_serializer(self.serializer)(instance, self))
        if self.serializer != "default":
            documents = {field.name for field in self.bound_fields() if holds_documents(field)}
            data = {name: value if name in documents else keep_exact(value) for name, value in data.items()}
        for name in self.send_members:
            member = getattr(instance, name)
            data[name] = keep_exact(member() if callable(member) else member)
        return data

    def outgoing_data(self, instance: Any) -> Mapping[str, Any]:
        """Return ``serialize_data(instance)`` without values that look like secrets and are not in ``sensitive``.

        The places of removed values are then in ``withheld``.
        """
        data, guard = self.serialize_data(instance), self.resolved().guard
        if guard is None:
            return data
        cleaned, self.withheld = guard.clean(data)
        return cleaned

    def outgoing_payload(self, instance: Any, action: str) -> Mapping[str, Any]:
        """Return ``serialize(instance, action)`` without values that look like secrets and are not in ``sensitive``."""
        payload, guard = self.serialize(instance, action), self.resolved().guard
        if guard is None or not payload:
            return payload
        cleaned, self.withheld = guard.clean_payload(payload)
        return cleaned

    def serialize(self, instance: Any, action: str) -> dict[str, Any]:
        """Return the whole payload of a frame.

        Args:
            instance: The stored row.
            action: "create", "update" or "delete".

        Returns:
            A dict of JSON values. If it is empty, nothing is sent.
        """
        return {
            "action": action,
            "pk": exact_key(instance.pk, model_of(instance)._meta.pk),
            "data": self.serialize_data(instance),
            "model": self.model_label(),
        }

    # --- rights ------------------------------------------------------------------------------------------------------

    def rule(self, action: str) -> str | bool:
        """Return who may do something with rows of this binding.

        Args:
            action: "view", "create", "update" or "delete".

        Returns:
            A codename, "authenticated", "staff", ``True`` (anyone) or ``False`` (nobody). If the record has no rule for
                the action, this is the codename of Django's own permission.
        """
        spec = self.resolved().spec
        rule: str | bool | None = spec.permissions.get(action)
        if rule is None:
            options = self.model_class()._meta
            return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}"
        return rule

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Return whether a user may create, update or delete a row.

        For a codename, two questions are asked: ``has_perm(codename)``, and, if there is a row, ``has_perm(codename,
        row)``. Object permission backends answer the second one, Django's own backend only the first.

        Args:
            user: The user of the request.
            action: "create", "update" or "delete".
            pk: The primary key of the row, ``None`` for "create".
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
            # The row for which the permission was given must not change before the write.
            rows = rows.select_related(None).select_for_update()
        try:
            instance = rows.filter(pk=value_validation.coerce(self.model_class()._meta.pk, pk)).first()
        except ValueError:
            return False
        return instance is not None and _has_codename(user, rule, instance)

    def has_view_permission(self, user: Any, params: Mapping[str, Any]) -> bool:
        """Return whether a user may subscribe with these params. Called at subscribe, snapshot and resume.

        Args:
            user: The user of the subscription.
            params: The params of the subscription, by the names of placeholders.
        """
        rule = self.rule("view")
        if isinstance(rule, bool) or rule in AUDIENCES:
            return is_in_audience(user, rule)
        return _has_codename(user, rule)

    def subscription_group(self, user: Any, params: Mapping[str, Any]) -> str | None:
        """Return the group that params stand for.

        Args:
            user: The user of the subscription.
            params: The params that the client sent, by the names of placeholders.

        Returns:
            The name of the group, or ``None`` if the class overrides ``group_names``.

        Raises:
            ClientError: No template takes these params.
        """
        if self.overrides("group_names"):
            return None
        template = match_template(self.resolved().spec.group_templates, params)
        model = self.model_class()
        # The alias only decides how values of the database are converted. No query is made.
        using = self.using or DEFAULT_DB_ALIAS
        values = {
            name: as_stored(stored_field(model, name), value, using)
            for name, value in self.param_values(params).items()
        }
        return template.render(self.group_values(values))

    @classmethod
    def group_values(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``values`` of a stored row, by column name, in the form that group templates take."""
        resolved = cls.resolved()
        if not resolved.compared_apart:
            return dict(values)
        fields = {name: stored_field(resolved.model, name) for name in values}
        return {
            name: group_text(fields[name], value) if fields[name].attname in resolved.compared_apart else value
            for name, value in values.items()
        }

    def param_values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return params as Python values of their fields, so that "03" and 3 name the same group.

        Args:
            params: The params that the client sent, by the names of placeholders.

        Raises:
            ClientError: A value is null or not valid for its field (``invalid``).
        """
        values: dict[str, Any] = {}
        errors: dict[str, list[str]] = {}
        for name, value in params.items():
            try:
                values[name] = value_validation.coerce(concrete_field(self.model_class(), name), value)
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
        """Return the action, the primary key and the data of ``content``, the payload of a request."""
        return content.get("action"), content.get("pk"), content.get("data", {})

    def create(self, data: Mapping[str, Any]) -> Any:
        """Store a new row.

        Args:
            data: The sent values by field name. Only writable fields are among them.

        Returns:
            The stored instance.

        Raises:
            ClientError: The data is not valid (``invalid``).
        """
        model = self.model_class()
        owner = {concrete_field(model, name).attname: value for name, value in self.scope_values().items()}
        return row_validation.save_new(self, model(**owner), data)

    def update(self, pk: Any, data: Mapping[str, Any]) -> Any:
        """Store the sent fields of a row.

        Args:
            pk: The primary key, as the client sent it.
            data: The sent values by field name. Only writable fields are among them.

        Returns:
            The stored instance.

        Raises:
            ClientError: There is no such row for this user (``not_found``), or the data is not valid (``invalid``).
        """
        return row_validation.save_sent(self, self.get_object(pk), data)

    def delete(self, pk: Any) -> Any:
        """Delete a row.

        Args:
            pk: The primary key, as the client sent it.

        Returns:
            ``None``. The return value of an override is ignored.

        Raises:
            ClientError: There is no such row for this user (``not_found``).
        """
        row = self.get_object(pk)
        course.enter("store", row)
        row.delete()

    def get_object(self, pk: Any) -> Any:
        """Return a row, locked until the end of the transaction. Call this inside a transaction.

        Args:
            pk: The primary key: the client's JSON value or the Python value.

        Raises:
            ClientError: The row does not exist, or does not belong to the user (``not_found`` in both cases).
        """
        course.enter("row", pk)
        model: Any = self.model_class()
        # Only the row itself must be locked. PostgreSQL cannot lock the outer side of a join at all.
        rows = self.scoped(self.get_queryset()).select_related(None).select_for_update()
        try:
            return rows.get(pk=value_validation.coerce(model._meta.pk, pk))
        except (model.DoesNotExist, ValueError):
            raise ClientError("not_found", f"There is no {model._meta.verbose_name} {pk!s:.60}.") from None

    def check_inside(self, instance: Any) -> None:
        """Check that ``instance``, a stored row, meets ``where`` and belongs to the user.

        Raises:
            ClientError: It does not (``invalid``). The error is that of ``outside_error``.
        """
        course.enter("inside", instance)
        spec = self.resolved().spec
        if not (spec.where or spec.scope):
            return
        if not self.scoped(self.get_queryset()).filter(pk=instance.pk).exists():
            raise self.outside_error()

    def outside_error(self) -> ClientError:
        """Return the error for a write that would put a row outside of ``where`` or ``scope``."""
        spec = self.resolved().spec
        model, bound = self.model_class(), {field.name for field in self.bound_fields()}
        names = {concrete_field(model, name).name for name in (*spec.where, *spec.scope)}
        text = "This value is outside what this stream covers."
        return ClientError(
            "invalid",
            "The row would be outside what this stream covers.",
            {name: [text] for name in sorted(names & bound)},
        )


class _Consumer:
    """The value of a binding in ``WebsocketDemultiplexer.consumers``."""

    def __get__(self, instance: Any, owner: type[WebsocketBinding]) -> type[WebsocketBinding]:
        return owner


class WebsocketBinding(Binding):
    """The connection of a model to WebSocket clients. ``consumer`` is the value that a demultiplexer takes."""

    consumer = _Consumer()


def build_binding(spec: BindingSpec) -> type[WebsocketBinding]:
    """Return a new subclass for ``spec``, named after the stream. It is not registered anywhere."""
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
    """Return a subclass that sends only the ``known`` ones of the fields of ``"__all__"`` or ``exclude``.

    Args:
        cls: The class to limit.
        known: The names of the fields that may be sent. ``None`` means all fields.

    Returns:
        A subclass, or ``cls`` itself if it sends no other field.
    """
    if known is None or known == cls.known:
        return cls
    spec = replace(cls.spec(), known=known)
    model = find_model(spec.model)
    if model is not None and not held_fields(model, spec):
        return cls
    last: type[Binding] | None = cls.__dict__.get("_limited")
    if last is None or last.known != known:
        # The name of this module marks it as declbind's own: searches for classes of the project skip it.
        attributes = {"__module__": __name__, "__doc__": cls.__doc__, "__qualname__": cls.__qualname__, "known": known}
        last = type(cls.__name__, (cls,), attributes)
        cls._limited = last  # type: ignore[attr-defined]  # set on each class by itself, so none inherits it
    return last


@cache
def _original(name: str) -> Any:
    method = Binding.__dict__[name]
    return getattr(method, "__func__", method)


def is_in_audience(user: Any, rule: str | bool) -> bool:
    """Return whether a rule other than a codename allows a user.

    The two words ask for an active user, as ``has_perm()`` does. If the user model has no ``is_active``, all users are
    active. If it has no ``is_staff``, no user is staff.

    Args:
        user: The user, or ``None``.
        rule: ``True``, ``False``, "authenticated" or "staff".
    """
    if isinstance(rule, bool):
        return rule
    if user is None or not user.is_authenticated or not getattr(user, "is_active", True):
        return False
    return rule != STAFF or bool(getattr(user, "is_staff", False))


def _has_codename(user: Any, codename: str, instance: Any = None) -> bool:
    # A user model without PermissionsMixin has no has_perm. Its users have no permissions.
    has_perm = getattr(user, "has_perm", None)
    return has_perm is not None and bool(has_perm(codename) if instance is None else has_perm(codename, instance))
