"""Checks of databases that give each tenant a schema of its own (E008)."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error
from django.db import connections

from declbind.conf import settings
from declbind.outbound import tenants


def check_tenants(**kwargs: Any) -> list[CheckMessage]:
    """Check that no database switches schemas, unless the settings say by which tenant (E008). Makes no query."""
    if settings.TENANT is not None:
        return []
    found = [
        f"DATABASES[{alias!r}] has the backend {connections.settings[alias]['ENGINE']!r}, which switches schemas."
        for alias in connections
        if tenants.switches_schemas(alias)
    ]
    if not found:
        found = [f"INSTALLED_APPS has {name!r}, which switches schemas." for name in tenants.find_apps()[:1]]
    return [
        Error(
            f"{text} declbind has one event log, and cannot tell the rows of one tenant from those of another. Writes "
            "are not sent row by row: subscribers are sent a `resync` for each, and each binding reports a fault.",
            hint='Name the callable that returns the tenant in DECLBIND["TENANT"], or give declbind a database whose '
            "backend does not switch schemas. Use a site of its own for each tenant if neither is possible.",
            id="declbind.E008",
        )
        for text in found
    ]
