"""Tenants by host name, for the setting ``DECLBIND["TENANT"]``."""

import contextlib
from collections.abc import Generator, Mapping
from contextvars import ContextVar

from declbind.tenancy import Tenancy

current: ContextVar[str] = ContextVar("current", default="")


class HostTenants:
    """The tenant of a socket is the host that it asked for."""

    def of_connection(self, alias: str) -> str:
        """Return the tenant that is active."""
        return current.get()

    def of_scope(self, scope: Mapping[str, object]) -> str:
        """Return the host of a socket."""
        return str(scope.get("host", ""))

    @contextlib.contextmanager
    def activate(self, tenant: str) -> Generator[None]:
        """Make a tenant the active one inside the block."""
        token = current.set(tenant)
        try:
            yield
        finally:
            current.reset(token)


tenancy: Tenancy = HostTenants()
