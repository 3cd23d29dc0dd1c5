"""The request `authenticate` on a socket that has a user: a newer token replaces the earlier one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import pytest
from django.db import connections

from declbind.inbound import authentication
from declbind.live import permission_checks
from declbind.live.expiry import Expiry
from declbind.live.hub import LiveHub, get_hub
from declbind.live.socket import SESSION_OVER, Socket
from declbind.models import Traffic
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.clocks import Clocks, clock
from tests.live import NUMBERS, code_of, in_thread, next_payload, only_socket, store, subscribe
from tests.logins import log_in
from tests.tokens import HOST, PRIVATE, PRIVATE_BOARD, VIEW, actions_to_the_close, issue, load_rows, viewer

__all__ = ["clock"]

hub_module: Any = import_module("declbind.live.hub")
pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_newer_token_replaces_the_earlier_one(clock):
    """The socket stays open until the end of the newer token, and its subscriptions stay."""
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


async def test_a_newer_token_may_end_earlier(clock):
    """The newer token decides, not the longer one."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            assert (await client.authenticate(await issue(user, lifetime=10)))["seconds"] == 10
            assert await next_payload(client) == {"action": "expiring", "seconds": 10}
            clock.pass_by(11)
            await store("a", 1)
            assert await client.wait_closed() == 4401


async def test_a_token_of_another_user_is_refused():
    """The user, the end and the subscriptions stay the same."""
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
    """The earlier token stays in force until its own end."""
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


async def test_a_token_replaces_the_session_of_its_user():
    """After that the end of the token matters, and the logout of the session does not."""
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


async def test_messages_with_tokens_count_for_the_rate_limit(settings):
    """A client cannot try tokens faster than it may send anything."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1, "MESSAGE_BURST": 3}
    with override_bindings(NUMBERS):
        async with Client() as client:
            codes = [code_of(await client.authenticate("db1-x.y")) for _ in range(5)]
    assert codes[:3] == ["denied"] * 3
    assert "rate_limited" in codes


async def test_a_renewal_just_before_the_end_counts(clock):
    """The socket stays open, and the earlier end has no effect."""
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

            def judge_slowly(asked: Any, registry: Any) -> object:
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
    """Its result concerns the earlier token, so the newer one is checked next."""
    assert await check_across_a_renewal(monkeypatch, clock) is None


async def test_a_check_of_another_token_that_closes_the_socket_is_detected(clock, monkeypatch):
    """Negative control of the previous test: the socket is closed although its token is valid."""

    async def revalidate(self: LiveHub, sockets: Iterable[Socket]) -> None:
        for socket, current, _ in await self.thread.run(hub_module.check_sockets, [(s, []) for s in sockets], None):
            if not current:
                socket.close(SESSION_OVER)

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert await check_across_a_renewal(monkeypatch, clock) == SESSION_OVER


async def test_a_renewal_after_the_end_does_not_count(clock, monkeypatch):
    """The earlier token ended while the newer one was being checked."""
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


async def test_a_renewal_neither_loses_nor_repeats_frames():
    """During two hundred writes and twenty renewals each frame arrives once, in order."""
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


async def test_a_page_of_another_site_cannot_send_a_token_later():
    """Without a token in the handshake, the origin of the page is checked."""
    assert not await Client(headers=[HOST, (b"origin", b"https://evil.example")]).connect()


async def test_the_reason_for_a_refused_token_is_shown():
    """The client learns only that the token is not valid. The operator sees the reason."""
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
