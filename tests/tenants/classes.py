"""Classes for ``DECLBIND["TENANT"]``: a correct one, and deliberately wrong ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

#: The tenant that code of the site is in; "" outside of all.
current: ContextVar[str] = ContextVar("tests_tenant", default="")


class Named:
    """Tenants that a context variable names, in one schema, as on a site with a column for the tenant."""

    def of_connection(self, alias: str) -> str:
        """Return the tenant of the context."""
        return current.get()

    def of_scope(self, scope: Mapping[str, Any]) -> str:
        """Return the first label of a host that is below ``example.org``."""
        hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
        name, _, domain = hosts[0].partition(".") if hosts else ("", "", "")
        return name if domain == "example.org" else ""

    @contextlib.contextmanager
    def activate(self, tenant: str) -> Iterator[None]:
        """Be in a tenant."""
        token = current.set(tenant)
        try:
            yield
        finally:
            current.reset(token)


class Separate(Named):
    """The same, with users of its own for each tenant; models of the app ``sites_shared`` are shared."""

    shared: frozenset[str] = frozenset()

    def is_shared(self, model: Any) -> bool:
        """Return whether a test has named a model as shared."""
        return model._meta.label_lower in self.shared

    def sees_all(self, tenant: str) -> bool:
        """Return whether operators of a tenant see all."""
        return tenant == "public"


class Constant(Separate):
    """Negative control: all connections are in the same tenant."""

    def of_connection(self, alias: str) -> str:
        """Return one name."""
        return "acme"


class Stuck(Separate):
    """Negative control: the previous tenant is not restored."""

    @contextlib.contextmanager
    def activate(self, tenant: str) -> Iterator[None]:
        """Be in a tenant for ever."""
        current.set(tenant)
        yield


class Idle(Separate):
    """Negative control: no tenant is activated."""

    @contextlib.contextmanager
    def activate(self, tenant: str) -> Iterator[None]:
        """Do nothing."""
        yield


class Lacking:
    """A class without two of the three methods."""

    def of_scope(self, scope: Mapping[str, object]) -> str:
        """Return a name."""
        return "acme"


def separate(name: str = "Separate") -> dict[str, object]:
    """Return the settings that name one of the classes here."""
    return {"TENANT": f"{__name__}.{name}"}


@contextlib.contextmanager
def inside(tenant: str) -> Iterator[None]:
    """Use a tenant inside the block, as the middleware of a site does."""
    token = current.set(tenant)
    try:
        yield
    finally:
        current.reset(token)
