"""The rows of declbind's tables that an operator may see, which are those of the tenant whose admin it is.

Operators of the public schema, and users of the command line, see the rows of all tenants. Every module of the console
reads these tables through ``shown``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

from django.db import models

from declbind import tenancy
from declbind.models import Activity, Block, Connection, Event, Traffic
from declbind.registry import database_alias

Row = TypeVar("Row", Event, Traffic, Connection, Block)

#: Whether the caller is a user of the command line, who can read the database in any case.
_at_a_shell: ContextVar[bool] = ContextVar("declbind_at_a_shell", default=False)


@contextlib.contextmanager
def at_a_shell(tenant: str = "") -> Iterator[None]:
    """Show a user of the command line the rows of one tenant if it is named, otherwise of all, inside the block."""
    token = _at_a_shell.set(True)
    try:
        with tenancy.activate(tenant) if tenant else contextlib.nullcontext():
            yield
    finally:
        _at_a_shell.reset(token)


def viewed_tenant() -> str | None:
    """Return the tenant whose rows are shown.

    ``None`` means all tenants. "" means no tenant: only rows that are for all tenants are shown.
    """
    if not tenancy.is_on():
        return None
    try:
        tenant = tenancy.of_connection(database_alias())
    except tenancy.TenantError:
        return None if _at_a_shell.get() else tenancy.EVERYBODY
    return None if tenancy.sees_all(tenant) else tenant


def sees_all() -> bool:
    """Return whether the operator sees all tenants and may edit what they share."""
    return viewed_tenant() is None


def shown_activity(using: str) -> models.QuerySet[Activity]:
    """Return the counts of the processes.

    They are counts of all tenants together, so there are none if only one tenant is shown.
    """
    rows = Activity.objects.using(using)
    return rows if sees_all() else rows.none()


def shown(model: type[Row], using: str) -> models.QuerySet[Row]:
    """Return the rows of one of declbind's tables that may be shown here.

    The events of a tenant include events for all tenants. Rows of the other tables belong to one tenant.
    """
    rows = model._default_manager.using(using)
    tenant = viewed_tenant()
    if tenant is None:
        return rows
    if model is Event:
        # Marks of triggers are left out, because they hold a row's values and do not name a tenant.
        return rows.filter(tenant__in=(tenancy.EVERYBODY, tenant)).exclude(kind=Event.MARK)
    return rows.filter(tenant=tenant) if tenant else rows.none()
