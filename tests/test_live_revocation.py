"""Revoked permissions: their holder gets no frame with a higher offset, and other users are not affected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client as Browser

from declbind import WebsocketBinding, recheck
from declbind.inbound import permissions
from declbind.inbound.revocation import kick
from declbind.live import grants, subscriptions
from declbind.live.hub import LiveHub, get_hub
from declbind.live.pump import Pump
from declbind.models import Event
from declbind.outbound import entries, log
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import find_permission, make_user
from tests.live import BOARD, NUMBERS, Tap, code_of, in_thread, next_payload, since_of, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {}}
PRIVATE_BOARD = {**BOARD, "permissions": {}}


class Login:
    """A user who logged in with a browser, and the scope of a socket of that session."""

    def __init__(self, *codenames: str, user: User | None = None) -> None:
        self.user: User = user or make_user(*codenames)
        self.browser = Browser()
        self.browser.force_login(self.user)
        store = import_module(django_settings.SESSION_ENGINE).SessionStore
        self.session = store(self.browser.session.session_key)

    def client(self, application: Any = None) -> Client:
        return Client(application, user=self.user, session=self.session)


async def log_in(*codenames: str, user: User | None = None) -> Login:
    login: Login = await in_thread(lambda: Login(*codenames, user=user))
    return login


def save_number() -> None:
    IntegerValue.objects.create(name="a", value=7)


def change_password(login: Login) -> None:
    login.user.set_password("another")
    login.user.save()


def deactivate(login: Login) -> None:
    login.user.is_active = False
    login.user.save()


def take_permission(login: Login) -> None:
    login.user.user_permissions.clear()


# Sessions ------------------------------------------------------------------------------------------------------------


async def test_a_logout_ends_the_sockets_of_that_session_alone():
    """The same user at another browser stays connected."""
    first = await log_in(VIEW)
    second = await log_in(user=first.user)
    with override_bindings(PRIVATE):
        async with first.client() as here, second.client() as there:
            await subscribe(here)
            await subscribe(there)
            await in_thread(first.browser.logout)
            assert await here.wait_closed() == 4401
            await store("a", 1)
            assert (await next_payload(there))["data"]["value"] == 1


@pytest.mark.parametrize(
    "lose",
    [
        change_password,
        deactivate,
        lambda login: login.user.delete(),
        lambda login: login.browser.logout(),
        lambda login: login.browser.session.flush(),
    ],
)
async def test_who_is_logged_in_no_more_is_closed(lose: Callable[[Login], Any]):
    """Every way to end a login ends its sockets, including idle ones and those that joined groups at connect."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE_BOARD):
        async with login.client() as client:
            await in_thread(lose, login)
            await in_thread(save_number)
            assert await client.wait_closed() == 4401


async def test_a_login_that_ends_during_the_handshake_is_closed(monkeypatch):
    """Between looking at the session and joining its groups there is no time in which a logout is not noticed."""
    login = await log_in(VIEW)
    identify = permissions.identify

    def identify_and_log_out(*args: Any) -> Any:
        identity = identify(*args)
        login.browser.logout()
        return identity

    monkeypatch.setattr(permissions, "identify", identify_and_log_out)
    with override_bindings(PRIVATE_BOARD):
        async with login.client() as client:
            await in_thread(save_number)
            with pytest.raises(ConnectionError, match="4401"):
                await client.receive()


async def test_other_changes_of_a_user_end_nothing():
    """A new name or another's logout is no reason to close anything."""
    login, other = await log_in(VIEW), await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            login.user.first_name = "Ann"
            await in_thread(login.user.save)
            await in_thread(other.browser.logout)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1
            assert await client.is_silent()


# Permissions ---------------------------------------------------------------------------------------------------------


def bind_own_rights(allowed: set[str]) -> type[WebsocketBinding]:
    """Return a binding whose rights are in a table of the project, here a set of users' keys."""

    class OwnRights(WebsocketBinding):
        model, stream, fields, groups = IntegerValue, "own", ["value"], ["own-{name}"]

        def has_view_permission(self, user, params):
            return str(user.pk) in allowed

    return OwnRights


@pytest.mark.parametrize("name", ["instances", "keys", "everybody"])
async def test_rights_of_the_project_are_checked_when_it_says_so(name):
    """The subscription ends before anything later is delivered, and those of other users continue."""
    ann, bob = await log_in(), await log_in()
    users = {"instances": [ann.user], "keys": [ann.user.pk], "everybody": None}[name]
    allowed = {str(ann.user.pk), str(bob.user.pk)}
    with override_bindings(bind_own_rights(allowed)):
        async with ann.client() as client, bob.client() as other:
            await subscribe(client, stream="own")
            await subscribe(other, stream="own")
            allowed.remove(str(ann.user.pk))
            await in_thread(recheck, users)
            await store("a", 1)
            assert await next_payload(client) == {"action": "closed", "reason": "permission"}
            assert await client.is_silent()
            assert (await next_payload(other))["data"] == {"value": 1}


