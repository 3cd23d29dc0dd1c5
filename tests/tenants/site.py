"""A site with django-tenants: its models, bindings, clients and users, and the register of the steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection
from django_tenants.utils import schema_context

from declbind.contrib.tenants import TenantAuthMiddlewareStack
from declbind.live.consumers import BindingConsumer
from declbind.testing import Client

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
#: What a step saw, and what it expected.
Result = tuple[object, object]
Step = Callable[[], Result]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """Register a function as a step; it returns what it saw and what it expected."""
    STEPS[function.__name__] = function
    return function


def client(name: str, cookie: str = "", host: str = "", **options: Any) -> Client:
    """Return a client that connects to the host of a tenant."""
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
    """Remove the invoices of all tenants, and restart their keys."""
    for name in TENANTS:
        with schema_context(name), connection.cursor() as cursor:
            cursor.execute("TRUNCATE shop_line, shop_invoice_tags, shop_tag, shop_invoice RESTART IDENTITY")


def log_in(name: str, key: str = "", user: Any = None) -> str:
    """Return the key of a new session of a tenant's user, by default of user 1."""
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
    """Call a function that uses the database, in a thread."""
    return await sync_to_async(function)(*args, **kwargs)


async def received_by(one: Client) -> list[object]:
    """Return what a client has received since: texts of rows, or actions."""
    found: list[object] = []
    while not await one.is_silent():
        try:
            payload = (await one.receive())["payload"]
        except ConnectionError:
            return [*found, f"closed {one.close_code}"]
        if payload["action"] == "snapshot":
            found += [("snapshot", row["pk"], row["data"].get("text")) for row in payload["objects"]]
        elif "data" in payload:
            found.append(payload["data"].get("text") or payload["data"].get("name") or payload["action"])
        else:
            found.append(payload["action"])
    return found


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """Use the schema of a tenant inside the block."""
    with schema_context(name):
        yield


def texts_of(name: str) -> list[str]:
    with within(name):
        return list(Invoice.objects.order_by("pk").values_list("text", flat=True))


async def join(name: str, cookie: str = "", **options: Any) -> str:
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


def allow(name: str, *, allowed: bool = True) -> None:
    with within(name):
        permission = Permission.objects.get(codename="view_invoice")
        User.objects.get(pk=1).user_permissions.set([permission] if allowed else [])
