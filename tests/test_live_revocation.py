"""Revoked permissions: sessions that end, and permissions that are taken away, under open sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group

from declbind import WebsocketBinding, recheck
from declbind.inbound import permissions
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.factories import find_permission, make_user
from tests.live import BOARD, NUMBERS, code_of, in_thread, next_payload, store, subscribe
from tests.logins import (
    PRIVATE,
    PRIVATE_BOARD,
    VIEW,
    Login,
    change_password,
    deactivate,
    log_in,
    save_number,
    take_permission,
)

pytestmark = pytest.mark.django_db(transaction=True)

# Sessions -------------------------------------------------------------------------------------------------------------


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
async def test_an_ended_login_closes_its_sockets(lose: Callable[[Login], Any]):
    """Every way to end a login closes its sockets, including idle ones and those that joined groups at connect."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE_BOARD):
        async with login.client() as client:
            await in_thread(lose, login)
            await in_thread(save_number)
            assert await client.wait_closed() == 4401


async def test_a_login_that_ends_during_the_handshake_is_closed(monkeypatch):
    """There is no time between reading the session and joining its groups in which a logout is missed."""
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


async def test_other_changes_of_a_user_close_nothing():
    """A new name or the logout of another user closes no socket."""
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


# Permissions ----------------------------------------------------------------------------------------------------------


def bind_own_rights(allowed: set[str]) -> type[WebsocketBinding]:
    """Return a binding whose permissions are in a table of the project, here a set of users' keys."""

    class OwnRights(WebsocketBinding):
        model, stream, fields, groups = IntegerValue, "own", ["value"], ["own-{name}"]

        def has_view_permission(self, user, params):
            return str(user.pk) in allowed

    return OwnRights


@pytest.mark.parametrize("name", ["instances", "keys", "everybody"])
async def test_permissions_of_the_project_are_checked_on_request(name):
    """The subscription ends before anything later is delivered, and those of other users continue."""
    ann, bob = await log_in(), await log_in()
    choices: dict[str, list[object] | None] = {"instances": [ann.user], "keys": [ann.user.pk], "everybody": None}
    users = choices[name]
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


async def test_permissions_of_the_project_that_are_not_checked_are_detected():
    """Negative control: without the call, the change is delivered."""
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
    """The permission of a Django group is lost when the group loses it, or when the user leaves the group."""
    login = await log_in()
    group = await Group.objects.acreate(name="readers")
    await in_thread(lambda: group.permissions.add(find_permission(VIEW)))
    await in_thread(login.user.groups.add, group)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            await in_thread(lose, login.user, group)
            assert (await next_payload(client))["reason"] == "permission"


async def test_a_stream_joined_at_connect_ends_without_a_frame():
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


async def test_a_permission_that_cannot_be_checked_is_denied(caplog):
    """The hub continues for other users."""
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