async def test_rights_of_the_project_that_nobody_checks_are_noticed():
    """Control: without the call, the change is delivered."""
    ann = await log_in()
    allowed = {str(ann.user.pk)}
    with override_bindings(bind_own_rights(allowed)):
        async with ann.client() as client:
            await subscribe(client, stream="own")
            allowed.clear()
            await store("a", 1)
            assert (await next_payload(client))["data"] == {"value": 1}


async def test_a_lost_permission_ends_the_subscription_and_not_the_socket():
    """The client is sent the group that has ended. Other streams and new requests still work."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE, {**BOARD, "auto_subscribe": False}):
        async with login.client() as client:
            await subscribe(client)
            await client.request("board", "subscribe")
            await in_thread(take_permission, login)
            frame = await client.receive()
            assert (frame["stream"], frame["group"]) == ("numbers", "name-a")
            assert frame["payload"] == {"action": "closed", "reason": "permission"}
            await store("a", 1)
            assert (await client.receive())["stream"] == "board"
            assert await client.is_silent()
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"
            await in_thread(lambda: login.user.user_permissions.add(find_permission(VIEW)))
            await subscribe(client)


@pytest.mark.parametrize(
    "lose",
    [
        lambda user, group: group.permissions.clear(),
        lambda user, group: group.user_set.remove(user),
        lambda user, group: user.groups.clear(),
        lambda user, group: group.delete(),
    ],
)
async def test_a_permission_lost_with_a_group_ends_the_subscription(lose):
    """Rights that come by a Django group are lost when the group loses them, or the user the group."""
    login = await log_in()
    group = await Group.objects.acreate(name="readers")
    await in_thread(lambda: group.permissions.add(find_permission(VIEW)))
    await in_thread(login.user.groups.add, group)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            await in_thread(lose, login.user, group)
            assert (await next_payload(client))["reason"] == "permission"


async def test_a_stream_joined_at_connect_falls_silent():
    """Without an explicit subscription, neither control frames nor changes are sent after the permission is lost."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE_BOARD):
        async with login.client() as client:
            await store("a", 1)
            await client.receive()
            await in_thread(take_permission, login)
            await store("a", 2)
            assert await client.is_silent()


async def test_a_scope_that_changes_ends_the_subscription():
    """A user whose scope value changed gets no more changes of the former rows."""
    record = {**NUMBERS, "scope": {"name": "$user.first_name"}}
    login = await in_thread(lambda: Login(user=make_user(first_name="a")))
    with override_bindings(record):
        async with login.client() as client:
            await client.request("numbers", "subscribe")
            login.user.first_name = "b"
            await in_thread(login.user.save)
            assert (await next_payload(client))["reason"] == "permission"
            await store("a", 1)
            assert await client.is_silent()
            assert (await client.request("numbers", "subscribe"))["group"] == "name-b"


async def test_a_check_that_fails_is_a_no(caplog):
    """A permission that cannot be checked is denied, and the hub continues for other users."""
    login, other = await log_in(VIEW), await log_in(VIEW)
    fails = False

    def has_view_permission(self: Any, user: Any, params: Any) -> bool:
        if fails and user == login.user:
            raise ZeroDivisionError
        return True

    with override_bindings(PRIVATE) as registry:
        binding: Any = registry.by_stream["numbers"]
        binding.has_view_permission = has_view_permission
        async with login.client() as client, other.client() as neighbour:
            await subscribe(client)
            await subscribe(neighbour)
            fails = True
            await in_thread(login.user.save)
            assert (await next_payload(client))["reason"] == "permission"
            await store("a", 1)
            assert (await next_payload(neighbour))["data"]["value"] == 1
    assert "so the permission is denied" in caplog.text


# In the same breath --------------------------------------------------------------------------------------------------


async def lose_then_write(lose: Callable[[Login], Any], *, atomic: bool = False) -> list[Any]:
    """Revoke a permission and write at once; return the frames of the client until no more follow."""
    login = await log_in(VIEW)

    def run() -> None:
        if atomic:
            with transaction.atomic():
                lose(login)
                save_number()
        else:
            lose(login)
            save_number()

    received: list[Any] = []
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            await in_thread(run)
            try:
                received.append((await next_payload(client))["action"])
                while not await client.is_silent():
                    received.append((await next_payload(client))["action"])
            except ConnectionError:
                received.append(client.close_code)
    return received


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("lose", "expected"), [(take_permission, ["closed"]), (change_password, [4401]), (deactivate, [4401])]
)
async def test_nothing_written_after_the_loss_is_delivered(lose, expected, atomic):
    """The hub reads the revocation before the write in the log, however close they are."""
    assert await lose_then_write(lose, atomic=atomic) == expected


