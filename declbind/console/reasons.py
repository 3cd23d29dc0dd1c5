"""Reasons why a permission is granted or not: the rule, and the source of the user's permission."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import auth
from django.contrib.auth.models import Group
from django.db.models import Model
from django.utils.translation import gettext

from declbind.bindings import Binding
from declbind.core.spec import AUDIENCES
from declbind.core.wording import AUDIENCE_WORDS
from declbind.django_types import User

SHOWN_GROUPS = 5


@dataclass(frozen=True)
class Reason:
    """The rule for an action, and the source of a user's permission, both in words.

    ``rule`` is a codename, "authenticated", "staff", "anyone", "nobody" or "by code".
    """

    rule: str
    granted_by: tuple[str, ...]
    text: str


def describe_user(user: User | None) -> str:
    """Return a user's name as shown to people."""
    if user is not None and user.is_authenticated:
        return str(user.get_username())
    return gettext("an anonymous visitor")


def explain_permission(bound: Binding, action: str, pk: object, is_granted: bool) -> Reason:
    """Explain why the binding's user was admitted or not. ``is_granted`` is the result of the real check."""
    method = "has_view_permission" if action == "view" else "has_permission"
    who = describe_user(bound.user)
    if bound.overrides(method):
        text = (
            gettext("The binding's code answers yes: %(place)s.")
            if is_granted
            else gettext("The binding's code answers no: %(place)s.")
        )
        return Reason("by code", (), text % {"place": _place(type(bound), method)})
    rule = bound.rule(action)
    if isinstance(rule, bool):
        words = gettext("Anyone may.") if rule else gettext("Nobody may: the rule is false.")
        return Reason("anyone" if rule else "nobody", (), words)
    if rule in AUDIENCES:
        text = (
            gettext("Open to %(audience)s; %(who)s is one of them.")
            if is_granted
            else gettext("Open to %(audience)s; %(who)s is not one of them.")
        )
        return Reason(rule, (), text % {"audience": AUDIENCE_WORDS[rule], "who": who})
    if not is_granted:
        return Reason(rule, (), _missing(rule, who))
    granted = tuple(_sources(bound.user, rule, _find_row(bound, pk))) if bound.user is not None else ()
    text = (
        gettext("It requires %(permission)s; %(who)s has it: %(sources)s.")
        if granted
        else gettext("It requires %(permission)s; %(who)s has it.")
    )
    return Reason(rule, granted, text % {"permission": rule, "who": who, "sources": ", ".join(granted)})


def _place(binding: type[Binding], method: str) -> str:
    owner = next((cls for cls in binding.__mro__ if method in cls.__dict__), binding)
    return f"{owner.__module__}.{owner.__qualname__}.{method}"


def _find_row(bound: Binding, pk: object) -> Model | None:
    return None if pk is None else bound.get_queryset().filter(pk=pk).first()


def _sources(user: User, rule: str, row: Model | None) -> list[str]:
    """Return what gives the user a codename: superuser status, a permission of the user, groups, or a backend."""
    if getattr(user, "is_superuser", False):
        return [gettext("a superuser may all")]
    app_label, _, codename = rule.partition(".")
    wanted = {"content_type__app_label": app_label, "codename": codename}
    found = []
    if hasattr(user, "user_permissions") and user.user_permissions.filter(**wanted).exists():
        found.append(gettext("a permission of their own"))
    if hasattr(user, "groups"):
        having = user.groups.filter(**{f"permissions__{key}": value for key, value in wanted.items()})
        names = having.values_list("name", flat=True)[:SHOWN_GROUPS]
        found += [gettext("group %(name)s") % {"name": name} for name in names]
    if found:
        return found
    for backend in auth.get_backends():
        has_perm = getattr(backend, "has_perm", None)
        if has_perm is None:
            continue
        name = {"backend": type(backend).__name__}
        if has_perm(user, rule):
            found.append(gettext("by %(backend)s") % name)
        elif row is not None and has_perm(user, rule, row):
            found.append(gettext("on this row, by %(backend)s") % name)
    return found


def _missing(rule: str, who: str) -> str:
    app_label, _, codename = rule.partition(".")
    having = Group.objects.filter(permissions__content_type__app_label=app_label, permissions__codename=codename)
    names = list(having.order_by("name").values_list("name", flat=True)[:SHOWN_GROUPS])
    text = (
        gettext("It requires %(permission)s, which %(who)s does not have. Groups with it: %(groups)s.")
        if names
        else gettext("It requires %(permission)s, which %(who)s does not have. No group has it.")
    )
    return text % {"permission": rule, "who": who, "groups": ", ".join(names)}
