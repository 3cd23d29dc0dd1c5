"""The request `authenticate`: an anonymous socket becomes that of a user."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from declbind import WebsocketBinding
from declbind.inbound import blocks, writes
from declbind.live import authenticating
from declbind.live.hub import LiveHub, get_hub
from declbind.live.socket import Socket
from declbind.models import Connection
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, code_of, in_thread, next_payload, only_socket, store, subscribe
from tests.tokens import PRIVATE, PRIVATE_BOARD, issue, load_rows, viewer

pytestmark = pytest.mark.django_db(transaction=True)


async def test_an_anonymous_socket_becomes_that_of_the_user():
    """Its subscriptions stay, and streams that need a permission can be subscribed to."""
    with override_bindings(NUMBERS, {**PRIVATE, "stream": "private"}):
        async with Client() as client:
            await subscribe(client)
            assert code_of(await client.request("private", "subscribe", params={"name": "a"})) == "denied"
            reply = await client.authenticate(await issue(await viewer()))
            assert (reply["ok"], reply["seconds"]) == (True, 300)
            await subscribe(client, stream="private")
            await store("a", 1)
            assert {(await client.receive())["stream"] for _ in range(2)} == {"numbers", "private"}


class ForStrangers(WebsocketBinding):
    """Rows that only anonymous visitors may see."""

    model, stream, fields, groups = IntegerValue, "strangers", ["name", "value"], ["strangers-{name}"]

    def has_view_permission(self, user, params):
        return user.is_anonymous


async def authenticate_as_one_who_may_less() -> list[object]:
    """Return the frames of an anonymous subscriber who becomes a user without the view permission."""
    with override_bindings(ForStrangers):
        async with Client() as client:
            await subscribe(client, stream="strangers")
            await client.authenticate(await issue(await viewer()))
            await store("a", 1)
            received = []
            while not await client.is_silent():
                received.append((await next_payload(client))["action"])
            return received


async def test_subscriptions_are_checked_again_for_the_user():
    """A subscription that only anonymous visitors may have ends."""
    assert await authenticate_as_one_who_may_less() == ["closed"]


async def test_subscriptions_that_are_not_checked_again_are_detected(monkeypatch):
    """Negative control of the previous test."""

    async def revalidate(self: LiveHub, sockets: Iterable[Socket]) -> None:
        return None

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert await authenticate_as_one_who_may_less() == ["create"]


async def test_a_user_joins_the_groups_that_a_new_connection_would_join():
    """This includes streams with ``auto_subscribe`` that need a permission."""
    with override_bindings(PRIVATE_BOARD):
        async with Client() as client:
            await store("a", 1)
            assert await client.is_silent()
            await client.authenticate(await issue(await viewer()))
            await store("a", 2)
            assert (await next_payload(client))["data"]["value"] == 2


async def test_requests_after_the_token_are_those_of_the_user():
    """A client need not wait for the reply."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client() as client:
            await client.send({"payload": {"action": "authenticate", "token": token}})
            await subscribe(client)


async def test_a_running_request_keeps_the_identity_of_its_start(monkeypatch):
    """A write that an anonymous client requested is not carried out as the user's."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    handle = writes.handle

    def handle_slowly(*args: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(PATIENCE)
        return handle(*args)

    monkeypatch.setattr(writes, "handle", handle_slowly)
    token = await issue(await viewer())
    create = {"action": "create", "data": {"name": "a", "value": 1}}
    with override_bindings(PRIVATE):
        async with Client() as client:
            for ref in (1, 2):
                # The second waits for the first, and has not begun to run when the token comes.
                await client.send({"stream": "numbers", "payload": {**create, "ref": ref}})
            await begun.wait()
            assert (await client.authenticate(token))["ok"]
            go_on.set()
            replies = [await next_payload(client) for _ in range(2)]
    assert [code_of(reply) for reply in replies] == ["denied", "denied"]


async def test_the_connection_counts_as_one_of_the_user(settings):
    """When it ends, it makes room for another one of the same user."""
    settings.DECLBIND = {"MAX_CONNECTIONS_PER_USER": 1}
    user = await viewer()
    first, second = await issue(user), await issue(user)
    with override_bindings(NUMBERS):
        async with Client() as other:
            async with Client() as client:
                assert (await client.authenticate(first))["ok"]
                assert (await client.authenticate(second))["ok"]
                assert code_of(await other.authenticate(second)) == "denied"
                await subscribe(other)
            assert (await other.authenticate(second))["ok"]
        assert not (await get_hub()).admission._counts


async def test_the_console_shows_the_user_and_the_end_of_the_token():
    """The row of the connection is updated."""
    user = await viewer()
    with override_bindings(NUMBERS):
        async with Client() as client:
            (before,) = await load_rows(Connection)
            await client.authenticate(await issue(user, lifetime=100))
            (after,) = await load_rows(Connection)
    assert (before.credential, before.username, before.credential_ends_at) == ("", "", None)
    assert (after.credential, after.username, after.user_pk) == ("token", user.username, str(user.pk))
    assert timedelta(seconds=0) < after.credential_ends_at - timezone.now() <= timedelta(seconds=100)


async def test_a_blocked_user_is_refused():
    """The connection stays anonymous."""
    user = await viewer()
    token = await issue(user)
    await in_thread(blocks.block, str(user.pk), timedelta(hours=1))
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert code_of(await client.authenticate(token)) == "denied"
            await subscribe(client)
            assert (await only_socket()).user_key is None


async def test_a_block_during_the_request_closes_the_socket(monkeypatch):
    """The kick of the block may have come before the socket belonged to the user."""
    user = await viewer()
    become = authenticating._become

    def block_then_become(*args: Any) -> None:
        thread = threading.Thread(target=block)
        thread.start()
        thread.join()
        become(*args)

    def block() -> None:
        blocks.block(str(user.pk), timedelta(hours=1))
        connections.close_all()

    token = await issue(user)
    with override_bindings(NUMBERS):
        async with Client() as client:
            hub = await get_hub()
            await hub.settle()
            monkeypatch.setattr(authenticating, "_become", block_then_become)
            # As if the kick had been obeyed already.
            monkeypatch.setattr("declbind.live.pump.Pump._obey", lambda self, event: asyncio.sleep(0))
            await client.send({"payload": {"action": "authenticate", "token": token}})
            assert await client.wait_closed() == 4403


async def test_a_socket_whose_subscriptions_cannot_be_checked_is_closed(monkeypatch):
    """The client reconnects when the database is available again."""

    async def fail(self: LiveHub, sockets: Iterable[Socket]) -> None:
        raise OperationalError("the server is away")

    token = await issue(await viewer())
    with override_bindings(NUMBERS):
        async with Client() as client:
            monkeypatch.setattr(LiveHub, "revalidate", fail)
            await client.send({"payload": {"action": "authenticate", "token": token}})
            assert await client.wait_closed() == 1013
