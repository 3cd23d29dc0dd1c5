"""Use a site with django-tenants in all the ways there are, with equal keys in both tenants; print what came of it.

``python -m tests.tenants.course build`` makes the database. Without it, each step is run, or those named; an argument
``sabotage=NAME`` breaks one thing first. What is printed is JSON: by step, what was expected and what was seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import django
from django.core.management import call_command

django.setup()

from asgiref.sync import async_to_sync, sync_to_async  # noqa: E402 - the models need the apps
from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.checks import ERROR, run_checks  # noqa: E402
from django.core.management import CommandError  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client as Browser  # noqa: E402
from django.test import RequestFactory, override_settings  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402

from admin_ui.stream import Viewer  # noqa: E402
from admin_ui.traffic import Cursor  # noqa: E402
from declbind import tokens, touch  # noqa: E402
from declbind.console import shown  # noqa: E402
from declbind.contrib.tenants import DjangoTenants, TenantAuthMiddlewareStack  # noqa: E402
from declbind.core import hub as core  # noqa: E402
from declbind.core.recent import Recent  # noqa: E402
from declbind.inbound import idempotency, permissions  # noqa: E402
from declbind.inbound.blocks import block, unblock  # noqa: E402
from declbind.inbound.revocation import kick  # noqa: E402
from declbind.live import session_ends, snapshots  # noqa: E402
from declbind.live.consumers import BindingConsumer  # noqa: E402
from declbind.live.housekeeping import write_connections, write_traffic  # noqa: E402
from declbind.live.hub import get_hub  # noqa: E402
from declbind.live.proofs import Holder  # noqa: E402
from declbind.live.pump import Pump  # noqa: E402
from declbind.models import BindingRecord, Connection, Event, Traffic  # noqa: E402
from declbind.outbound import catalog, log  # noqa: E402
from declbind.testing import Client, capture_events, override_bindings  # noqa: E402

MODELS: dict[str, Any] = {model.__name__: model for model in apps.get_models()}
Invoice, Line, Tag = MODELS["Invoice"], MODELS["Line"], MODELS["Tag"]
Country, Tenant, Domain = MODELS["Country"], MODELS["Tenant"], MODELS["Domain"]

TENANTS = ("acme", "beta")
ANYONE = {"view": True, "create": True, "update": True, "delete": True}
INVOICES = {
    "stream": "invoices", "model": "shop.Invoice", "fields": ["text", "room"], "groups": ["room-{room}"],
    "permissions": ANYONE,
}  # fmt: skip
ALL = {"stream": "all", "model": "shop.Invoice", "fields": ["text"], "permissions": ANYONE, "auto_subscribe": True}
TAGGED = {
    "stream": "tagged", "model": "shop.Invoice", "fields": ["text", "tags", "country"], "permissions": ANYONE,
    "relate": {"tags": "any", "country": "any"}, "also": ["line", "country"],
}  # fmt: skip
COUNTRIES = {"stream": "countries", "model": "common.Country", "fields": ["name"], "permissions": ANYONE}
PRIVATE = {**INVOICES, "stream": "private", "permissions": {"view": "shop.view_invoice"}}

application = TenantAuthMiddlewareStack(BindingConsumer.as_asgi())
Step = Callable[[], Any]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """Make a function one of the steps: it returns what was seen and what was expected."""
    STEPS[function.__name__] = function
    return function


def build() -> None:
    """Make the schemas, their tables, and the users with pk 1."""
    call_command("migrate_schemas", shared=True, verbosity=0, interactive=False)
    for name in ("public", *TENANTS):
        tenant = Tenant(schema_name=name, name=name)
        tenant.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.example.org", tenant=tenant, is_primary=True)
    for name in ("public", *TENANTS):
        with schema_context(name):
            User.objects.get_or_create(pk=1, defaults={"username": f"of {name}", "password": f"!{name}"})


def client(name: str, cookie: str = "", host: str = "", **options: Any) -> Client:
    """Return a client of a tenant's host."""
    headers = [(b"host", (host or f"{name}.example.org").encode())]
    if cookie:
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    options.setdefault("application", application)
    return Client(headers=headers, **options)


def write(name: str, text: str = "", **values: Any) -> Any:
    """Store an invoice of a tenant."""
    with schema_context(name):
        return Invoice.objects.create(text=text or f"of {name}", **values)


