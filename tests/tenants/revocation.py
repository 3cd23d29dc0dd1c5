"""Steps about what ends sockets and subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone

from declbind.inbound.blocks import block, unblock
from declbind.inbound.revocation import kick
from declbind.live.hub import get_hub
from declbind.testing import override_bindings
from tests.tenants.site import (
    INVOICES,
    PRIVATE,
    TENANTS,
    Domain,
    Result,
    Tenant,
    allow,
    ask,
    client,
    join,
    log_in,
    received_by,
    step,
    within,
    write,
)


async def frames_after(act: Callable[[], object], **cookies: str) -> dict[str, object]:
    """Return what the sockets of user 1 of both tenants, with the same session key, were sent because of an act."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for name in TENANTS:
            one = client(name, cookies[name])
            await stack.enter_async_context(one)
            reply = await one.request("private", "subscribe", params={"room": "main"})
            assert reply["ok"], reply
            found[name] = one
        await ask(act)
        return {name: await received_by(one) for name, one in found.items()}


def _check_of_acme(act: Callable[[], object], acme: object) -> Result:
    """Return what both sockets were sent after something happened to user 1 of one tenant, and what is expected."""
    key = "k" * 32
    for name in TENANTS:
        allow(name)
        with within(name):
            SessionStore(key).delete()
    cookies = {name: log_in(name, key) for name in TENANTS}
    with override_bindings(PRIVATE):
        seen = async_to_sync(frames_after)(act, **cookies)
    for name in TENANTS:
        allow(name, allowed=False)
    return seen, {"acme": acme, "beta": []}


def _lose_under_load(lose: Callable[[], object]) -> object:
    """Take the permission of user 1 of one tenant while rows are stored in both, a hundred a second.

    Return how the socket of that tenant ended, whether it was sent something after the loss, and whether the socket of
    the other tenant was sent all of its rows, once and in order.
    """
    counts = dict.fromkeys(TENANTS, 0)
    enough, stop = threading.Event(), threading.Event()
    lost: list[int] = []

    def load() -> None:
        while not stop.wait(0.01):
            for name in TENANTS:
                write(name, f"{counts[name]}")
                counts[name] += 1
            if counts["acme"] >= (lost[0] + 10 if lost else 10):
                enough.set()
        connection.close()

    def lose_and_count() -> None:
        with within("acme"), transaction.atomic():
            lose()
        lost.append(counts["acme"] + 1)
        enough.clear()

    async def go() -> object:
        writer = threading.Thread(target=load)
        async with client("acme", cookies["acme"]) as mine, client("beta", cookies["beta"]) as other:
            for one in (mine, other):
                assert (await one.request("private", "subscribe", params={"room": "main"}))["ok"]
            writer.start()
            try:
                for act in (lose_and_count, lambda: None):
                    assert await asyncio.to_thread(enough.wait, 30)
                    await ask(act)
            finally:
                stop.set()
                await asyncio.to_thread(writer.join)
            received, elsewhere = await received_by(mine), await received_by(other)
        # The row that was under way when the right was lost may have been committed before or after it.
        late = [text for text in received if isinstance(text, str) and text.isdigit() and int(text) > lost[0]]
        return received[-1], late, elsewhere == [str(number) for number in range(counts["beta"])]

    cookies = {name: log_in(name) for name in TENANTS}
    for name in TENANTS:
        allow(name)
    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    for name in TENANTS:
        allow(name, allowed=False)
    return seen


def _deactivate() -> None:
    User.objects.filter(pk=1).update(is_active=False)


@step
def a_loss_under_load_is_exact_and_concerns_one_tenant() -> Result:
    seen = {
        "permission": _lose_under_load(lambda: allow("acme", allowed=False)),
        "session": _lose_under_load(lambda: Session.objects.all().delete()),
        "user": _lose_under_load(_deactivate),
    }
    with within("acme"):
        User.objects.filter(pk=1).update(is_active=True)
    over: object = ("closed 4401", [], True)
    return seen, {"permission": ("closed", [], True), "session": over, "user": over}


@step
def a_logout_ends_the_sockets_of_its_tenant() -> Result:
    """Log out where both tenants have the same user key and the same session key."""

    def act() -> None:
        with within("acme"):
            session, user = SessionStore("k" * 32), User.objects.get(pk=1)
            user_logged_out.send(User, request=SimpleNamespace(session=session), user=user)
            session.delete()

    return _check_of_acme(act, ["closed 4401"])


