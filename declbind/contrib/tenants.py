"""Tenants of django-tenants, and a middleware that loads the user of a socket in the socket's tenant.

    DECLBIND = {"TENANT": "declbind.contrib.tenants.DjangoTenants"}

    "websocket": TenantAuthMiddlewareStack(URLRouter(websocket_urlpatterns))

The middleware works with any class that ``DECLBIND["TENANT"]`` names. It replaces Channels' ``AuthMiddlewareStack``,
which loads sessions and users before the tenant is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

from channels.db import database_sync_to_async
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import DisallowedHost
from django.db import connections, models
from django.http import HttpRequest

from declbind import tenancy
from declbind.asgi_types import Receive, Scope, Send
from declbind.django_types import User
from declbind.inbound import permissions
from declbind.tenancy import TenantError


class DjangoTenants:
    """The schemas of django-tenants. The name of a tenant is that of its schema, including the public one.

    The host of a socket determines its tenant, as ``TenantMainMiddleware`` does for requests. Override ``hostname`` if
    the project finds the host in another way, or ``of_scope`` if the tenant does not depend on the host.
    """

    def of_connection(self, alias: str) -> str:
        """Return the schema of a connection."""
        return str(getattr(connections[alias], "schema_name", None) or "")

    def of_scope(self, scope: Scope) -> str:
        """Return the schema of the requested domain; ``""`` for an unknown one."""
        from django_tenants.utils import get_public_schema_name, get_tenant_domain_model, schema_context

        hostname = self.hostname(scope)
        if not hostname:
            return ""
        with schema_context(get_public_schema_name()):
            domain = get_tenant_domain_model().objects.select_related("tenant").filter(domain=hostname).first()
        return "" if domain is None else str(domain.tenant.schema_name)

    def hostname(self, scope: Scope) -> str:
        """Return the requested domain; ``""`` if ``ALLOWED_HOSTS`` does not allow it."""
        from django_tenants.middleware.main import TenantMainMiddleware

        request = HttpRequest()
        for name, key in ((b"host", "HTTP_HOST"), (b"x-forwarded-host", "HTTP_X_FORWARDED_HOST")):
            values = [value.decode("latin-1") for header, value in scope.get("headers", ()) if header.lower() == name]
            if len(values) > 1:
                return ""
            if values:
                request.META[key] = values[0]
        if "HTTP_HOST" not in request.META:
            return ""
        try:
            return str(TenantMainMiddleware.hostname_from_request(request))
        except DisallowedHost:
            return ""

    @contextlib.contextmanager
    def activate(self, tenant: str) -> Iterator[None]:
        """Put the schema of a tenant first in the search path of this thread's connection, inside the block.

        Raises:
            TenantError: The tenant or its schema does not exist. PostgreSQL would skip it and read the public one.
        """
        from django_tenants.utils import (
            get_public_schema_name,
            get_tenant_database_alias,
            get_tenant_model,
            schema_context,
            tenant_context,
        )

        connection: Any = connections[get_tenant_database_alias()]
        public = get_public_schema_name()
        if connection.schema_name == tenant and connection.include_public_schema:
            yield
            return
        with schema_context(public):
            found = None if tenant == public else get_tenant_model().objects.filter(schema_name=tenant).first()
        if found is None and tenant != public:
            raise TenantError(f"There is no tenant whose schema is {tenant!r}.")
        with schema_context(public) if found is None else tenant_context(found):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_schema()")
                (schema,) = cursor.fetchone()
            if schema != tenant:
                raise TenantError(f"There is no schema {tenant!r}.")
            yield

    def is_shared(self, model: type[models.Model]) -> bool:
        """Return whether the table of a model is only in the public schema, and so the same for all tenants."""
        from django_tenants.routers import TenantSyncRouter

        label = model._meta.app_label
        return not any(TenantSyncRouter().app_in_list(label, apps) for apps in _apps_of_tenants())

    def sees_all(self, tenant: str) -> bool:
        """Return whether a tenant is the public schema, whose operators see all tenants."""
        from django_tenants.utils import get_public_schema_name

        return tenant == str(get_public_schema_name())


def _apps_of_tenants() -> list[Sequence[str]]:
    from django_tenants.utils import get_public_schema_name, get_tenant_types, has_multi_type_tenants

    if not has_multi_type_tenants():
        return [getattr(settings, "TENANT_APPS", ())]
    return [kind["APPS"] for name, kind in get_tenant_types().items() if name != get_public_schema_name()]


Application = Callable[[dict[str, object], Receive, Send], Awaitable[None]]


class TenantAuthMiddleware:
    """An ASGI middleware that adds the tenant, and the session and user of the cookie, to the scope.

    The session and the user are loaded while the tenant is active. The scope of a connection without a tenant gets an
    anonymous user and no tenant, and declbind refuses it.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the keys to the scope and serve the connection."""
        found = await database_sync_to_async(_authenticate)(scope)
        await self.inner({**scope, **found}, receive, send)


def _authenticate(scope: Scope) -> dict[str, object]:
    try:
        tenant = tenancy.of_scope(scope)
        with tenancy.activate(tenant):
            key = scope.get("cookies", {}).get(settings.SESSION_COOKIE_NAME)
            session = import_module(settings.SESSION_ENGINE).SessionStore(key)
            return {tenancy.SCOPE_KEY: tenant, "session": session, "user": _load_user(session, tenant)}
    except TenantError:
        return {"user": AnonymousUser()}


def _load_user(session: SessionBase, tenant: str) -> User:
    """Return the user who logged in with a session, if the session is valid for that user of this tenant."""
    user_pk = session.get(SESSION_KEY)
    if user_pk is None or not session.session_key:
        return AnonymousUser()
    identity = permissions.Identity(
        user_pk=str(user_pk),
        session_key=session.session_key,
        session_hash=session.get(HASH_SESSION_KEY),
        backend=session.get(BACKEND_SESSION_KEY),
        tenant=tenant,
    )
    return permissions.load_current_user(identity) or AnonymousUser()


def TenantAuthMiddlewareStack(inner: Application) -> Application:
    """Return an application whose scope has the cookies, the tenant, its session and its user."""
    stack: Application = CookieMiddleware(TenantAuthMiddleware(inner))
    return stack


__all__ = ["DjangoTenants", "TenantAuthMiddleware", "TenantAuthMiddlewareStack"]
