"""The rows of declbind's tables that an operator may see: those of the tenant whose admin it is.

The public schema's operators, and people at a shell, see the rows of all tenants. Every question of the console reads
these tables through ``shown``.
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

#: Whether a person at a shell asks, who can read the database in any case.
_at_a_shell: ContextVar[bool] = ContextVar("declbind_at_a_shell", default=False)


@contextlib.contextmanager
def at_a_shell(tenant: str = "") -> Iterator[None]:
    """Answer questions inside the block for a person at a shell: about one tenant if it is named, else about all."""
    token = _at_a_shell.set(True)
    try:
        with tenancy.activate(tenant) if tenant else contextlib.nullcontext():
            yield
    finally:
        _at_a_shell.reset(token)


def viewed_tenant() -> str | None:
    """Return the tenant whose rows are shown; ``None`` for all, and "" for none but what is for all tenants."""
    if not tenancy.is_on():
        return None
    try:
        tenant = tenancy.of_connection(database_alias())
    except tenancy.TenantError:
        return None if _at_a_shell.get() else tenancy.EVERYBODY
    return None if tenancy.sees_all(tenant) else tenant


def sees_all() -> bool:
    """Return whether the operator sees all tenants, and may edit what they have in common."""
    return viewed_tenant() is None


def shown_activity(using: str) -> models.QuerySet[Activity]:
    """Return the counts of the processes, which are of all tenants together: none where only one is shown."""
    rows = Activity.objects.using(using)
    return rows if sees_all() else rows.none()


def shown(model: type[Row], using: str) -> models.QuerySet[Row]:
    """Return the rows of one of declbind's tables that may be shown here.

    Events for all tenants are among those of each. All else belongs to one.
    """
    rows = model._default_manager.using(using)
    tenant = viewed_tenant()
    if tenant is None:
        return rows
    if model is Event:
        # What a trigger has noted has the row's values, and nobody knows whose they are.
        return rows.filter(tenant__in=(tenancy.EVERYBODY, tenant)).exclude(kind=Event.MARK)
    return rows.filter(tenant=tenant) if tenant else rows.none()
