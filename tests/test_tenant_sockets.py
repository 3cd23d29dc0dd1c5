"""Sockets of tenants in one schema, which a class of the project distinguishes; see also ``test_django_tenants``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test.utils import override_settings

from declbind import WebsocketBinding, WebsocketDemultiplexer, tenancy
from declbind.core.frames import Request
from declbind.core.hub import Connection, Hub, Limits, LogEvent, Outbox, Subscription, Variants
from declbind.core.recent import Recent
from declbind.inbound import idempotency, permissions, writes
from declbind.inbound.blocks import block, find_block
from declbind.inbound.revocation import kick, recheck
from declbind.live import permission_checks
from declbind.live.admission import Admission
from declbind.live.proofs import Holder
from declbind.live.snapshots import SnapshotDesk
from declbind.live.threads import RequestThreads
from declbind.models import Event
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import UserFactory
from tests.live import ANYONE, BOARD, NUMBERS, in_thread, subscribe
from tests.servers import ROOT
from tests.tenants.classes import Separate, current, inside, separate

only_transactions = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def site(request: pytest.FixtureRequest) -> Iterator[None]:
    """Use a site with tenants; a test may choose another class."""
    with override_settings(DECLBIND=separate(getattr(request, "param", "Named"))):
        yield


def client(name: str, **options: Any) -> Client:
    return Client(headers=[(b"host", f"{name}.example.org".encode())], **options)


def store_in(name: str, text: str = "a") -> IntegerValue:
    with inside(name):
        return IntegerValue.objects.create(name=text, value=1)


async def count(one: Client) -> int:
    """Return the number of waiting frames."""
    found = 0
    while not await one.is_silent():
        await one.receive()
        found += 1
    return found


# Sockets -------------------------------------------------------------------------------------------------------------


@only_transactions
async def test_each_socket_is_sent_the_events_of_its_tenant() -> None:
    """This covers explicit subscriptions, and groups that are joined automatically."""
    with override_bindings(NUMBERS, BOARD):
        async with client("acme") as acme, client("beta") as beta:
            for one in (acme, beta):
                await subscribe(one)
            await in_thread(store_in, "acme")
            assert [await count(one) for one in (acme, beta)] == [2, 0]


class Rows(WebsocketBinding):
    """A binding of a site with all tenants in one table: its query set filters by the tenant."""

    model = IntegerValue
    stream = "rows"
    fields = ["name"]
    groups = ["rows"]
    permissions = ANYONE
    seen: list[str] = []

    def get_queryset(self) -> Any:
        """Return the rows of the tenant."""
        self.seen.append(current.get())
        return super().get_queryset().filter(name=current.get())


class Joined(WebsocketDemultiplexer):
    """A binding that adds all its connections to a group."""

    consumers = {"rows": Rows.consumer}

    def connection_groups(self, **kwargs: object) -> list[str]:
        """Grant one group."""
        return ["rows"]


@only_transactions
async def test_groups_joined_by_code_are_those_of_the_tenant() -> None:
    with override_bindings(Rows):
        application = Joined.as_asgi()
        async with client("acme", application=application) as acme, client("beta", application=application) as beta:
            await in_thread(store_in, "beta", "beta")
            assert [await count(one) for one in (acme, beta)] == [0, 1]


@only_transactions
async def test_code_of_the_project_runs_inside_the_tenant() -> None:
    """This holds for a snapshot and for a write. Afterwards the threads are in no tenant."""
    for name in ("acme", "beta"):
        await in_thread(store_in, name, name)
    Rows.seen.clear()
    with override_bindings(Rows):
        async with client("acme") as acme:
            await acme.request("rows", "subscribe", params={}, snapshot=True)
            [row] = (await acme.receive())["payload"]["objects"]
            assert row["data"] == {"name": "acme"}
            other = await in_thread(IntegerValue.objects.get, name="beta")
            reply = await acme.request("rows", "delete", pk=other.pk)
            assert reply["error"]["code"] == "not_found"
    assert set(Rows.seen) == {"acme"}
    assert current.get() == ""


@only_transactions
@pytest.mark.parametrize("host", ["nobody.example.com", "", "example.org"])
async def test_a_scope_without_a_tenant_is_refused(host: str) -> None:
    one = Client(headers=[(b"host", host.encode())])
    assert not await one.connect()
    assert one.close_code == 4403


@only_transactions
@pytest.mark.parametrize("site", ["Separate"], indirect=True)
async def test_a_user_of_an_unknown_tenant_is_refused() -> None:
    """A middleware has loaded user 1 of some tenant, and no session says of which one."""
    user = await in_thread(UserFactory.create)
    assert not await client("acme", user=user).connect()
    async with Client(user=user, tenant="acme"):
        pass


@only_transactions
@pytest.mark.parametrize("site", ["Separate"], indirect=True)
@pytest.mark.parametrize("act", [kick, recheck], ids=["kick", "recheck"])
async def test_changes_of_a_user_concern_one_tenant(act: Callable[..., None]) -> None:
    user = await in_thread(UserFactory.create)

    def change() -> None:
        with inside("acme"):
            act(user=user) if act is kick else act([user])

    with override_bindings(NUMBERS):
        async with Client(user=user, tenant="acme") as acme, Client(user=user, tenant="beta") as beta:
            await in_thread(change)
            if act is kick:
                assert await acme.wait_closed() == 1012
            await subscribe(beta)
    event = await Event.objects.filter(kind=Event.CONTROL).order_by("-pk").afirst()
    assert event is not None
    assert event.tenant == "acme"


@only_transactions
@pytest.mark.parametrize("site", ["Separate"], indirect=True)
def test_a_block_counts_in_its_tenant_only() -> None:
    from datetime import timedelta

    for name in ("acme", "beta"):
        with inside(name):
            block("1", timedelta(hours=1), reason=name)
    found = find_block("1", "beta")
    assert found is not None
    assert found.reason == "beta"
    assert find_block("1", "gamma") is None


# Parts ---------------------------------------------------------------------------------------------------------------


def test_a_request_without_a_tenant_is_denied() -> None:
    """Code may make such an identity. The request must not read from whatever tenant the thread is in."""
    from declbind.core.errors import ClientError

    with override_bindings(NUMBERS) as registry, pytest.raises(ClientError) as caught:
        writes.handle(
            Request(stream="numbers", action="delete", payload={"action": "delete", "pk": 1}, pk=1),
            registry.by_stream["numbers"],
            permissions.Identity(),
        )
    assert caught.value.code == "denied"


def test_a_proof_contains_the_tenant() -> None:
    holders = [Holder("e", "1", "s", "g", tenant) for tenant in ("acme", "beta", "")]
    for holder in holders:
        assert [other.read(holder.issue(7)) for other in holders] == [
            7 if other is holder else None for other in holders
        ]


def test_actors_of_two_tenants_are_different() -> None:
    """This holds for any names of tenants and keys of users."""
    users = [User(pk=pk) for pk in (1, 2)]
    names = [idempotency.name_actor(user, "", tenant) for user in users for tenant in ("", "a", "b", 'a", "user:1')]
    assert len(set(names)) == 8
    assert max(map(len, [*names, idempotency.name_actor(users[0], "", "x" * 200)])) <= 100


def test_accounts_are_counted_by_tenant() -> None:
    admission = Admission()
    one, other = (permissions.Identity(user_pk="1", tenant=name) for name in ("acme", "beta"))
    with override_settings(DECLBIND={**separate(), "MAX_CONNECTIONS_PER_USER": 1}):
        assert admission.enter(one.account, "")
        assert not admission.enter(one.account, "")
        assert admission.enter(other.account, "")


async def test_a_snapshot_is_shared_inside_a_tenant_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("declbind.live.snapshots.read_snapshot", lambda *args: read.append(current.get()))
    threads = RequestThreads(2)
    desk = SnapshotDesk(threads, 2)
    with override_bindings(NUMBERS) as registry:
        bound = registry.by_stream["numbers"]()
        names = ("acme", "beta", "acme", "beta")
        await asyncio.gather(*(desk.take(bound, "g", {}, "default", name) for name in names))
    threads.close()
    assert sorted(read) == ["acme", "beta"]


def test_an_unreachable_tenant_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise tenancy.TenantError("gone")

    assert permission_checks.ask_tenant("acme", fail, "over") == "over"
    assert permission_checks.ask_tenant("beta", current.get, "over") == "beta"


# The core ------------------------------------------------------------------------------------------------------------


def event(offset: int, tenant: str, group: str = "g") -> LogEvent:
    return LogEvent(offset, offset, "row", "s", "m", "1", ((group, "create"),), "{}", 0, tenant=tenant)


def check_dispatch() -> None:
    hub = Hub()
    connections = {}
    for name in ("acme", "beta"):
        connections[name] = Connection(Outbox(Limits()), lambda: None, lambda: None, tenant=name)
        hub.attach(connections[name])
        hub.subscribe(Subscription(connections[name], "s", "g", tagged=True))
    for offset, tenant in enumerate(("acme", "beta", "", "gamma"), 1):
        hub.dispatch(event(offset, tenant), Variants(event(offset, tenant), lambda action: "{}"), 0.0)
    hub.dispatch(event(5, "beta", "*"), Variants(event(5, "beta", "*"), lambda action: "{}"), 0.0)
    assert [len(connection.outbox) for connection in connections.values()] == [2, 3]
    assert hub.cursor == 5
    assert [hub.has_subscribers(event(6, tenant)) for tenant in ("acme", "", "gamma")] == [True, True, False]
    for connection in connections.values():
        hub.detach(connection)
    assert not hub.has_subscribers(event(6, ""))


def test_the_hub_finds_subscriptions_by_tenant() -> None:
    check_dispatch()


def test_a_hub_that_ignores_tenants_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the hub finds subscriptions of all tenants."""
    monkeypatch.setattr(Hub, "_groups_of", lambda self, event: tuple(self._by_tenant.values()))
    with pytest.raises(AssertionError):
        check_dispatch()