def clear() -> None:
    """Remove the invoices of all tenants, and have their keys begin anew."""
    for name in TENANTS:
        with schema_context(name), connection.cursor() as cursor:
            cursor.execute("TRUNCATE shop_line, shop_invoice_tags, shop_tag, shop_invoice RESTART IDENTITY")


def log_in(name: str, key: str = "", user: Any = None) -> str:
    """Return the key of a session of a user of a tenant, by default of user 1."""
    with schema_context(name):
        user = user or User.objects.get(pk=1)
        session = SessionStore(key or None)
        session.update(
            {
                "_auth_user_id": str(user.pk),
                "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
                "_auth_user_hash": user.get_session_auth_hash(),
            }
        )
        if not key:
            session.save(must_create=True)
            return str(session.session_key)
        # A store would take another key for a session that is not there.
        Session.objects.create(
            session_key=key, session_data=session.encode(dict(session.items())), expire_date=session.get_expiry_date()
        )
        return key


async def ask(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that uses the database."""
    return await sync_to_async(function)(*args, **kwargs)


async def heard(one: Client) -> list[Any]:
    """Return what came since: texts of rows, or actions."""
    found: list[Any] = []
    while not await one.is_silent():
        try:
            payload = (await one.receive())["payload"]
        except ConnectionError:
            return [*found, f"closed {one.close_code}"]
        data = payload.get("data") or {}
        if payload["action"] == "snapshot":
            found += [("snapshot", row["pk"], row["data"].get("text")) for row in payload["objects"]]
        else:
            found.append(data.get("text") or data.get("name") or payload["action"])
    return found


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """Be in the schema of a tenant."""
    with schema_context(name):
        yield


# --- what is sent ----------------------------------------------------------------------------------------------------


@step
def each_hears_its_own() -> Any:
    """Subscriptions, groups of joined connections, and the public schema."""

    async def go() -> Any:
        async with client("acme") as acme, client("beta") as beta, client("public") as public:
            for one in (acme, beta):
                await one.request("invoices", "subscribe", params={"room": "main"})
            for name in TENANTS:
                await ask(write, name)
            return [await heard(one) for one in (acme, beta, public)]

    with override_bindings(INVOICES, ALL):
        return async_to_sync(go)(), [["of acme"] * 2, ["of beta"] * 2, []]


@step
def a_snapshot_has_the_rows_of_its_tenant() -> Any:
    """Also if both are asked for at the same time, and a read could be shared."""
    for name in TENANTS:
        write(name)

    async def go() -> Any:
        async with client("acme") as acme, client("beta") as beta, client("acme") as other:
            clients = (acme, beta, other)
            await asyncio.gather(
                *(one.request("invoices", "subscribe", params={"room": "main"}, snapshot=True) for one in clients)
            )
            return [await heard(one) for one in clients]

    with override_bindings(INVOICES):
        own = {name: [("snapshot", 1, f"of {name}")] for name in TENANTS}
        return async_to_sync(go)(), [own["acme"], own["beta"], own["acme"]]


async def resume(first: str, second: str, forget: bool) -> Any:
    """Subscribe in one tenant, and come back in another one with what the first gave."""
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
        return await heard(one)


@step
def a_replay_has_the_events_of_its_tenant() -> Any:
    """From memory and from the log."""

    async def go() -> Any:
        return [await resume("acme", "acme", False), await resume("beta", "beta", True)]

    with override_bindings(INVOICES):
        return async_to_sync(go)(), [["of acme"], ["of beta"]]


@step
def a_proof_of_another_tenant_is_none() -> Any:
    with override_bindings(INVOICES):
        return async_to_sync(resume)("acme", "beta", False), ["resync"]


@step
def shared_rows_are_for_all() -> Any:
    async def go() -> Any:
        async with client("acme") as acme, client("beta") as beta:
            for one in (acme, beta):
                await one.request("countries", "subscribe", params={})
            with within("acme"):
                await ask(Country.objects.create, name="Chile")
            return [await heard(one) for one in (acme, beta)]

    with override_bindings(COUNTRIES):
        return async_to_sync(go)(), [["Chile"], ["Chile"]]


@step
def rows_that_show_a_shared_one_are_a_resync_for_all() -> Any:
    """From a tenant and from the public schema, in which their table is not."""

    def rename(name: str, text: str) -> None:
        with within(name):
            Country.objects.filter(pk=country.pk).update(name=text)

    with override_bindings(TAGGED):
        country = Country.objects.create(name="Peru")
        for name in TENANTS:
            write(name, country=country)

        async def go() -> Any:
            async with client("acme") as acme, client("beta") as beta:
                for one in (acme, beta):
                    await one.request("tagged", "subscribe", params={})
                await ask(rename, "acme", "A")
                await ask(rename, "public", "B")
                return [await heard(one) for one in (acme, beta)]

        return async_to_sync(go)(), [["resync"] * 2] * 2


# --- capture ---------------------------------------------------------------------------------------------------------


def _events(name: str, act: Callable[[Any], Any], *, is_atomic: bool) -> Any:
    clear()
    with within(name):
        invoice = Invoice.objects.create(text=f"of {name}")
        Line.objects.create(invoice=invoice, text="x")
        Tag.objects.create(word="x")
        with override_bindings(INVOICES, TAGGED), capture_events() as events:
            if is_atomic:
                with transaction.atomic():
                    act(invoice)
            else:
                act(invoice)
    return events


def _save(invoice: Any) -> None:
    invoice.room = "other"
    invoice.save()


ACTS: dict[str, Callable[[Any], Any]] = {
    "create": lambda invoice: Invoice.objects.create(text=invoice.text),
    "save": _save,
    "update": lambda invoice: Invoice.objects.update(room="other"),
    "bulk_update": lambda invoice: Invoice.objects.bulk_update([invoice], ["text"]),
    "bulk_create": lambda invoice: Invoice.objects.bulk_create([Invoice(text=invoice.text)] * 2),
    "delete": lambda invoice: invoice.delete(),
    "cascade": lambda invoice: Invoice.objects.all().delete(),
    "list": lambda invoice: invoice.tags.add(1),
    "child": lambda invoice: Line.objects.update(text="y"),
    "touch": lambda invoice: touch(Invoice.objects.all()),
}


@step
def each_event_has_the_tenant_of_its_write() -> Any:
    seen, expected = {}, {}
    for place, name in enumerate(TENANTS):
        for act, function in ACTS.items():
            events = _events(name, function, is_atomic=bool(place))
            texts = {event.data["text"] for event in events if event.data}
            seen[name, act] = sorted({event.tenant for event in events}), sorted(texts)
            expected[name, act] = [name], [f"of {name}"]
    return list(map(repr, seen.items())), list(map(repr, expected.items()))


@step
def a_transaction_may_switch() -> Any:
    with override_bindings(INVOICES), capture_events() as events, transaction.atomic():
        for name in TENANTS:
            write(name)
        with within("acme"):
            Invoice.objects.update(text="again")
    found = [(event.tenant, event.pk, event.data["text"]) for event in events]
    return found, [("acme", 1, "of acme"), ("beta", 1, "of beta"), ("acme", 1, "again")]


@step
def what_is_rolled_back_leaves_nothing() -> Any:
    def write_and_fail() -> None:
        with transaction.atomic():
            write("acme")
            with within("beta"), transaction.atomic():
                Invoice.objects.create(text="x")
                raise ZeroDivisionError

    with override_bindings(INVOICES), capture_events() as events, contextlib.suppress(ZeroDivisionError):
        write_and_fail()
    return [(event.tenant, event.data) for event in events], []


@step
def a_write_goes_on_where_the_log_is_out_of_reach() -> Any:
    """The schema is searched alone, so nobody can be told; the process says so once."""
    with override_bindings(INVOICES), capture_events() as events:
        connection.set_schema("acme", include_public=False)  # type: ignore[attr-defined]
        with transaction.atomic():
            Invoice.objects.create(text="alone")
            Invoice.objects.create(text="alone too")
        connection.set_schema_to_public()  # type: ignore[attr-defined]
        write("acme", "told")
    return ([event.data["text"] for event in events], _texts("acme")), (["told"], ["alone", "alone too", "told"])


@step
def facts_of_a_table_are_those_of_its_schema() -> Any:
    """A trigger in one of them changes what is stored, and the value that is sent is the stored one."""
    rows = {name: write(name, "x") for name in TENANTS}
    with within("beta"), connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION beta.shout() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.text := upper(NEW.text); RETURN NEW; END'"
        )
        cursor.execute(
            "CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON beta.shop_invoice"
            " FOR EACH ROW EXECUTE FUNCTION beta.shout()"
        )
    with override_bindings(INVOICES), capture_events() as events:
        for name, row in [*rows.items()] * 3:
            catalog._answers.clear()
            with within(name):
                # The first statement in this schema is the one that saves.
                row.save()
    with within("beta"), connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION beta.shout() CASCADE")
    return [event.data["text"] for event in events], ["x", "X"] * 3


# --- what clients write ----------------------------------------------------------------------------------------------


def _texts(name: str) -> list[str]:
    with within(name):
        return list(Invoice.objects.order_by("pk").values_list("text", flat=True))


@step
def clients_write_rows_of_their_tenant() -> Any:
    """Pk 1 is in both, pk 2 in one; an idempotency key that is used in both."""
    write("acme")
    for text in ("of beta", "of beta"):
        write("beta", text)

    async def go() -> Any:
        codes = []
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
    seen = codes, _texts("acme"), _texts("beta")
    return seen, ([True, "not_found", "not_found", 2, 3], ["new", "made"], ["of beta", "of beta", "made"])


@step
def a_retry_of_one_tenant_is_no_retry_of_another() -> Any:
    """User 1 of both uses the same key."""

    async def go() -> Any:
        found = []
        for name in ("acme", "beta", "acme"):
            async with client(name, await ask(log_in, name)) as one:
                reply = await one.request("invoices", "create", data={"text": f"of {name}"}, key="k")
                found.append(reply["ok"])
        return found

    with override_bindings(INVOICES):
        return (async_to_sync(go)(), _texts("acme"), _texts("beta")), ([True] * 3, ["of acme"], ["of beta"])


@step
def related_rows_are_those_of_the_tenant() -> Any:
    with within("beta"):
        Tag.objects.create(word="of beta")

    async def go() -> Any:
        async with client("acme") as one:
            return (await one.request("tagged", "create", data={"text": "x", "tags": [1]}))["error"]["code"]

    with override_bindings(TAGGED):
        return (async_to_sync(go)(), _texts("acme")), ("invalid", [])


@step
def threads_are_back_in_the_public_schema() -> Any:
    """After requests of both tenants, also those that failed."""

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    async def go() -> Any:
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


# --- who is who ------------------------------------------------------------------------------------------------------


async def _join(name: str, cookie: str = "", **options: Any) -> str:
    one = client(name, cookie, **options)
    try:
        if not await one.connect():
            return f"refused {one.close_code}"
        reply = await one.request("private", "subscribe", params={"room": "main"})
        return "ok" if reply["ok"] else str(reply["error"]["code"])
    except ConnectionError:
        return f"closed {one.close_code}"
    finally:
        await one.disconnect()


def _allow(name: str, *, allowed: bool = True) -> None:
    with within(name):
        permission = Permission.objects.get(codename="view_invoice")
        User.objects.get(pk=1).user_permissions.set([permission] if allowed else [])


@step
def a_host_of_nobody_is_refused() -> Any:
    async def go() -> Any:
        hosts = ("nobody.example.org", "acme.example.com", "", "public")
        return [await _join("acme", host=host or "x y") for host in hosts]

    with override_bindings(PRIVATE):
        return async_to_sync(go)(), ["refused 4403"] * 4


@step
def a_session_is_one_of_its_tenant() -> Any:
    """Of user 1, who may view in one tenant only; by each tenant's own cookie and by that of the other."""
    _allow("acme")
    cookies = {name: log_in(name) for name in TENANTS}

    async def go() -> Any:
        return {f"{host} {of}": await _join(host, cookies[of]) for host in TENANTS for of in TENANTS}

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    _allow("acme", allowed=False)
    return seen, {"acme acme": "ok", "acme beta": "denied", "beta acme": "denied", "beta beta": "denied"}


@step
def a_user_who_was_loaded_elsewhere_is_refused() -> Any:
    """By a middleware that knows no tenants: user 1 of the public schema is not user 1 of a tenant."""
    _allow("acme")
    user = User.objects.get(pk=1)
    plain = BindingConsumer.as_asgi()

    async def go() -> Any:
        named = Client(plain, user=user, tenant="acme")
        async with named:
            reply = await named.request("private", "subscribe", params={"room": "main"})
        return await _join("acme", application=plain, user=user), reply["ok"]

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    _allow("acme", allowed=False)
    return seen, ("refused 4403", True)


async def _after(act: Callable[[], Any], **cookies: str) -> dict[str, Any]:
    """Return what sockets of both tenants were sent because of something: user 1, with the same session key."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for name in TENANTS:
            one = client(name, cookies[name])
            await stack.enter_async_context(one)
            reply = await one.request("private", "subscribe", params={"room": "main"})
            assert reply["ok"], reply
            found[name] = one
        await ask(act)
        return {name: await heard(one) for name, one in found.items()}


def _check_of_acme(act: Callable[[], Any], acme: Any) -> Any:
    """Return what happens to both if something happens to user 1 of one tenant."""
    key = "k" * 32
    for name in TENANTS:
        _allow(name)
        with within(name):
            SessionStore(key).delete()
    cookies = {name: log_in(name, key) for name in TENANTS}
    with override_bindings(PRIVATE):
        seen = async_to_sync(_after)(act, **cookies)
    for name in TENANTS:
        _allow(name, allowed=False)
    return seen, {"acme": acme, "beta": []}


def _lose_under_load(lose: Callable[[], Any]) -> Any:
    """Take the right of user 1 of one tenant while rows are stored in both, a hundred a second.

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

    async def go() -> Any:
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
            received, elsewhere = await heard(mine), await heard(other)
        # The row that was under way when the right was lost may have been committed before or after it.
        late = [text for text in received if text.isdigit() and int(text) > lost[0]]
        return received[-1], late, elsewhere == [str(number) for number in range(counts["beta"])]

    cookies = {name: log_in(name) for name in TENANTS}
    for name in TENANTS:
        _allow(name)
    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    for name in TENANTS:
        _allow(name, allowed=False)
    return seen


def _deactivate() -> None:
    User.objects.filter(pk=1).update(is_active=False)


@step
def under_load_a_loss_is_exact_and_of_its_tenant() -> Any:
    seen = {
        "permission": _lose_under_load(lambda: _allow("acme", allowed=False)),
        "session": _lose_under_load(lambda: Session.objects.all().delete()),
        "user": _lose_under_load(_deactivate),
    }
    with within("acme"):
        User.objects.filter(pk=1).update(is_active=True)
    over: Any = ("closed 4401", [], True)
    return seen, {"permission": ("closed", [], True), "session": over, "user": over}


@step
def a_log_out_ends_the_sockets_of_its_tenant() -> Any:
    """Both have the same user key and the same session key."""
    from types import SimpleNamespace

    from django.contrib.auth.signals import user_logged_out

    def act() -> None:
        with within("acme"):
            session, user = SessionStore("k" * 32), User.objects.get(pk=1)
            user_logged_out.send(User, request=SimpleNamespace(session=session), user=user)
            session.delete()

    return _check_of_acme(act, ["closed 4401"])


@step
def a_session_that_is_deleted_ends_the_sockets_of_its_tenant() -> Any:
    def act() -> None:
        with within("acme"):
            Session.objects.filter(pk="k" * 32).delete()

    return _check_of_acme(act, ["closed 4401"])


@step
def rights_that_are_lost_end_subscriptions_of_their_tenant() -> Any:
    return _check_of_acme(lambda: _allow("acme", allowed=False), ["closed"])


@step
def a_user_who_is_deactivated_is_one_of_its_tenant() -> Any:
    def act() -> None:
        with within("acme"):
            User.objects.filter(pk=1).update(is_active=False)

    seen = _check_of_acme(act, ["closed 4401"])
    with within("acme"):
        User.objects.filter(pk=1).update(is_active=True)
    return seen


@step
def a_session_that_runs_out_is_one_of_its_tenant() -> Any:
    """Both have the same key, and other ends."""
    from django.utils import timezone

    def act() -> None:
        async def look() -> None:
            hub = await get_hub()
            over = await hub.session_ends.find_over(hub.sockets(), hub.thread, 1e9)
            found.extend(sorted(socket.identity.tenant for socket in over))

        with within("acme"):
            Session.objects.filter(pk="k" * 32).update(expire_date=timezone.now())
        asyncio.run_coroutine_threadsafe(look(), loop[0]).result(10)

    found: list[str] = []
    loop: list[Any] = []

    async def keep_loop() -> None:
        loop.append(asyncio.get_running_loop())

    original = globals()["_after"]

    async def after(act: Callable[[], Any], **cookies: str) -> Any:
        await keep_loop()
        return await original(act, **cookies)

    globals()["_after"] = after
    try:
        _check_of_acme(act, [])
    finally:
        globals()["_after"] = original
    return found, ["acme"]


@step
def a_kick_ends_the_sockets_of_its_tenant() -> Any:
    def act() -> None:
        with within("acme"):
            kick(user=1)

    return _check_of_acme(act, ["closed 4403"])


@step
def a_block_keeps_out_the_user_of_its_tenant() -> Any:
    for name in TENANTS:
        _allow(name)
    with within("acme"):
        block("1", timedelta(hours=1))
    cookies = {name: log_in(name) for name in TENANTS}

    async def go() -> Any:
        return [await _join(name, cookies[name]) for name in TENANTS]

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    with within("acme"):
        is_over = unblock("1")
    for name in TENANTS:
        _allow(name, allowed=False)
    return (seen, is_over), (["closed 4403", "ok"], True)


@step
def rights_of_another_tenant_do_not_end_a_replay() -> Any:
    """What happened to user 1 of one tenant says nothing of user 1 of the other, nor is it told there."""
    for name in TENANTS:
        _allow(name)
    cookies = {name: log_in(name) for name in TENANTS}

    def change() -> None:
        with within("acme"):
            User.objects.get(pk=1).groups.set([Group.objects.get_or_create(name="g")[0]])
            kick(user=1)

    async def go() -> Any:
        replies = {}
        for name in TENANTS:
            async with client(name, cookies[name]) as one:
                replies[name] = await one.request("private", "subscribe", params={"room": "main"})
        await ask(change)
        found = []
        for name, reply in replies.items():
            await ask(write, name)
            since = {key: reply[key] for key in ("epoch", "offset", "resume")}
            async with client(name, cookies[name]) as one:
                await one.request("private", "subscribe", params={"room": "main"}, since=since)
                found.append(await heard(one))
        return found

    with override_bindings(PRIVATE):
        seen = async_to_sync(go)()
    for name in TENANTS:
        _allow(name, allowed=False)
    return seen, [["resync"], ["of beta"]]


@step
def a_tenant_that_is_dropped_stops_nobody_else() -> Any:
    """Its sockets are closed, though the public schema has a user with the same key; the others go on."""
    tenant = Tenant(schema_name="gone", name="gone")
    tenant.save(verbosity=0)
    Domain.objects.create(domain="gone.example.org", tenant=tenant)

    async def go() -> Any:
        async with client("gone") as gone, client("acme") as acme:
            for one in (gone, acme):
                await one.request("invoices", "subscribe", params={"room": "main"})
            await ask(tenant.delete, force_drop=True)
            hub = await get_hub()
            refused = await gone.request("invoices", "create", data={"text": "x"})
            await hub.revalidate(hub.sockets())
            await ask(write, "acme")
            return refused["error"]["code"], await heard(gone), await heard(acme)

    with override_bindings(INVOICES):
        return async_to_sync(go)(), ("denied", ["closed 4401"], ["of acme"])


async def _by_token(token: str) -> dict[str, Any]:
    """Return what becomes of a token in both tenants: at the handshake, and in a request on an open socket."""
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
def a_token_is_one_of_its_tenant() -> Any:
    """User 1 has the same password hash in both, and the right in both."""
    for name in TENANTS:
        _allow(name)
        with within(name):
            User.objects.filter(pk=1).update(password="!same", is_active=True)
    with within("acme"):
        token = tokens.issue(User.objects.get(pk=1))
    with override_bindings(PRIVATE):
        seen = async_to_sync(_by_token)(token)
    for name in TENANTS:
        _allow(name, allowed=False)
        with within(name):
            User.objects.filter(pk=1).update(password=f"!{name}")
    return seen, ONE_TENANT


def _web_token(**claims: Any) -> str:
    import jwt

    return jwt.encode({"sub": "1", "exp": int(time.time()) + 60, **claims}, "k" * 32, algorithm="HS256")


@step
def a_web_token_names_its_tenant() -> Any:
    """One that names none is refused, and so is each if no claim is configured."""
    for name in TENANTS:
        _allow(name)
    config = {"key": "k" * 32, "algorithms": ["HS256"]}
    seen = []
    for more, claims in (({"tenant_claim": "t"}, {"t": "acme"}), ({"tenant_claim": "t"}, {}), ({}, {"t": "acme"})):
        with override_settings(DECLBIND={**settings.DECLBIND, "JWT": {**config, **more}}), override_bindings(PRIVATE):
            seen.append(async_to_sync(_by_token)(_web_token(**claims)))
    for name in TENANTS:
        _allow(name, allowed=False)
    refused = dict.fromkeys(TENANTS, ("closed 4401", "denied"))
    return seen, [ONE_TENANT, refused, refused]


async def find_user(token: str, scope: Any) -> Any:
    """Return the user of this name in the tenant of the scope; a callable of a project."""
    user = await User.objects.filter(username=token).afirst()
    return None if user is None else (user, None)


@step
def a_callable_finds_users_of_the_tenant() -> Any:
    """Though it is a coroutine: its queries are made in the tenant."""
    for name in TENANTS:
        _allow(name)
    options = {**settings.DECLBIND, "AUTHENTICATE": f"{__spec__.name}.find_user"}
    with override_settings(DECLBIND=options), override_bindings(PRIVATE):
        seen = async_to_sync(_by_token)("of acme")
    for name in TENANTS:
        _allow(name, allowed=False)
    return seen, ONE_TENANT


@step
def users_that_all_tenants_share_are_one() -> Any:
    """Their sessions are good for all tenants, and what ends them ends them in all."""
    if getattr(settings, "VARIANT", "") != "shared_users":
        return "", ""
    key = "s" * 32
    for name in TENANTS:
        _allow(name)
    log_in("public", key)

    def act() -> None:
        with within("acme"):
            User.objects.filter(pk=1).update(is_active=False)

    with override_bindings(PRIVATE):
        seen = async_to_sync(_after)(act, **dict.fromkeys(TENANTS, key))
    return seen, {name: ["closed 4401"] for name in TENANTS}


# --- what operators see ----------------------------------------------------------------------------------------------


@step
def what_is_noted_has_its_tenant() -> Any:
    async def go() -> Any:
        async with client("acme") as acme, client("beta") as beta:
            for one in (acme, beta):
                await one.request("nothing", "subscribe", params={})
            hub = await get_hub()
            await write_connections(hub)
            await write_traffic(hub)

    for model in (Connection, Traffic):
        # Another step may have left a row of a tenant that was dropped.
        model.objects.all().delete()
    with override_bindings(INVOICES):
        async_to_sync(go)()
    seen = [sorted(set(model.objects.values_list("tenant", flat=True)) - {""}) for model in (Connection, Traffic)]
    return seen, [["acme", "beta"]] * 2


def _note_everything() -> None:
    """Leave events, traffic, connections and blocks of both tenants."""
    for name in TENANTS:
        with within(name):
            block("1", timedelta(hours=1), username=f"user of {name}", reason=f"reason of {name}")
        write(name, f"secret of {name}")
    with override_bindings(INVOICES):
        async_to_sync(_leave_traces)()


async def _leave_traces() -> None:
    async with client("acme") as acme, client("beta") as beta:
        for name, one in (("acme", acme), ("beta", beta)):
            await one.request("invoices", "subscribe", params={"room": f"room-of-{name}"})
            await one.request(f"nothing-of-{name}", "subscribe", params={})
            await ask(write, name, f"secret of {name}", room=f"room-of-{name}")
        hub = await get_hub()
        await hub.settle()
        await write_connections(hub)
        await write_traffic(hub)


@step
def operators_see_what_is_of_their_tenant() -> Any:
    """In each page of the admin that shows events, traffic, connections or rows; those of the public schema see all."""
    _note_everything()
    pages = ("live/", "live/rows/?cursor=x:0:0", "connections/", "why/", "why/?stream=invoices&row=1", "")
    seen: dict[str, set[str]] = {}
    BindingRecord.objects.get_or_create(
        stream="invoices", defaults={k: v for k, v in INVOICES.items() if k != "stream"}
    )
    for host in ("public", *TENANTS):
        with within(host):
            User.objects.filter(pk=1).update(is_superuser=True, is_staff=True, is_active=True)
        browser = Browser(HTTP_HOST=f"{host}.example.org")
        browser.cookies[settings.SESSION_COOKIE_NAME] = log_in(host)
        found = ""
        for page in pages:
            answer = browser.get(f"/admin/declbind/bindingrecord/{page}")
            found += answer.content.decode()
        seen[host] = {name for name in TENANTS for word in (f"of {name}", f"of-{name}") if word in found}
    BindingRecord.objects.all().delete()
    sorted_seen = {host: sorted(names) for host, names in seen.items()}
    return sorted_seen, {"public": ["acme", "beta"], "acme": ["acme"], "beta": ["beta"]}


@step
def only_operators_who_see_all_edit_bindings() -> Any:
    seen = {}
    for host in ("public", *TENANTS):
        with within(host):
            User.objects.filter(pk=1).update(is_superuser=True, is_staff=True, is_active=True)
        browser = Browser(HTTP_HOST=f"{host}.example.org")
        browser.cookies[settings.SESSION_COOKIE_NAME] = log_in(host)
        seen[host] = [
            browser.get(f"/admin/declbind/{page}").status_code
            for page in ("bindingrecord/add/", "bindingrecord/processes/", "bindingrecord/doctor/", "bindingrecord/")
        ]
    return seen, {"public": [200] * 4, "acme": [403] * 3 + [200], "beta": [403] * 3 + [200]}


@step
def the_pushed_page_is_of_its_tenant() -> Any:
    """It is read in threads of the hub, which are in no tenant by themselves."""
    _note_everything()

    def view(host: str) -> Any:
        with within(host):
            user = User.objects.get(pk=1)
            request = RequestFactory().get("/", {})
            request.user = user
            return Viewer(admin.site._registry[BindingRecord], request)

    async def go() -> Any:
        hub = await get_hub()
        found = {}
        for host in TENANTS:
            viewer = await ask(view, host)
            answer = await viewer.ask(hub, viewer.answers.rows, Cursor(hub.epoch, 0, 0))
            found[host] = sorted(name for name in TENANTS if f"of-{name}" in json.dumps(answer))
        return found

    return async_to_sync(go)(), {"acme": ["acme"], "beta": ["beta"]}


@step
def a_row_is_forgotten_in_its_tenant() -> Any:
    """Of both tenants row 1 is stored in the log."""
    with override_bindings(INVOICES):
        for name in TENANTS:
            write(name)
        try:
            call_command("declbind", "forget", "shop.Invoice", "1", verbosity=0)
            refused = ""
        except CommandError as error:
            refused = str(error)[:40]
        call_command("declbind", "forget", "shop.Invoice", "1", tenant="acme", stdout=io.StringIO())
    events = Event.objects.filter(stream="invoices", kind=Event.ROW, object_pk="1")
    kept = {name: any(f"of {name}" in data for data in events.values_list("data", flat=True)) for name in TENANTS}
    return (refused, kept), ("Expected the name of a tenant with --ten", {"acme": False, "beta": True})


# --- negative controls -----------------------------------------------------------------------------------------------


def sabotage(what: str) -> None:
    """Break one thing on purpose."""
    if what == "constant":
        DjangoTenants.of_connection = lambda self, alias: "acme"  # type: ignore[method-assign]
    elif what == "dispatch":
        core.Hub._groups_of = lambda self, event: tuple(self._by_tenant.values())  # type: ignore[method-assign]
        core.LogEvent.is_for = lambda self, tenant: True  # type: ignore[method-assign]
    elif what == "barrier":

        async def ignore(self: Any, event: Any) -> None:
            return None

        Pump._obey = ignore  # type: ignore[method-assign]
    elif what == "replay":
        since, read = Recent.since, log.read

        def since_of_any(self: Any, stream: str, offset: int, tenant: str = "") -> Any:
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

        def fetch_as_it_is(connection: Any, sql: str, table: str) -> Any:
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

        async def take_of_any(self: Any, bound: Any, group: Any, params: Any, using: Any, tenant: str = "") -> Any:
            before = next(iter(self._last), None)
            return await take(self, bound, group, params, using, before[0] if before else tenant)

        snapshots.SnapshotDesk.take = take_of_any  # type: ignore[method-assign]
    elif what == "activation":

        @contextlib.contextmanager
        def activate(self: Any, tenant: str) -> Iterator[None]:
            with schema_context("acme"):
                yield

        from declbind import tenancy

        DjangoTenants.activate = activate  # type: ignore[method-assign]
        tenancy._name = lambda tenancy, alias: None
    elif what:
        raise ValueError(what)


def main(arguments: list[str]) -> dict[str, Any]:
    """Run steps; return by step what was seen and what was expected, or the error."""
    broken = next((word.partition("=")[2] for word in arguments if word.startswith("sabotage=")), "")
    names = [word for word in arguments if "=" not in word] or list(STEPS)
    sabotage(broken)
    found: dict[str, Any] = {}
    for name in names:
        clear()
        connection.set_schema_to_public()  # type: ignore[attr-defined]
        try:
            seen, expected = STEPS[name]()
            found[name] = {"seen": seen, "expected": expected}
        except Exception:
            found[name] = {"seen": traceback.format_exc(), "expected": ""}
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        build()
    elif sys.argv[1:] == ["check"]:
        ids = [str(message.id) for message in run_checks() if message.is_serious(ERROR)]
        sys.stdout.write(f"{json.dumps([id_ for id_ in ids if id_.startswith('declbind')])}\n")
    else:
        sys.stdout.write(f"{json.dumps(main(sys.argv[1:]))}\n")
        sys.stdout.flush()
        import os

        os._exit(0)  # the threads of hubs whose loops are over