async def test_a_hub_that_ignores_control_events_is_noticed(monkeypatch):
    """Negative control of the previous test."""

    async def ignore(self: Pump, event: Any) -> None:
        return None

    monkeypatch.setattr(Pump, "_obey", ignore)
    assert await lose_then_write(take_permission) == ["create"]


async def test_a_replay_under_way_stops_at_the_loss():
    """What is read from the log at the reader's pace ends with the subscription, in the middle of a batch."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            reply = await subscribe(client)
        for value in range(50):
            await store("a", value)
        await (await get_hub()).settle()
        tap = Tap()
        client = login.client(tap)
        await client.connect()
        tap.shut()
        since = since_of(reply)
        request = {"action": "subscribe", "params": {"name": "a"}, "since": since, "ref": 1}
        await client.send({"stream": "numbers", "payload": request})
        tap.let(3)
        received = [await next_payload(client) for _ in range(3)]
        assert [payload["action"] for payload in received] == ["reply", "create", "create"]
        await in_thread(take_permission, login)
        await (await get_hub()).settle()
        tap.let(60)
        rest = [await next_payload(client)]
        while rest[-1]["action"] == "create":
            rest.append(await next_payload(client))
        # The few that were under way, and the end.
        assert rest[-1]["action"] == "closed"
        assert len(rest) < 45
        assert await client.is_silent()
        await client.disconnect()


async def grant_then_lose(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Revoke the permission, and let the hub notice, after it was checked for a request and before the answer."""
    login = await log_in(VIEW)
    loop = asyncio.get_running_loop()
    grant = grants.grant
    lost = False

    def grant_slowly(*args: Any) -> Any:
        nonlocal lost
        granted = grant(*args)
        if not lost:
            lost = True
            take_permission(login)
            asyncio.run_coroutine_threadsafe(hub.settle(), loop).result(PATIENCE)
        return granted

    monkeypatch.setattr(subscriptions, "grant", grant_slowly)
    with override_bindings(PRIVATE):
        hub = await get_hub()
        async with login.client() as client:
            return await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)


async def test_a_right_lost_while_it_is_checked_grants_nothing(monkeypatch):
    """The check is repeated if permissions were revoked in the meantime."""
    assert code_of(await grant_then_lose(monkeypatch)) == "denied"


async def test_an_answer_that_is_not_asked_again_is_noticed(monkeypatch):
    """Negative control of the previous test: the old answer would have subscribed the client."""

    async def revalidate(self: LiveHub, sockets: Any) -> None:
        return None

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert (await grant_then_lose(monkeypatch))["ok"]


# Kicks, and what no signal tells -------------------------------------------------------------------------------------


async def test_a_kick_closes_the_connections_of_a_user():
    """4403 with the operator's words; others stay, and the user may come back."""
    login, other = await log_in(VIEW), await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client, other.client() as neighbour:
            await subscribe(neighbour)
            await in_thread(kick, user=login.user, reason="Please reload.")
            with pytest.raises(ConnectionError, match=r"4403: Please reload\."):
                await client.receive()
            await store("a", 1)
            assert (await next_payload(neighbour))["data"]["value"] == 1
        async with login.client() as client:
            await subscribe(client)


async def test_a_kick_closes_one_connection():
    """One of several sockets can be named, an anonymous one too."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            [connection] = (await get_hub()).core.connections
            async with Client() as neighbour:
                await in_thread(kick, connection=connection.info.id)
                assert await client.wait_closed() == 4403
                await subscribe(neighbour)


@pytest.mark.parametrize("joined", ["asked", "at connect"])
async def test_the_batched_check_finds_what_no_signal_told(settings, joined):
    """QuerySet.update() on users sends no signal; the check repeated every REVALIDATE_SECONDS sees the result."""
    settings.DECLBIND = {"REVALIDATE_SECONDS": 0.1}
    login, other = await log_in(VIEW), await log_in(VIEW)
    with override_bindings(PRIVATE, PRIVATE_BOARD):
        async with login.client() as client, other.client() as neighbour:
            await subscribe(neighbour)
            if joined == "asked":
                await subscribe(client)
            await in_thread(lambda: get_user_model().objects.filter(pk=login.user.pk).update(is_active=False))
            assert await client.wait_closed() == 4401
            assert neighbour.close_code is None


async def test_a_control_event_of_a_newer_release_has_all_rights_checked():
    """An unknown event causes a check of all permissions, because a rolling update may have newer processes."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)

            def say_something_new() -> None:
                with transaction.atomic():
                    # Not told by a signal, so only the unknown event can lead to it.
                    get_user_model().user_permissions.through.objects.filter(user=login.user).delete()
                    draft = entries.Draft("", kind=Event.CONTROL, data=json.dumps({"type": "tokens", "tokens": [1]}))
                    log.append([draft], database_alias())

            await in_thread(say_something_new)
            assert (await next_payload(client))["reason"] == "permission"
            assert await client.is_silent()