@step
def a_deleted_session_ends_the_sockets_of_its_tenant() -> Result:
    def act() -> None:
        with within("acme"):
            Session.objects.filter(pk="k" * 32).delete()

    return _check_of_acme(act, ["closed 4401"])


@step
def a_lost_permission_ends_subscriptions_of_its_tenant() -> Result:
    return _check_of_acme(lambda: allow("acme", allowed=False), ["closed"])


@step
def a_deactivation_ends_the_sockets_of_its_tenant() -> Result:
    def act() -> None:
        with within("acme"):
            User.objects.filter(pk=1).update(is_active=False)

    seen = _check_of_acme(act, ["closed 4401"])
    with within("acme"):
        User.objects.filter(pk=1).update(is_active=True)
    return seen


@step
def an_expired_session_is_found_in_its_tenant() -> Result:
    """Let a session end whose key another tenant has too, with a later end."""
    found: list[str] = []

    async def look() -> None:
        hub = await get_hub()
        over = await hub.session_ends.find_over(hub.sockets(), hub.thread, 1e9)
        found.extend(sorted(socket.identity.tenant for socket in over))

    def act() -> None:
        with within("acme"):
            Session.objects.filter(pk="k" * 32).update(expire_date=timezone.now())
        async_to_sync(look)()

    _check_of_acme(act, [])
    return found, ["acme"]


@step
def a_kick_ends_the_sockets_of_its_tenant() -> Result:
    def act() -> None:
        with within("acme"):
            kick(user=1)

    return _check_of_acme(act, ["closed 1012"])


@step
def a_block_keeps_out_the_user_of_its_tenant() -> Result:
    for name in TENANTS:
        allow(name)
    with within("acme"):
        block("1", timedelta(hours=1))
    cookies = {name: log_in(name) for name in TENANTS}

    async def go() -> object:
        return [await join(name, cookies[name]) for name in TENANTS]

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    with within("acme"):
        is_over = unblock("1")
    for name in TENANTS:
        allow(name, allowed=False)
    return (seen, is_over), (["closed 4403", "ok"], True)


@step
def a_permission_change_of_another_tenant_does_not_end_a_replay() -> Result:
    """Change user 1 of one tenant: user 1 of the other is not affected, and is not sent anything about it."""
    for name in TENANTS:
        allow(name)
    cookies = {name: log_in(name) for name in TENANTS}

    def change() -> None:
        with within("acme"):
            User.objects.get(pk=1).groups.set([Group.objects.get_or_create(name="g")[0]])
            kick(user=1)

    async def go() -> object:
        replies = {}
        for name in TENANTS:
            async with client(name, cookies[name]) as one:
                replies[name] = await one.request("private", "subscribe", params={"room": "main"})
        await ask(change)
        # A kick ends the sockets that are open when the hub reads it, so the next ones are opened after that.
        await (await get_hub()).settle()
        found = []
        for name, reply in replies.items():
            await ask(write, name)
            since = {key: reply[key] for key in ("epoch", "offset", "resume")}
            async with client(name, cookies[name]) as one:
                await one.request("private", "subscribe", params={"room": "main"}, since=since)
                found.append(await received_by(one))
        return found

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    for name in TENANTS:
        allow(name, allowed=False)
    return seen, [["resync"], ["of beta"]]


@step
def a_dropped_tenant_does_not_affect_the_others() -> Result:
    """Drop a tenant: its sockets are closed, although the public schema has a user with the same key."""
    tenant = Tenant(schema_name="gone", name="gone")
    tenant.save(verbosity=0)
    Domain.objects.create(domain="gone.example.org", tenant=tenant)

    async def go() -> object:
        async with client("gone") as gone, client("acme") as acme:
            for one in (gone, acme):
                await one.request("invoices", "subscribe", params={"room": "main"})
            await ask(tenant.delete, force_drop=True)
            hub = await get_hub()
            refused = await gone.request("invoices", "create", data={"text": "x"})
            await hub.revalidate(hub.sockets())
            await ask(write, "acme")
            return refused["error"]["code"], await received_by(gone), await received_by(acme)

    with override_bindings(INVOICES):
        return async_to_sync(go)(), ("denied", ["closed 4401"], ["of acme"])
