"""Steps about tokens."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth.models import User
from django.test import override_settings

from declbind import tokens
from declbind.testing import Client, override_bindings
from tests.tenants.site import PRIVATE, TENANTS, Result, allow, client, step, within


async def _by_token(token: str) -> dict[str, Any]:
    """Return the results of a token in both tenants: in the handshake, and in a request on an open socket."""
    found = {}
    for name in TENANTS:
        one = client(name, token=token)
        try:
            at_once = "ok" if await one.connect() and (await _ask_private(one)) else "denied"
        except ConnectionError:
            at_once = f"closed {one.close_code}"
        await one.disconnect()
        async with client(name) as one:
            await one.send({"stream": "private", "payload": {"action": "authenticate", "token": token, "ref": "t"}})
            reply = (await one.receive())["payload"]
        found[name] = at_once, reply["ok"] or reply["error"]["code"]
    return found


async def _ask_private(one: Client) -> bool:
    return bool((await one.request("private", "subscribe", params={"room": "main"}))["ok"])


ONE_TENANT = {"acme": ("ok", True), "beta": ("closed 4401", "denied")}


@step
def a_token_is_valid_in_its_tenant_only() -> Result:
    """Give user 1 of both tenants the same password hash and the permission."""
    for name in TENANTS:
        allow(name)
        with within(name):
            User.objects.filter(pk=1).update(password="!same", is_active=True)
    with within("acme"):
        token = tokens.issue(User.objects.get(pk=1))
    with override_bindings(PRIVATE):
        seen = async_to_sync(_by_token)(token)
    for name in TENANTS:
        allow(name, allowed=False)
        with within(name):
            User.objects.filter(pk=1).update(password=f"!{name}")
    return seen, ONE_TENANT


def _web_token(**claims: object) -> str:
    import jwt

    return jwt.encode({"sub": "1", "exp": int(time.time()) + 60, **claims}, "k" * 32, algorithm="HS256")


@step
def a_web_token_names_its_tenant() -> Result:
    """Refuse a token that names no tenant, and every token if no claim is configured."""
    for name in TENANTS:
        allow(name)
    config = {"key": "k" * 32, "algorithms": ["HS256"]}
    seen = []
    for more, claims in (({"tenant_claim": "t"}, {"t": "acme"}), ({"tenant_claim": "t"}, {}), ({}, {"t": "acme"})):
        with override_settings(DECLBIND={**settings.DECLBIND, "JWT": {**config, **more}}), override_bindings(PRIVATE):
            seen.append(async_to_sync(_by_token)(_web_token(**claims)))
    for name in TENANTS:
        allow(name, allowed=False)
    refused = dict.fromkeys(TENANTS, ("closed 4401", "denied"))
    return seen, [ONE_TENANT, refused, refused]


async def find_user(token: str, scope: object) -> object:
    """Return the user with this name in the tenant of the scope, as a callable of a project would."""
    user = await User.objects.filter(username=token).afirst()
    return None if user is None else (user, None)


@step
def a_callable_finds_users_of_the_tenant() -> Result:
    """Use a coroutine function, whose queries run in the tenant."""
    for name in TENANTS:
        allow(name)
    options = {**settings.DECLBIND, "AUTHENTICATE": f"{__spec__.name}.find_user"}
    with override_settings(DECLBIND=options), override_bindings(PRIVATE):
        seen = async_to_sync(_by_token)("of acme")
    for name in TENANTS:
        allow(name, allowed=False)
    return seen, ONE_TENANT
