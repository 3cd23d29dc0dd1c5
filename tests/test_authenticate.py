"""The request ``authenticate`` on an open socket: who is admitted, what stays, and what is replaced."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from declbind import WebsocketBinding
from declbind.inbound import authentication, blocks, writes
from declbind.live import authenticating, permission_checks
from declbind.live.expiry import Expiry
from declbind.live.hub import LiveHub, get_hub
from declbind.live.socket import SESSION_OVER
from declbind.models import Connection, Traffic
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.clocks import Clocks, clock
from tests.live import NUMBERS, code_of, in_thread, next_payload, store, subscribe
from tests.test_live_revocation import log_in
from tests.tokens import HOST, PRIVATE, PRIVATE_BOARD, VIEW, actions_to_the_close, issue, load_rows, viewer

hub_module: Any = import_module("declbind.live.hub")

__all__ = ["clock"]

pytestmark = pytest.mark.django_db(transaction=True)


async def only_socket() -> Any:
    (socket,) = (await get_hub()).sockets()
    return socket


# An anonymous socket -------------------------------------------------------------------------------------------------


async def test_an_anonymous_socket_becomes_that_of_the_user():
    """What it is subscribed to stays, and what takes a right is open to it now."""
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


async def authenticate_as_one_who_may_less() -> list[Any]:
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


async def test_subscriptions_are_judged_again_as_the_user():
    """A subscription that an anonymous visitor may have, but not the user, ends."""
    assert await authenticate_as_one_who_may_less() == ["closed"]


async def test_subscriptions_that_are_not_judged_again_are_noticed(monkeypatch):
    """Negative control of the previous test."""

    async def revalidate(self: LiveHub, sockets: Any) -> None:
        return None

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert await authenticate_as_one_who_may_less() == ["create"]


async def test_a_user_joins_the_groups_that_a_new_connection_would():
    """Streams with ``auto_subscribe`` that take a right are joined without asking."""
    with override_bindings(PRIVATE_BOARD):
        async with Client() as client:
            await store("a", 1)
            assert await client.is_silent()
            await client.authenticate(await issue(await viewer()))
            await store("a", 2)
            assert (await next_payload(client))["data"]["value"] == 2


async def test_what_is_sent_after_the_token_is_for_the_user():
    """A client need not wait for the reply."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client() as client:
            await client.send({"payload": {"action": "authenticate", "token": token}})
            await subscribe(client)


async def test_a_request_under_way_is_judged_by_the_identity_that_it_began_with(monkeypatch):
    """A write that an anonymous client asked for is not carried out as the user's."""
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


async def test_the_connection_counts_for_the_user(settings):
    """Until it ends; then it makes room for another one of the same user."""
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


async def test_the_console_shows_who_it_is_and_until_when():
    """The row of the connection follows its identity."""
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
    """The anonymous connection stays what it was."""
    user = await viewer()
    token = await issue(user)
    await in_thread(blocks.block, str(user.pk), timedelta(hours=1))
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert code_of(await client.authenticate(token)) == "denied"
            await subscribe(client)
            assert (await only_socket()).user_key is None


async def test_a_block_that_comes_in_between_closes_the_socket(monkeypatch):
    """The kick of the block may have met the socket before it was the user's."""
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


async def test_a_socket_whose_subscriptions_could_not_be_judged_is_closed(monkeypatch):
    """The client comes back when the database does."""

    async def fail(self: LiveHub, sockets: Any) -> None:
        raise OperationalError("the server is away")

    token = await issue(await viewer())
    with override_bindings(NUMBERS):
        async with Client() as client:
            monkeypatch.setattr(LiveHub, "revalidate", fail)
            await client.send({"payload": {"action": "authenticate", "token": token}})
            assert await client.wait_closed() == 1013


# Renewal -------------------------------------------------------------------------------------------------------------


