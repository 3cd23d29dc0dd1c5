"""Steps about what clients write."""

from __future__ import annotations

import asyncio
import contextlib

from asgiref.sync import async_to_sync
from django.db import connection

from declbind.live.hub import get_hub
from declbind.testing import override_bindings
from tests.tenants.site import INVOICES, TAGGED, Result, Tag, ask, client, log_in, step, texts_of, within, write


@step
def clients_write_rows_of_their_tenant() -> Result:
    """Use a key that exists in both tenants, a key that exists in one, and the same idempotency key in both."""
    write("acme")
    for text in ("of beta", "of beta"):
        write("beta", text)

    async def go() -> object:
        codes: list[object] = []
        async with client("acme") as acme, client("beta") as beta:
            for action, pk in (("update", 1), ("update", 2), ("delete", 2)):
                reply = await acme.request("invoices", action, pk=pk, data={"text": "new"})
                codes.append(reply["ok"] or reply["error"]["code"])
            for one in (acme, beta):
                reply = await one.request("invoices", "create", data={"text": "made"}, key="k")
                codes.append(reply["pk"])
        return codes

    with override_bindings(INVOICES):
        codes = async_to_sync(go)()
    seen = codes, texts_of("acme"), texts_of("beta")
    return seen, ([True, "not_found", "not_found", 2, 3], ["new", "made"], ["of beta", "of beta", "made"])


@step
def an_idempotency_key_counts_in_its_tenant_only() -> Result:
    """Let user 1 of each tenant use the same key."""

    async def go() -> object:
        found = []
        for name in ("acme", "beta", "acme"):
            async with client(name, await ask(log_in, name)) as one:
                reply = await one.request("invoices", "create", data={"text": f"of {name}"}, key="k")
                found.append(reply["ok"])
        return found

    with override_bindings(INVOICES):
        return (async_to_sync(go)(), texts_of("acme"), texts_of("beta")), ([True] * 3, ["of acme"], ["of beta"])


@step
def related_rows_of_another_tenant_are_refused() -> Result:
    with within("beta"):
        Tag.objects.create(word="of beta")

    async def go() -> object:
        async with client("acme") as one:
            return (await one.request("tagged", "create", data={"text": "x", "tags": [1]}))["error"]["code"]

    with override_bindings(TAGGED):
        return (async_to_sync(go)(), texts_of("acme")), ("invalid", [])


@step
def threads_return_to_the_public_schema() -> Result:
    """Ask the threads after requests of both tenants, some of which failed."""

    def fail(*args: object) -> None:
        raise ZeroDivisionError

    async def go() -> object:
        hub = await get_hub()
        async with client("acme") as acme, client("beta") as beta:
            for one in (acme, beta):
                await asyncio.gather(
                    *(one.request("invoices", "create", data={"text": "x" * size}) for size in (1, 60, 1, 60))
                )
            from declbind import tenancy

            for _ in range(8):
                with contextlib.suppress(ZeroDivisionError):
                    await hub.requests.run(tenancy.run_in, "acme", fail)
        names = [await hub.requests.run(lambda: connection.schema_name) for _ in range(16)]  # type: ignore[attr-defined]
        return sorted({*names, await hub.thread.run(lambda: connection.schema_name)})  # type: ignore[attr-defined]

    with override_bindings(INVOICES):
        return async_to_sync(go)(), ["public"]
