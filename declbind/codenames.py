"""The permission codenames that exist, each in the form ``app_label.codename``."""

from __future__ import annotations

from django.apps import apps
from django.db import DatabaseError, transaction


def declared_codenames() -> set[str]:
    """Return the codenames that the installed models declare, including Django's four. Makes no query."""
    found: set[str] = set()
    for model in apps.get_models():
        options = model._meta
        found.update(f"{options.app_label}.{action}_{options.model_name}" for action in options.default_permissions)
        found.update(f"{options.app_label}.{codename}" for codename, _ in options.permissions)
    return found


def stored_codenames() -> set[str]:
    """Return the codenames in the Permission table, or an empty set if the table is missing.

    Permissions that were created by hand exist only there.
    """
    if not apps.is_installed("django.contrib.auth"):
        return set()
    from django.contrib.auth.models import Permission

    try:
        # Before the first migrate the table is missing. On PostgreSQL a failed query would break the caller's
        # transaction.
        with transaction.atomic(using=Permission.objects.db):
            rows = Permission.objects.values_list("content_type__app_label", "codename")
            return {f"{app_label}.{codename}" for app_label, codename in rows}
    except DatabaseError:
        return set()
