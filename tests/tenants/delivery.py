"""Steps about what sockets are sent: events, snapshots, replays, rows that all tenants share."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import async_to_sync

from declbind.live.hub import get_hub
from declbind.testing import override_bindings
from tests.tenants.site import (
    ALL,
    COUNTRIES,
    INVOICES,
    TAGGED,
    TENANTS,
    Country,
    Result,
    ask,
    client,
    received_by,
    step,
    within,
    write,
)


@step
def each_tenant_is_sent_its_own_events() -> Result:
    """Return what clients of both tenants and of the public schema got, by explicit and by automatic subscriptions."""

    async def go() -> object:
        async with client("acme") as acme, client("beta") as beta, client("public") as public:
            for one in (acme, beta):
                await one.request("invoices", "subscribe", params={"room": "main"})
            for name in TENANTS:
                await ask(write, name)
            return [await received_by(one) for one in (acme, beta, public)]

    with override_bindings(INVOICES, ALL):
        return async_to_sync(go)(), [["of acme"] * 2, ["of beta"] * 2, []]


@step
def a_snapshot_has_the_rows_of_its_tenant() -> Result:
    """Ask in both tenants at the same time, when one read could serve both."""
    for name in TENANTS:
        write(name)

    async def go() -> object:
        async with client("acme") as acme, client("beta") as beta, client("acme") as other:
            clients = (acme, beta, other)
            await asyncio.gather(
                *(one.request("invoices", "subscribe", params={"room": "main"}, snapshot=True) for one in clients)
            )
            return [await received_by(one) for one in clients]

    with override_bindings(INVOICES):
        own = {name: [("snapshot", 1, f"of {name}")] for name in TENANTS}
        return async_to_sync(go)(), [own["acme"], own["beta"], own["acme"]]


async def resume(first: str, second: str, forget: bool) -> Any:
    """Subscribe in one tenant, then resume in another one with the offset and the proof of the first."""
    async with client(first) as one:
        reply = await one.request("invoices", "subscribe", params={"room": "main"})
    for name in TENANTS:
        await ask(write, name)
    if forget:
        hub = await get_hub()
        await hub.settle()
        hub.forget_recent()
    since = {key: reply[key] for key in ("epoch", "offset", "resume")}
    async with client(second) as one:
        await one.request("invoices", "subscribe", params={"room": "main"}, since=since)
        return await received_by(one)


@step
def a_replay_has_the_events_of_its_tenant() -> Result:
    """Replay from memory and from the log."""

    async def go() -> object:
        return [await resume("acme", "acme", False), await resume("beta", "beta", True)]

    with override_bindings(INVOICES):
        return async_to_sync(go)(), [["of acme"], ["of beta"]]


@step
def a_proof_of_another_tenant_is_refused() -> Result:
    with override_bindings(INVOICES):
        return async_to_sync(resume)("acme", "beta", False), ["resync"]


@step
def shared_rows_are_sent_to_all_tenants() -> Result:
    async def go() -> object:
        async with client("acme") as acme, client("beta") as beta:
            for one in (acme, beta):
                await one.request("countries", "subscribe", params={})
            with within("acme"):
                await ask(Country.objects.create, name="Chile")
            return [await received_by(one) for one in (acme, beta)]

    with override_bindings(COUNTRIES):
        return async_to_sync(go)(), [["Chile"], ["Chile"]]


@step
def a_change_of_a_shared_row_resyncs_the_rows_that_show_it() -> Result:
    """Make the change in a tenant, and in the public schema, which lacks the table of these rows."""

    def rename(name: str, text: str) -> None:
        with within(name):
            Country.objects.filter(pk=country.pk).update(name=text)

    with override_bindings(TAGGED):
        country = Country.objects.create(name="Peru")
        for name in TENANTS:
            write(name, country=country)

        async def go() -> object:
            async with client("acme") as acme, client("beta") as beta:
                for one in (acme, beta):
                    await one.request("tagged", "subscribe", params={})
                await ask(rename, "acme", "A")
                await ask(rename, "public", "B")
                return [await received_by(one) for one in (acme, beta)]

        return async_to_sync(go)(), [["resync"] * 2] * 2