async def test_a_newer_token_takes_the_place_of_the_earlier_one(clock):
    """The socket lives until the end of the newer one, and its subscriptions go on."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            clock.pass_by(200)
            assert (await client.authenticate(await issue(user)))["seconds"] == 300
            clock.pass_by(200)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1
            clock.pass_by(101)
            await store("a", 2)
            assert set(await actions_to_the_close(client)) <= {"expiring"}
            assert client.close_code == 4401


async def test_a_token_that_ends_earlier_counts_too(clock):
    """The newer token is what counts, not the longer one."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            assert (await client.authenticate(await issue(user, lifetime=10)))["seconds"] == 10
            assert await next_payload(client) == {"action": "expiring", "seconds": 10}
            clock.pass_by(11)
            await store("a", 1)
            assert await client.wait_closed() == 4401


async def test_a_token_of_another_user_is_refused():
    """Nothing changes: neither the user nor the end nor the subscriptions."""
    user, other = await viewer(), await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            before = (await only_socket()).identity
            assert code_of(await client.authenticate(await issue(other))) == "denied"
            assert (await only_socket()).identity is before
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1


@pytest.mark.parametrize("kind", ["expired", "forged", "empty"])
async def test_a_bad_token_leaves_the_earlier_one_in_force(clock, kind):
    """Until its own end."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            bad = {"expired": await issue(user, lifetime=1), "forged": "db1-x.y", "empty": ""}[kind]
            clock.pass_by(100)
            assert code_of(await client.authenticate(bad)) == "denied"
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1
            clock.pass_by(201)
            await store("a", 2)
            with pytest.raises(ConnectionError, match="4401"):
                await client.receive()


async def test_a_session_gives_way_to_a_token_of_its_user():
    """From then on the log-out of the session does not matter, and the end of the token does."""
    login = await log_in(VIEW)
    other = await viewer()
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            assert code_of(await client.authenticate(await issue(other))) == "denied"
            assert (await client.authenticate(await issue(login.user)))["ok"]
            await in_thread(login.browser.logout)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1


async def test_a_token_for_fewer_streams_ends_the_others():
    """Explicit subscriptions are sent ``closed``, and automatic ones end silently."""
    streams: list[Any] = [{**PRIVATE, "stream": "other"}, {**PRIVATE_BOARD, "stream": "joined"}]
    user = await viewer()
    with override_bindings(PRIVATE, *streams):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            await subscribe(client, stream="other")
            assert (await client.authenticate(await issue(user, streams=["numbers"])))["ok"]
            frame = await client.receive()
            assert (frame["stream"], frame["payload"]) == ("other", {"action": "closed", "reason": "permission"})
            await store("a", 1)
            assert (await client.receive())["stream"] == "numbers"
            assert await client.is_silent()
            assert (await client.authenticate(await issue(user)))["ok"]
            await store("a", 2)
            assert {(await client.receive())["stream"] for _ in range(2)} == {"numbers", "joined"}


async def test_messages_with_tokens_are_counted_like_others(settings):
    """A client cannot try tokens faster than it may send anything."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1, "MESSAGE_BURST": 3}
    with override_bindings(NUMBERS):
        async with Client() as client:
            codes = [code_of(await client.authenticate("db1-x.y")) for _ in range(5)]
    assert codes[:3] == ["denied"] * 3
    assert "rate_limited" in codes