def test_recent_events_are_found_by_tenant_in_order() -> None:
    recent = Recent(events=6)
    for offset, tenant in enumerate(("acme", "", "beta", "acme", ""), 1):
        recent.add(event(offset, tenant))

    def since(offset: int, tenant: str) -> list[int] | None:
        found = recent.since("s", offset, tenant)
        return None if found is None else [each.offset for each in found]

    assert since(0, "acme") == [1, 2, 4, 5]
    assert since(2, "beta") == [3, 5]
    assert since(0, "gamma") == since(0, "") == [2, 5]
    recent.forget("s", 3)
    assert len(recent) == 2
    assert since(2, "acme") is None
    assert since(3, "acme") == [4, 5]
    for offset in range(6, 12):
        recent.add(event(offset, "beta"))
    assert since(5, "acme") == []
    assert since(4, "acme") is None


# The console ---------------------------------------------------------------------------------------------------------

#: Reads of what belongs to tenants that do not show it to anybody, or that choose the tenant themselves.
OF_ALL = {"doctor.py", "erasure.py", "lag.py", "old_code.py", "process_findings.py", "shown.py"}


def find_unfiltered(paths: list[Path]) -> list[str]:
    pattern = re.compile(r"\b(?:Event|Traffic|Connection|Block)\.objects\b")
    return [f"{path.name}: {found}" for path in paths for found in pattern.findall(path.read_text())]


