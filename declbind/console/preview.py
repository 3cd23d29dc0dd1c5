"""A preview: what clients receive for one row, in which groups, and who may see it. Nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model
from django.utils.translation import gettext

from declbind import value_validation
from declbind.bindings import Binding
from declbind.core import frames
from declbind.core.errors import ClientError, ConfigError, Problem
from declbind.core.wording import in_binding
from declbind.django_types import User
from declbind.fields import concrete_field
from declbind.serializers import encode_key, encode_value
from declbind.serializers.guard import describe_withheld

from .overview import describe_rules


@dataclass(frozen=True)
class Verdict:
    """Whether a user may see the row in one group, and why. ``params`` are the params of the subscription."""

    group: str
    params: Mapping[str, object] | None
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Preview:
    """The frame for an update of one row, as text and parsed, the row's groups, and the verdicts for one user."""

    stream: str
    pk: object
    groups: tuple[str, ...]
    payload: Mapping[str, object] | None
    frame: str
    view: str
    user: str
    verdicts: tuple[Verdict, ...]
    #: The places of keys that are not sent because they look like secrets.
    withheld: tuple[str, ...] = ()

    @property
    def warning(self) -> str:
        """The warning about withheld values, or ""."""
        return str(describe_withheld(self.withheld)) if self.withheld else ""

    def as_json(self) -> dict[str, object]:
        """Return the preview as JSON values."""
        return {
            "stream": self.stream,
            "pk": self.pk,
            "groups": list(self.groups),
            "payload": self.payload,
            "frame": self.frame,
            "view": self.view,
            "user": self.user,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "withheld": list(self.withheld),
        }


def load_user(name: str) -> User:
    """Return the user with a name or primary key; an anonymous user for "".

    Raises:
        ConfigError: There is no such user.
    """
    if not name:
        return AnonymousUser()
    model = get_user_model()
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
    if user is None:
        try:
            user = model._default_manager.filter(pk=name).first()
        except (ValueError, TypeError):
            user = None
    if user is None:
        text = gettext("Expected a user's name or primary key, got %(given)r: there is none.") % {"given": name}
        raise ConfigError([Problem("$", text)])
    return user


def make_preview(binding: type[Binding], pk: str, user: User) -> Preview:
    """Build the frame for the stored row ``pk``, as if it had just been saved.

    Raises:
        ConfigError: The binding has no such row, or its code fails. A preview reports such faults.
    """
    bound = binding()
    row = _load_row(bound, pk)
    try:
        groups = tuple(dict.fromkeys(bound.group_names(row))) if binding.spec().outbound else ()
        payload = _payload(bound, row)
        verdicts = tuple(_verdicts(binding(user), row, groups))
    except Exception as error:
        words = {"stream": binding.stream, "model": type(row)._meta.label, "key": repr(row.pk)}
        text = gettext("Binding %(stream)r fails for %(model)s %(key)s: %(error)s")
        raise ConfigError(text % {**words, "error": f"{type(error).__name__}: {error}"}) from error
    return Preview(
        stream=str(binding.stream),
        pk=row.pk,
        groups=groups,
        payload=json.loads(payload) or None,
        frame=frames.encode_plain(str(binding.stream), payload) if payload != "{}" else "",
        view=describe_rules(binding)["view"],
        user=str(user) if user.is_authenticated else gettext("an anonymous visitor"),
        verdicts=verdicts,
        withheld=bound.withheld,
    )


def _load_row(bound: Binding, pk: str) -> Model:
    model = bound.model_class()
    key = model._meta.pk
    try:
        row = model._base_manager.filter(pk=value_validation.coerce(key, pk)).first()
    except ValueError as error:
        text = gettext("Expected a primary key of %(model)s, got %(given)r: %(error)s.")
        raise ConfigError(text % {"model": model._meta.label, "given": pk, "error": error}) from error
    if row is None:
        text = gettext("There is no %(model)s with the primary key %(key)r.")
        raise ConfigError(text % {"model": model._meta.label, "key": pk})
    if not bound.get_queryset().filter(pk=row.pk).exists():
        text = gettext("%(model)s %(key)s is outside 'where' (%(conditions)s), so for clients it does not exist.") % {
            "model": model._meta.label,
            "key": repr(row.pk),
            "conditions": json.dumps(dict(bound.resolved().spec.where), default=str),
        }
        raise ConfigError(in_binding(str(bound.stream), text))
    return row


def _payload(bound: Binding, row: Model) -> str:
    if bound.overrides("serialize"):
        return encode_value(bound.outgoing_payload(row, "update"))
    data = encode_value(bound.outgoing_data(row))
    return frames.encode_payload("update", encode_key(row.pk, row._meta.pk), data, bound.model_label())


def _verdicts(bound: Binding, row: Model, groups: tuple[str, ...]) -> list[Verdict]:
    owns = not bound.resolved().spec.scope or bound.scoped(bound.get_queryset()).filter(pk=row.pk).exists()
    verdicts = []
    for group, params in _subscriptions(bound, row, groups):
        if bound.user is not None and params is not None and not bound.has_view_permission(bound.user, params):
            text = gettext("view is for %(who)s") % {"who": describe_rules(type(bound))["view"]}
            verdicts.append(Verdict(group, params, False, text))
        elif params is None:
            verdicts.append(Verdict(group, None, False, gettext("no subscription gives this group")))
        elif not owns:
            verdicts.append(Verdict(group, params, False, gettext("the row belongs to another user (scope)")))
        else:
            verdicts.append(Verdict(group, params, True, gettext("view is granted")))
    return verdicts


def _subscriptions(bound: Binding, row: Model, groups: tuple[str, ...]) -> list[tuple[str, dict[str, object] | None]]:
    """Return each group of the row with the params of a subscription, ``None`` if only project code knows them."""
    if bound.overrides("group_names"):
        try:
            own = bound.subscription_group(bound.user, {})
        except ClientError:
            own = None
        return [(group, {} if group == own else None) for group in groups]
    model = bound.model_class()
    found: list[tuple[str, dict[str, object] | None]] = []
    for template in bound.resolved().spec.group_templates:
        params = {name: getattr(row, concrete_field(model, name).attname) for name in template.placeholders}
        group = template.render(bound.group_values(params))
        if group in groups:
            found.append((str(group), params))
    return found
