"""The users that the rule of an action allows."""

from __future__ import annotations

from django.db import models

from declbind.core.spec import STAFF
from declbind.django_types import User


def is_in_audience(user: User | None, rule: str | bool) -> bool:
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


def has_codename(user: User | None, codename: str, instance: models.Model | None = None) -> bool:
    """Return whether a user has a permission.

    A user model without ``PermissionsMixin`` has no ``has_perm``. Its users have no permissions.

    Args:
        user: The user, or ``None``.
        codename: The permission as ``app_label.codename``.
        instance: The row that the question is about. By default it is about the model.
    """
    has_perm = getattr(user, "has_perm", None)
    return has_perm is not None and bool(has_perm(codename) if instance is None else has_perm(codename, instance))