def test_the_console_reads_the_tables_of_tenants_by_one_function() -> None:
    """A query that bypasses ``shown`` would show the rows of all tenants."""
    paths = [*(ROOT / "declbind/console").rglob("*.py"), *(ROOT / "admin_ui").rglob("*.py")]
    # One module of Why? reads which offset the log had reached at a moment.
    assert find_unfiltered([path for path in paths if path.name not in OF_ALL]) == ["events.py: Event.objects"]
    # Negative control: it finds those that there are.
    assert find_unfiltered([path for path in paths if path.name == "doctor.py"])


@pytest.mark.django_db
@pytest.mark.parametrize("site", ["Separate"], indirect=True)
def test_the_admin_shows_rows_of_its_tenant_only() -> None:
    from declbind.console.shown import at_a_shell, sees_all, shown

    with override_bindings(NUMBERS):
        for name in ("acme", "beta"):
            store_in(name, name)

    def names() -> list[str]:
        rows = shown(Event, "default").exclude(kind=Event.CONTROL)
        return sorted(rows.values_list("tenant", flat=True))

    with inside("acme"):
        assert names() == ["acme"]
        assert not sees_all()
    with inside("public"):
        assert names() == ["acme", "beta"]
    assert names() == []
    with at_a_shell():
        assert names() == ["acme", "beta"]
    with at_a_shell("beta"):
        assert names() == ["beta"]
    assert not Separate.shared
