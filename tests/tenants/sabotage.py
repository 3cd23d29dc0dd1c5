"""Deliberate faults, each of which a step must detect."""

from __future__ import annotations

import contextlib
import io

from django_tenants.utils import schema_context

from admin_ui.traffic.stream import Viewer
from declbind import tokens
from declbind.console import shown
from declbind.contrib.tenants import DjangoTenants
from declbind.core import hub as core
from declbind.core.recent import Recent
from declbind.inbound import idempotency, permissions
from declbind.live import session_ends, snapshots
from declbind.live.proofs import Holder
from declbind.live.pump import Pump
from declbind.outbound import catalog, log
from tests.tenants.site import TENANTS


def sabotage(what: str) -> None:
    """Break one thing on purpose."""
    if what == "constant":
        DjangoTenants.of_connection = lambda self, alias: "acme"  # type: ignore[method-assign]
    elif what == "dispatch":
        core.Hub._groups_of = lambda self, event: tuple(self._by_tenant.values())  # type: ignore[method-assign]
        core.LogEvent.is_for = lambda self, tenant: True  # type: ignore[method-assign]
    elif what == "barrier":

        async def ignore(self, event):
            return None

        Pump._obey = ignore  # type: ignore[method-assign]
    elif what == "replay":
        since, read = Recent.since, log.read

        def since_of_any(self, stream, offset, tenant=""):
            found = [since(self, stream, offset, name) for name in TENANTS]
            return None if None in found else [event for some in found for event in some or ()]

        Recent.since = since_of_any  # type: ignore[method-assign]
        log.read = lambda after, limit, using, stream=None, tenant=None: read(after, limit, using, stream)
        core.LogEvent.is_for = lambda self, tenant: True  # type: ignore[method-assign]
    elif what == "proofs":
        Holder._statement = lambda self, offset: f"{self.stream} {self.group} {offset}"  # type: ignore[method-assign]
    elif what == "actors":
        idempotency.name_actor = lambda user, connection_id, tenant="": f"user:{user.pk}"
    elif what == "controls":
        from declbind import tenancy

        tenancy.concerned = lambda model, using: ""
    elif what == "sessions":
        session_ends._load_ends = lambda sessions: {
            (tenant, key): end for tenant, key in sessions for end in permissions.load_session_ends([key]).values()
        }
    elif what == "tokens":
        tokens.tenant_of_users = lambda: ""
    elif what == "facts":
        fetch = catalog._fetch

        def fetch_as_it_is(connection, sql, table):
            cursor, connection.cursor = connection.cursor, io.StringIO
            try:
                return fetch(connection, sql, table)
            finally:
                connection.cursor = cursor

        catalog._fetch = fetch_as_it_is
    elif what == "console":
        shown.viewed_tenant = lambda: None
    elif what == "push":
        Viewer.ask = lambda self, hub, function, *args: hub.requests.run(function, *args)  # type: ignore[method-assign]
    elif what == "sharing":
        take = snapshots.SnapshotDesk.take

        async def take_of_any(self, bound, group, params, using, tenant=""):
            before = next(iter(self._last), None)
            return await take(self, bound, group, params, using, before[0] if before else tenant)

        snapshots.SnapshotDesk.take = take_of_any  # type: ignore[method-assign]
    elif what == "activation":

        @contextlib.contextmanager
        def activate(self, tenant):
            with schema_context("acme"):
                yield

        from declbind import tenancy

        DjangoTenants.activate = activate  # type: ignore[method-assign]
        tenancy._name = lambda tenancy, alias: None
    elif what:
        raise ValueError(what)
