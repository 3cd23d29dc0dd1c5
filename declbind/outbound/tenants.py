"""The tenant of each event: one tenant, or all of them.

An event belongs to the tenant of the connection at the moment of the write. An event of a table that all tenants share
is for all tenants. If the tenant cannot be determined, a ``resync`` without a row is stored for every tenant that may
be concerned.

Without ``DECLBIND["TENANT"]``, tenants are not told apart. On a backend that switches schemas, no row is sent then:
each write is a fault of its bindings, and their groups get a ``resync``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models

from declbind import tenancy
from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.models import Event
from declbind.registry import current_registry

from .drafts import report_failure
from .entries import ALL_TENANTS, Draft

#: Packages with such a backend. A name that begins with one of these and an underscore counts as well.
PACKAGES = ("django_tenants", "tenant_schemas", "django_pgschemas")
#: The methods by which a connection of such a backend changes its schema.
METHODS = ("set_schema", "set_tenant")


class MixedTenantsError(Exception):
    """Raised for a write whose rows cannot be told apart from those of other tenants."""

    def __init__(self, using: str) -> None:
        engine = type(connections[using]).__module__.removesuffix(".base")
        super().__init__(
            f"Database {using!r} has the backend {engine!r}, which switches schemas. declbind cannot tell the rows of "
            'one tenant from those of another without DECLBIND["TENANT"], and sends none of them.'
        )


class SwitchedTenantError(Exception):
    """Raised for a write during which the connection was switched to another tenant."""

    def __init__(self, began_in: str, ended_in: str) -> None:
        super().__init__(
            f"The connection was in tenant {began_in!r} when the write began and in {ended_in!r} when it ended. Switch "
            "tenants between writes, not in code that a write calls."
        )


def switches_schemas(using: str) -> bool:
    """Return whether the backend of a database switches schemas. Makes no query."""
    wrapper: Any = type(connections[using])
    return _switches(wrapper)


@functools.cache
def _switches(wrapper: Any) -> bool:
    return any(callable(getattr(wrapper, name, None)) for name in METHODS) or any(
        _is_switcher(base.__module__) for base in wrapper.__mro__
    )


def find_apps() -> list[str]:
    """Return the names of the installed apps that belong to a package for tenants."""
    return [config.name for config in apps.get_app_configs() if _is_switcher(config.name)]


def _is_switcher(module: str) -> bool:
    package = module.partition(".")[0]
    return any(package == name or package.startswith(f"{name}_") for name in PACKAGES)


def are_mixed(using: str) -> bool:
    """Return whether the log would hold rows of several tenants that cannot be told apart."""
    return settings.TENANT is None and switches_schemas(using)


def present_tenant(using: str) -> str | None:
    """Return the tenant of a connection, or ``None`` if it cannot be determined. Never raises."""
    if settings.TENANT is None:
        return ""
    try:
        return tenancy.of_connection(using)
    except (tenancy.TenantError, ImproperlyConfigured):
        return None


def address(drafts: Sequence[Draft], using: str, began_in: str | None = None) -> Sequence[Draft]:
    """Return the events to store for a write: each with its tenant, or a ``resync`` in its place.

    Call it at the moment of the write. ``began_in`` is the tenant of the connection when the write began.
    """
    if settings.TENANT is None:
        return drafts
    try:
        return _addressed_to(tenancy.of_connection(using), drafts, using, began_in)
    except Exception as error:  # The class is project code, and must not break the write.
        return without_rows(drafts, using, error)


def _addressed_to(tenant: str, drafts: Sequence[Draft], using: str, began_in: str | None) -> Sequence[Draft]:
    if began_in is not None and began_in != tenant:
        first = without_rows(drafts, using, SwitchedTenantError(began_in, tenant), began_in)
        return [*first, *(draft._replace(tenant=tenant) for draft in first)]
    return [_addressed(draft, tenant) for draft in drafts]


def _addressed(draft: Draft, tenant: str) -> Draft:
    if draft.tenant == ALL_TENANTS:
        return draft._replace(tenant=tenancy.EVERYBODY)
    if not _is_shared(draft.model):
        return draft._replace(tenant=tenant)
    binding = current_registry().by_stream.get(draft.stream)
    if draft.kind != Event.BULK and (binding is None or _depends_on_tenant(binding)):
        # Project code may have added values to the data that only this tenant may see.
        return _resync(draft, tenancy.EVERYBODY)
    return draft._replace(tenant=tenancy.EVERYBODY)


def _is_shared(label: str) -> bool:
    try:
        return tenancy.is_shared(apps.get_model(label))
    except LookupError:
        return False


def _depends_on_tenant(binding: type[Any]) -> bool:
    """Return whether the data of a shared row may include rows that are not shared."""
    return bool(binding.runs_code()) or any(
        not tenancy.is_shared(field.remote_field.through) for field in binding.bound_fields() if field.many_to_many
    )


def reaches_other_tenants(table: type[models.Model], bound: type[models.Model]) -> bool:
    """Return whether a write to a table changes the data of another model's rows in every tenant.

    Only the rows of the present tenant can be queried.
    """
    try:
        return settings.TENANT is not None and tenancy.is_shared(table) and not tenancy.is_shared(bound)
    except Exception:  # A fault of the class is reported when the events are made.
        return False


def without_rows(
    drafts: Iterable[Draft], using: str, error: Exception | None = None, tenant: str = tenancy.EVERYBODY
) -> Sequence[Draft]:
    """Return one ``resync`` of all groups for each binding, in place of the given events.

    For each binding a fault is recorded, once per call.
    """
    found = []
    for stream, draft in {draft.stream: draft for draft in drafts}.items():
        binding = current_registry().by_stream.get(stream)
        if binding is not None:
            report_failure(binding, stream, draft.model, None, using, error or MixedTenantsError(using))
        found.append(_resync(draft, tenant))
    return found


def _resync(draft: Draft, tenant: str) -> Draft:
    changes = ((EVERY_GROUP, RESYNC),)
    return Draft(
        draft.stream, draft.model, "null", changes,
        version=draft.version, kind=Event.BULK, tenant=tenant, code=draft.code,
    )  # fmt: skip
