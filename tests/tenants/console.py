"""Steps about what operators see and change."""

from __future__ import annotations

import io
import json
from datetime import timedelta

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import (
    CommandError,
    call_command,
)
from django.test import Client as Browser
from django.test import RequestFactory

from admin_ui.traffic.stream import Viewer
from admin_ui.traffic.window import Cursor
from declbind.inbound.blocks import block
from declbind.live.housekeeping import write_connections, write_traffic
from declbind.live.hub import get_hub
from declbind.models import BindingRecord, Connection, Event, Traffic
from declbind.testing import override_bindings
from tests.tenants.site import INVOICES, TENANTS, Result, ask, client, log_in, step, within, write


@step
def connections_and_traffic_have_their_tenant() -> Result:
    async def go() -> None:
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
def operators_see_data_of_their_tenant_only() -> Result:
    """Open each admin page with events, traffic, connections or rows; operators of the public schema see all data."""
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
def only_operators_of_the_public_schema_edit_bindings() -> Result:
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
def the_live_page_shows_its_tenant_only() -> Result:
    """Render the page in threads of the hub, which belong to no tenant."""
    _note_everything()

    def view(host):
        with within(host):
            user = User.objects.get(pk=1)
            request = RequestFactory().get("/", {})
            request.user = user
            return Viewer(admin.site._registry[BindingRecord], request)

    async def go() -> object:
        hub = await get_hub()
        found = {}
        for host in TENANTS:
            viewer = await ask(view, host)
            answer = await viewer.ask(hub, viewer.answers.rows, Cursor(hub.epoch, 0, 0))
            found[host] = sorted(name for name in TENANTS if f"of-{name}" in json.dumps(answer))
        return found

    return async_to_sync(go)(), {"acme": ["acme"], "beta": ["beta"]}


@step
def forget_erases_the_row_of_one_tenant() -> Result:
    """Erase row 1 of one tenant, while the log has row 1 of both."""
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
