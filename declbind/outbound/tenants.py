"""Database backends that give each tenant a schema of its own, and what is captured with them.

One log and one key would stand for rows of several schemas. Subscribers of one tenant would be sent the rows of all. So
on such a database no row is sent: the bindings of each write get a fault, and their groups a ``resync``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.db import connections

from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.models import Event
from declbind.registry import current_registry

from .drafts import report_failure
from .entries import Draft

#: The packages that have such a backend. A name that begins with one of these and an underscore counts as well.
PACKAGES = ("django_tenants", "tenant_schemas", "django_pgschemas")
#: The methods by which a connection of such a backend changes its schema.
METHODS = ("set_schema", "set_tenant")


class MixedTenantsError(Exception):
    """A write whose rows cannot be told from those of other tenants."""

    def __init__(self, using: str) -> None:
        engine = type(connections[using]).__module__.removesuffix(".base")
        super().__init__(
            f"Database {using!r} has the backend {engine!r}, which switches schemas. declbind cannot tell the rows of "
            "one tenant from those of another, and sends none of them."
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
    """Return whether rows of several tenants would come into one log."""
    return switches_schemas(using)


def without_rows(drafts: Sequence[Draft], using: str) -> Sequence[Draft]:
    """Return the events that may be sent in the place of others: for each binding a ``resync`` of all its groups.

    The fault of the binding is recorded, once for each call.
    """
    found = []
    for stream, draft in {draft.stream: draft for draft in drafts}.items():
        binding = current_registry().by_stream.get(stream)
        if binding is not None:
            report_failure(binding, stream, draft.model, None, using, MixedTenantsError(using))
        changes = ((EVERY_GROUP, RESYNC),)
        found.append(Draft(stream, draft.model, "null", changes, version=draft.version, kind=Event.BULK))
    return found
