"""Reasons why a permission is granted or not: the rule, and the source of the user's permission."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import auth
from django.contrib.auth.models import Group
from django.db.models import Model

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
    return str(user.get_username()) if user is not None and user.is_authenticated else "an anonymous visitor"


def explain_permission(bound: Binding, action: str, pk: object, is_granted: bool) -> Reason:
    """Explain why the binding's user was admitted or not. ``is_granted`` is the result of the real check."""
    method = "has_view_permission" if action == "view" else "has_permission"
    who = describe_user(bound.user)
    if bound.overrides(method):
        place = _place(type(bound), method)
        return Reason("by code", (), f"The binding's code answers {'yes' if is_granted else 'no'}: {place}.")
    rule = bound.rule(action)
    if isinstance(rule, bool):
        words = "Anyone may." if rule else "Nobody may: the rule is false."
        return Reason("anyone" if rule else "nobody", (), words)
    if rule in AUDIENCES:
        verb = "is one" if is_granted else "is not one"
        return Reason(rule, (), f"Open to {AUDIENCE_WORDS[rule]}; {who} {verb} of them.")
    if not is_granted:
        return Reason(rule, (), f"It requires {rule}, which {who} does not have.{_holders(rule)}")
    granted = tuple(_sources(bound.user, rule, _find_row(bound, pk))) if bound.user is not None else ()
    return Reason(rule, granted, f"It requires {rule}; {who} has it{': ' if granted else ''}{', '.join(granted)}.")


def _place(binding: type[Binding], method: str) -> str:
    owner = next((cls for cls in binding.__mro__ if method in cls.__dict__), binding)
    return f"{owner.__module__}.{owner.__qualname__}.{method}"


def _find_row(bound: Binding, pk: object) -> Model | None:
    return None if pk is None else bound.get_queryset().filter(pk=pk).first()


def _sources(user: User, rule: str, row: Model | None) -> list[str]:
    """Return what gives the user a codename: superuser status, a permission of the user, groups, or a backend."""
    if getattr(user, "is_superuser", False):
        return ["a superuser may all"]
    app_label, _, codename = rule.partition(".")
    wanted = {"content_type__app_label": app_label, "codename": codename}
    found = []
    if hasattr(user, "user_permissions") and user.user_permissions.filter(**wanted).exists():
        found.append("a permission of their own")
    if hasattr(user, "groups"):
        having = user.groups.filter(**{f"permissions__{key}": value for key, value in wanted.items()})
        found += [f"group {name}" for name in having.values_list("name", flat=True)[:SHOWN_GROUPS]]
    if found:
        return found
    for backend in auth.get_backends():
        has_perm = getattr(backend, "has_perm", None)
        if has_perm is None:
            continue
        if has_perm(user, rule):
            found.append(f"by {type(backend).__name__}")
        elif row is not None and has_perm(user, rule, row):
            found.append(f"on this row, by {type(backend).__name__}")
    return found


def _holders(rule: str) -> str:
    app_label, _, codename = rule.partition(".")
    having = Group.objects.filter(permissions__content_type__app_label=app_label, permissions__codename=codename)
    names = list(having.order_by("name").values_list("name", flat=True)[:SHOWN_GROUPS])
    return f" Groups with it: {', '.join(names)}." if names else " No group has it."