async def test_a_renewal_in_the_last_moment_counts(clock):
    """The socket goes on, and nothing of the earlier end is left."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            clock.pass_by(299)
            assert (await client.authenticate(await issue(user)))["ok"]
            clock.pass_by(2)
            await store("a", 1)
            while (payload := await next_payload(client))["action"] == "expiring":
                pass
            assert payload["data"]["value"] == 1


async def check_across_a_renewal(monkeypatch: pytest.MonkeyPatch, clock: Clocks) -> int | None:
    """Let a check of all sockets begin before a renewal and end after it; return the close code."""
    user = await viewer()
    loop = asyncio.get_running_loop()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user, lifetime=40)):
            socket = await only_socket()
            newer = await in_thread(authentication.authenticate_now, await issue(user, lifetime=900), {}, socket.id)

            def judge_slowly(asked: Any, registry: Any) -> Any:
                """Check the earlier token, which has just ended, while a newer one replaces it."""
                clock.pass_by(41)
                verdicts = permission_checks.check_sockets(asked, registry)
                monkeypatch.setattr(hub_module, "check_sockets", permission_checks.check_sockets)
                loop.call_soon_threadsafe(socket.become, newer)
                return verdicts

            monkeypatch.setattr(Expiry, "enforce", lambda self: None)
            monkeypatch.setattr(hub_module, "check_sockets", judge_slowly)
            await (await get_hub()).revalidate([socket])
            return socket.closed.result()[0] if socket.closed.done() else None


async def test_a_check_that_began_before_a_renewal_does_not_close_the_socket(clock, monkeypatch):
    """Its result is for the earlier token, so the newer one is checked before anything else happens."""
    assert await check_across_a_renewal(monkeypatch, clock) is None


async def test_a_check_that_believes_a_verdict_about_another_token_is_noticed(clock, monkeypatch):
    """Negative control of the test before: the socket would be closed although its token is good."""

    async def revalidate(self: LiveHub, sockets: Any) -> None:
        for socket, current, _ in await self.thread.run(hub_module.check_sockets, [(s, []) for s in sockets], None):
            if not current:
                socket.close(SESSION_OVER)

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert await check_across_a_renewal(monkeypatch, clock) == SESSION_OVER


async def test_a_renewal_that_comes_after_the_end_does_not_count(clock, monkeypatch):
    """The earlier token ended while the newer one was checked, and this had not been noticed yet."""
    user = await viewer()
    authenticate = authentication._authenticate

    def authenticate_slowly(*args: Any) -> Any:
        clock.pass_by(20)
        return authenticate(*args)

    with override_bindings(PRIVATE):
        async with Client(token=await issue(user, lifetime=10)) as client:
            token = await issue(user)
            monkeypatch.setattr(authentication, "_authenticate", authenticate_slowly)
            monkeypatch.setattr(Expiry, "enforce", lambda self: None)
            await client.send({"payload": {"action": "authenticate", "token": token}})
            assert await client.wait_closed() == 4401


def save_all(rows: list[IntegerValue]) -> None:
    for row in rows:
        row.save()
    connections.close_all()


async def test_a_renewal_loses_and_doubles_no_frame():
    """Twenty renewals while two hundred rows are written: each frame comes once, in order."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            rows = [IntegerValue(name="a", value=value) for value in range(200)]
            writer = threading.Thread(target=save_all, args=(rows,))
            writer.start()
            for _ in range(20):
                assert (await client.authenticate(await issue(user)))["ok"]
            frames = [await client.receive() for _ in rows]
            writer.join()
            assert await client.is_silent()
    assert [frame["payload"]["data"]["value"] for frame in frames] == list(range(200))
    assert len({frame["offset"] for frame in frames}) == 200


async def test_a_page_of_another_site_cannot_bring_a_token_later():
    """Without a token in the handshake, the origin of the page is checked."""
    assert not await Client(headers=[HOST, (b"origin", b"https://evil.example")]).connect()


async def test_what_was_refused_is_shown_with_the_reason():
    """The client only learns that the token is not valid. The operator sees the reason."""
    user = await viewer()
    token = await issue(user)
    user.set_password("another")
    await in_thread(user.save)
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await client.authenticate(token)
            rows = [row for row in await load_rows(Traffic) if row.action == "authenticate"]
    assert reply["error"]["message"] == "The token is not valid."
    assert [row.message for row in rows] == [
        "Expected a token that was issued after the last change of the user's password."
    ]
