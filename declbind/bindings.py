"""Binding classes, which connect a model to clients.

The registry builds a subclass of them for each binding record. A project may write subclasses of its own.

``Binding`` covers rows, groups, permissions and writes, and knows no protocol. The WebSocket consumers serve its
subclass ``WebsocketBinding``. Every key of a binding record is a class attribute of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, connections, models

from declbind import row_validation, signals, value_validation
from declbind.audiences import has_codename, is_in_audience
from declbind.binding_rows import BindingRows
from declbind.core import course
from declbind.core.errors import ClientError
from declbind.core.groups import match_template
from declbind.core.spec import AUDIENCES
from declbind.django_types import User
from declbind.fields import concrete_field, stored_field
from declbind.serializers import get_serializer
from declbind.serializers.exact import exact_key, keep_exact
from declbind.stored_rows import BoundModel, model_of, value_of
from declbind.stored_values import as_stored, group_text, holds_documents

#: The first part of the codename that Django gives the permission for each action.
DJANGO_ACTIONS = {"view": "view", "create": "add", "update": "change", "delete": "delete"}


class Binding(BindingRows, Generic[BoundModel]):
    """The connection of a model to clients. A class without ``model`` or without ``stream`` is abstract.

    One instance serves one request or one captured write. ``user`` is the user of the request, or ``None`` while a
    write is captured. Any process that writes may call the outbound methods (``group_names``, ``serialize_data``,
    ``serialize``).

    Overrides of those methods are given a whole instance of the model. Type checkers know which one if the class is
    written as ``class NoteBinding(WebsocketBinding[Note])``. At run time this makes no difference.
    """

    #: The places of the keys that the last payload of this instance lacks because they look like secrets.
    withheld: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Report the new class to the registry, because a module imported after the start may define bindings too."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            signals.binding_defined.send(sender=cls)

    # --- outbound ----------------------------------------------------------------------------------------------------

    @classmethod
    def group_names(cls, instance: BoundModel) -> list[str]:
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

    def serialize_data(self, instance: BoundModel) -> dict[str, object]:
        """Return the ``data`` of a frame for ``instance``, a stored row."""
        data = dict(get_serializer(self.serializer)(instance, self))
        if self.serializer != "default":
            documents = {field.name for field in self.bound_fields() if holds_documents(field)}
            data = {name: value if name in documents else keep_exact(value) for name, value in data.items()}
        for name in self.send_members:
            member = getattr(instance, name)
            data[name] = keep_exact(member() if callable(member) else member)
        return data

    def outgoing_data(self, instance: BoundModel) -> Mapping[str, object]:
        """Return ``serialize_data(instance)`` without values that look like secrets and are not in ``sensitive``.

        The places of removed values are then in ``withheld``.
        """
        data, guard = self.serialize_data(instance), self.resolved().guard
        if guard is None:
            return data
        cleaned, self.withheld = guard.clean(data)
        return cleaned

    def outgoing_payload(self, instance: BoundModel, action: str) -> Mapping[str, object]:
        """Return ``serialize(instance, action)`` without values that look like secrets and are not in ``sensitive``."""
        payload, guard = self.serialize(instance, action), self.resolved().guard
        if guard is None or not payload:
            return payload
        cleaned, self.withheld = guard.clean_payload(payload)
        return cleaned

    def serialize(self, instance: BoundModel, action: str) -> dict[str, object]:
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

    def has_permission(self, user: User | None, action: str, pk: object) -> bool:
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
        if has_codename(user, rule):
            return True
        if pk is None or user is None or not user.is_authenticated:
            return False
        rows = self.scoped(self.get_queryset())
        if connections[rows.db].in_atomic_block:
            # The row for which the permission was given must not change before the write.
            rows = rows.select_related(None).select_for_update()
        try:
            instance = rows.filter(pk=value_validation.coerce(self.model_class()._meta.pk, pk)).first()
        except ValueError:
            return False
        return instance is not None and has_codename(user, rule, instance)

    def has_view_permission(self, user: User | None, params: Mapping[str, object]) -> bool:
        """Return whether a user may subscribe with these params. Called at subscribe, snapshot and resume.

        Args:
            user: The user of the subscription.
            params: The params of the subscription, by the names of placeholders.
        """
        rule = self.rule("view")
        if isinstance(rule, bool) or rule in AUDIENCES:
            return is_in_audience(user, rule)
        return has_codename(user, rule)

    def subscription_group(self, user: User | None, params: Mapping[str, object]) -> str | None:
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
    def group_values(cls, values: Mapping[str, object]) -> dict[str, object]:
        """Return ``values`` of a stored row, by column name, in the form that group templates take."""
        return cls.resolved().group_values(values)

    def param_values(self, params: Mapping[str, object]) -> dict[str, object]:
        """Return params as Python values of their fields, so that "03" and 3 name the same group.

        Args:
            params: The params that the client sent, by the names of placeholders.

        Raises:
            ClientError: A value is null or not valid for its field (``invalid``).
        """
        values: dict[str, object] = {}
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

    def deserialize(self, content: Mapping[str, object]) -> tuple[object, object, object]:
        """Return the action, the primary key and the data of ``content``, the payload of a request."""
        return content.get("action"), content.get("pk"), content.get("data", {})

    def create(self, data: Mapping[str, object]) -> models.Model | None:
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

    def update(self, pk: object, data: Mapping[str, object]) -> models.Model | None:
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

    def delete(self, pk: object) -> None:
        """Delete a row.

        Args:
            pk: The primary key, as the client sent it.

        Returns:
            ``None``. The return value of an override is ignored.

        Raises:
            ClientError: There is no such row for this user (``not_found``).
        """
        row = self.get_object(pk)
        course.enter(course.Check.STORE, row)
        row.delete()

    def get_object(self, pk: object) -> models.Model:
        """Return a row, locked until the end of the transaction. Call this inside a transaction.

        Args:
            pk: The primary key: the client's JSON value or the Python value.

        Raises:
            ClientError: The row does not exist, or does not belong to the user (``not_found`` in both cases).
        """
        course.enter(course.Check.ROW, pk)
        model = self.model_class()
        # Only the row itself must be locked. PostgreSQL cannot lock the outer side of a join at all.
        rows = self.scoped(self.get_queryset()).select_related(None).select_for_update()
        try:
            return rows.get(pk=value_validation.coerce(model._meta.pk, pk))
        except (ObjectDoesNotExist, ValueError):
            raise ClientError("not_found", f"There is no {model._meta.verbose_name} {pk!s:.60}.") from None

    def check_inside(self, instance: models.Model) -> None:
        """Check that ``instance``, a stored row, meets ``where`` and belongs to the user.

        Raises:
            ClientError: It does not (``invalid``). The error is that of ``outside_error``.
        """
        course.enter(course.Check.INSIDE, instance)
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

    def __get__(self, instance: object, owner: type[WebsocketBinding]) -> type[WebsocketBinding]:
        return owner


class WebsocketBinding(Binding[BoundModel]):
    """The connection of a model to WebSocket clients. ``consumer`` is the value that a demultiplexer takes."""

    consumer = _Consumer()
