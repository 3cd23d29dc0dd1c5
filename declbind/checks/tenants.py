"""Checks of sites with tenants, and of databases with a schema for each tenant (E008, E012, E013, W023)."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from declbind import tenancy
from declbind.inbound import permissions
from declbind.models import Event
from declbind.outbound import tenants


def check_tenants(**kwargs: object) -> list[CheckMessage]:
    """Check that tenants are separated if there are any (E008, E012, E013, W023). Makes no query."""
    return list(_check_class() if tenancy.is_on() else _check_backends())


def _check_backends() -> Iterator[CheckMessage]:
    found = [
        f"DATABASES[{alias!r}] has the backend {connections.settings[alias]['ENGINE']!r}, which switches schemas."
        for alias in connections
        if tenants.switches_schemas(alias)
    ]
    if not found:
        found = [f"INSTALLED_APPS has {name!r}, which switches schemas." for name in tenants.find_apps()[:1]]
    for text in found:
        yield Error(
            f"{text} declbind has one event log, and cannot separate the rows of one tenant from those of another. "
            "Writes are not sent row by row: subscribers are sent a `resync` for each, and each binding reports a "
            "fault.",
            hint='Name the class that determines tenants in DECLBIND["TENANT"]. For django-tenants it is '
            "'declbind.contrib.tenants.DjangoTenants'.",
            id="declbind.E008",
        )


def _check_class() -> Iterator[CheckMessage]:
    try:
        found = tenancy.get_tenancy()
    except Exception as error:  # The class is project code.
        yield Error(
            f"{error} Only a `resync` is sent for each write.",
            hint="The class takes no arguments and has of_connection(alias), of_scope(scope) and activate(tenant). For "
            "django-tenants it is 'declbind.contrib.tenants.DjangoTenants'.",
            id="declbind.E012",
        )
        return
    if not hasattr(found, "is_shared"):
        return
    if not tenancy.is_shared(Event):
        yield Error(
            "The tables of declbind are not among those that all tenants share. It has one event log and one set of "
            "bindings for all of them.",
            hint='With django-tenants, list "declbind" in SHARED_APPS and not in TENANT_APPS. With a class of your '
            "own, is_shared() returns True for the models of declbind.",
            id="declbind.E013",
        )
    if apps.is_installed("django.contrib.auth") and not tenancy.is_shared(get_user_model()) and _are_sessions_shared():
        yield CheckWarning(
            "Each tenant has its own users, and all tenants share the sessions. A session of user 1 of one tenant is "
            "kept from user 1 of another only by the hash of the password, as in Django itself.",
            hint="With django-tenants, list 'django.contrib.sessions' in TENANT_APPS and use the SESSION_ENGINE "
            "'django.contrib.sessions.backends.db', or give the cache of the sessions the KEY_FUNCTION "
            "'django_tenants.cache.make_key'.",
            id="declbind.W023",
        )


def _are_sessions_shared() -> bool:
    try:
        store = permissions.session_store()
        if hasattr(store, "cache_key_prefix"):
            # A key function separates tenants in a cache. Its behaviour cannot be checked.
            cache = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {})
            if not cache.get("KEY_FUNCTION"):
                return True
            return hasattr(store, "get_model_class") and tenancy.is_shared(store.get_model_class())
        return not hasattr(store, "get_model_class") or tenancy.is_shared(store.get_model_class())
    except (ImportError, AttributeError, ImproperlyConfigured, RuntimeError):
        # Django reports an engine that does not load or whose app is not installed.
        return False
