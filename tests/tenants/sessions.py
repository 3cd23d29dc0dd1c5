"""Steps about hosts, sessions and users."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import User

from declbind.live.consumers import BindingConsumer
from declbind.testing import Client, override_bindings
from tests.tenants.revocation import frames_after
from tests.tenants.site import PRIVATE, TENANTS, Result, allow, join, log_in, step, within


@step
def a_host_without_a_tenant_is_refused() -> Result:
    async def go() -> object:
        hosts = ("nobody.example.org", "acme.example.com", "", "public")
        return [await join("acme", host=host or "x y") for host in hosts]

    with override_bindings(PRIVATE):
        return async_to_sync(go)(), ["refused 4403"] * 4


@step
def a_session_is_valid_in_its_tenant_only() -> Result:
    """Try the cookie of each tenant on both hosts; user 1 may view in one tenant only."""
    allow("acme")
    cookies = {name: log_in(name) for name in TENANTS}

    async def go() -> object:
        return {f"{host} {of}": await join(host, cookies[of]) for host in TENANTS for of in TENANTS}

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    allow("acme", allowed=False)
    return seen, {"acme acme": "ok", "acme beta": "denied", "beta acme": "denied", "beta beta": "denied"}


@step
def a_user_of_another_schema_is_refused() -> Result:
    """Use a middleware without tenants: user 1 of the public schema is not user 1 of a tenant."""
    allow("acme")
    user = User.objects.get(pk=1)
    plain = BindingConsumer.as_asgi()

    async def go() -> object:
        named = Client(plain, user=user, tenant="acme")
        async with named:
            reply = await named.request("private", "subscribe", params={"room": "main"})
        return await join("acme", application=plain, user=user), reply["ok"]

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    allow("acme", allowed=False)
    return seen, ("refused 4403", True)


@step
def shared_users_are_the_same_in_all_tenants() -> Result:
    """Use a session of a shared user in all tenants, and end it in all of them."""
    if getattr(settings, "VARIANT", "") != "shared_users":
        return "", ""
    key = "s" * 32
    for name in TENANTS:
        allow(name)
    log_in("public", key)

    def act() -> None:
        with within("acme"):
            User.objects.filter(pk=1).update(is_active=False)

    with override_bindings(PRIVATE):
        seen = async_to_sync(frames_after)(act, **dict.fromkeys(TENANTS, key))
    return seen, {name: ["closed 4401"] for name in TENANTS}
