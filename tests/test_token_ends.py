"""The end of a token: what ends it early, the notice before its end, and what is sent afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import override_settings

from declbind import WebsocketBinding, recheck
from declbind.inbound import blocks
from declbind.inbound.revocation import kick
from declbind.live.expiry import Expiry
from declbind.live.hub import get_hub
from declbind.live.socket import Socket
from declbind.models import Traffic
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.clocks import Clocks, clock
from tests.live import in_thread, next_payload, since_of, store, subscribe
from tests.tokens import PRIVATE, actions_to_the_close, close_code, issue, load_rows, viewer

__all__ = ["clock"]

pytestmark = pytest.mark.django_db(transaction=True)


# What ends a token ---------------------------------------------------------------------------------------------------


def change_password(user: User) -> None:
    user.set_password("another")
    user.save()


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


@pytest.mark.parametrize(
    ("lose", "code"),
    [
        (change_password, 4401),
        (deactivate, 4401),
        (lambda user: user.delete(), 4401),
        (lambda user: kick(user=user), 1012),
        (lambda user: blocks.block(str(user.pk), timedelta(hours=1)), 4403),
    ],
)
async def test_what_ends_a_session_ends_a_token(lose: Callable[[User], object], code: int):
    """The connection ends before anything later is delivered."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            await in_thread(lose, user)
            await store("a", 1)
            with pytest.raises(ConnectionError, match=str(code)):
                await client.receive()


@pytest.mark.parametrize("lose", [change_password, deactivate, lambda user: user.delete()])
async def test_a_token_that_was_ended_is_refused(lose):
    """It is refused like an invalid one."""
    user = await viewer()
    token = await issue(user)
    await in_thread(lose, user)
    with override_bindings(PRIVATE):
        assert await close_code(Client(token=token)) == 4401


async def test_a_lost_permission_ends_the_subscription():
    """The same happens on a socket with a session."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            await in_thread(user.user_permissions.clear)
            await store("a", 1)
            assert await next_payload(client) == {"action": "closed", "reason": "permission"}
            assert await client.is_silent()


async def test_recheck_covers_connections_with_a_token():
    """A project calls it for permissions whose changes declbind cannot detect."""
    allowed = True

    class OwnRights(WebsocketBinding):
        model, stream, fields, groups = IntegerValue, "own", ["value"], ["own-{name}"]

        def has_view_permission(self, user, params):
            return allowed

    user = await viewer()
    with override_bindings(OwnRights):
        async with Client(token=await issue(user)) as client:
            await subscribe(client, stream="own")
            allowed = False
            await in_thread(recheck, [user])
            assert await next_payload(client) == {"action": "closed", "reason": "permission"}


async def test_a_replaced_secret_key_ends_tokens_unless_it_is_a_fallback():
    """The fallbacks apply to the signature and to the digest of the password."""
    user = await viewer()
    with override_settings(SECRET_KEY="old" * 20):
        token = await issue(user)
    with override_bindings(PRIVATE):
        with override_settings(SECRET_KEY_FALLBACKS=["old" * 20]):
            async with Client(token=token) as client:
                await subscribe(client)
        assert await close_code(Client(token=token)) == 4401


async def test_a_proof_is_valid_with_the_next_token_of_the_user():
    """A client that reconnects with a new token gets the events that it missed."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            since = since_of(await subscribe(client))
        await store("a", 7)
        async with Client(token=await issue(user, lifetime=50)) as client:
            await subscribe(client, since=since)
            assert (await next_payload(client))["data"]["value"] == 7


# The end of a term ---------------------------------------------------------------------------------------------------


async def test_a_notice_is_sent_before_the_token_ends(clock):
    """It is sent 30 seconds before. At the end the socket is closed, even if nothing is written."""
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer())) as client:
            hub = await get_hub()
            clock.pass_by(269)
            hub.expiry.enforce()
            assert await client.is_silent()
            clock.pass_by(1)
            hub.expiry.enforce()
            assert await client.receive() == {
                "stream": "", "group": "", "offset": 0, "payload": {"action": "expiring", "seconds": 30},
            }  # fmt: skip
            clock.pass_by(29)
            hub.expiry.enforce()
            assert await client.is_silent()
            clock.pass_by(1)
            hub.expiry.enforce()
            assert await client.wait_closed() == 4401


async def test_a_token_that_ends_soon_is_announced_at_once():
    """The notice has the remaining seconds."""
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer(), lifetime=12)) as client:
            notice = await next_payload(client)
            assert notice["action"] == "expiring"
            assert notice["seconds"] in range(6, 13), "on a busy machine the connection may have taken a while"


async def test_an_idle_socket_is_closed_when_its_token_ends():
    """A timer closes it, without the pump."""
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer(), lifetime=0.3)) as client:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("declbind.live.pump.Pump._advance", lambda self: asyncio.sleep(3600))
                assert await client.wait_closed() == 4401


Move = Callable[[Clocks], None]


def sleep(clock: Clocks) -> None:
    """Let the machine sleep: the monotonic clock stands still."""
    clock.wall += 400


def set_back(clock: Clocks) -> None:
    """Let time pass while an administrator sets the wall clock back."""
    clock.steady += 400
    clock.wall -= 10_000


def pass_by(clock: Clocks) -> None:
    clock.pass_by(400)


def write_across_the_end(clock: Clocks, move: Move) -> None:
    for value in range(100):
        if value == 50:
            move(clock)
        IntegerValue.objects.create(name="a", value=value)
    connections.close_all()


async def values_across_the_end(clock: Clocks, move: Move, *, blocks_loop: bool) -> list[int]:
    """Write 100 rows, half of them after the end of a token; return the values that its socket got before it closed."""
    received: list[int] = []
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer())) as client:
            await subscribe(client)
            writer = threading.Thread(target=write_across_the_end, args=(clock, move))
            writer.start()
            if blocks_loop:
                writer.join()
            while len(received) < 100:
                try:
                    frame = await client.receive()
                except ConnectionError:
                    break
                if frame["payload"]["action"] == "create":
                    value = frame["payload"]["data"]["value"]
                    assert isinstance(value, int)
                    received.append(value)
            await in_thread(writer.join)
    return received


@pytest.mark.parametrize("blocks_loop", [False, True])
@pytest.mark.parametrize("move", [pass_by, sleep, set_back])
async def test_nothing_is_delivered_that_was_committed_after_the_end(clock, move, blocks_loop):
    """This holds at any speed of writing, on any clock, and with a busy event loop."""
    received = await values_across_the_end(clock, move, blocks_loop=blocks_loop)
    assert received == list(range(len(received)))
    assert all(value < 50 for value in received)


async def test_a_hub_without_the_barrier_would_be_caught(clock, monkeypatch):
    """Negative control of the test before: a regular check of all sockets would be too late."""
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    assert await values_across_the_end(clock, pass_by, blocks_loop=True) == list(range(100))


@pytest.mark.parametrize("action", ["snapshot", "replay"])
async def test_a_read_that_ends_after_the_token_is_not_delivered(clock, monkeypatch, action):
    """Rows that were read after the end are dropped, even if nothing else has detected the end yet."""
    with override_bindings(PRIVATE):
        user = await viewer()
        async with Client(token=await issue(user)) as client:
            since = since_of(await subscribe(client))
        await store("a", 1)
        hub = await get_hub()
        await hub.settle()
        hub.forget_recent()
        token = await issue(user)
        async with Client(token=token) as client:
            monkeypatch.setattr(Expiry, "enforce", lambda self: None)
            let_end_in(monkeypatch, clock, "read_snapshot" if action == "snapshot" else "read_missed")
            payload: dict[str, object] = {"snapshot": True} if action == "snapshot" else {"since": since}
            request = {"action": "subscribe", "params": {"name": "a"}, "ref": 1, **payload}
            await client.send({"stream": "numbers", "payload": request})
            assert [action for action in await actions_to_the_close(client) if action != "reply"] == []
            assert client.close_code == 4401


def let_end_in(monkeypatch: pytest.MonkeyPatch, clock: Clocks, name: str) -> None:
    """Let the token end while a function reads from the database."""
    module = "declbind.live.snapshots" if name == "read_snapshot" else "declbind.live.replays"
    function = getattr(__import__(module, fromlist=[name]), name)

    def read(*args: object) -> object:
        found = function(*args)
        clock.pass_by(400)
        return found

    monkeypatch.setattr(f"{module}.{name}", read)


async def test_a_read_without_the_check_would_be_caught(clock, monkeypatch):
    """Negative control of the test before: rows that were read after the end are sent."""
    monkeypatch.setattr(Socket, "is_over", lambda self: self.closed.done())
    monkeypatch.setattr(Socket, "push", lambda self, text: self.connection.push(text, 0.0))
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    with override_bindings(PRIVATE):
        await store("a", 1)
        async with Client(token=await issue(await viewer())) as client:
            let_end_in(monkeypatch, clock, "read_snapshot")
            await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
            assert (await next_payload(client))["action"] == "snapshot"


async def test_a_write_after_the_end_is_refused(clock, monkeypatch):
    """A request that waits until the token has ended stores nothing."""
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer())) as client:
            clock.pass_by(400)
            await client.send({"stream": "numbers", "payload": {"action": "create", "data": {"name": "a", "value": 1}}})
        # The consumer carries out what it has taken before it ends.
        refused = [row.outcome for row in await load_rows(Traffic) if row.action == "create"]
    assert refused == ["denied"]
    assert not await IntegerValue.objects.aexists()


def test_the_cost_of_a_check_does_not_depend_on_the_number_of_sockets(clock, event_loop_runner):
    """Ten thousand sockets are not checked one by one, and closed ones are removed."""
    asked = 0

    class Quiet:
        class closed:
            @staticmethod
            def done() -> bool:
                return False

        def __init__(self) -> None:
            self.identity = type("Identity", (), {"term": terms_until(clock, 1_000)})

        def close_expired(self) -> None:
            nonlocal asked
            asked += 1

    async def run() -> tuple[int, int]:
        expiry = Expiry()
        sockets: list[Any] = [Quiet() for _ in range(10_000)]
        for socket in sockets:
            expiry.watch(socket)
        for _ in range(1_000):
            expiry.enforce()
        watched = len(expiry._by_deadline)
        for socket in sockets:
            expiry.forget(socket)
        expiry.watch(Quiet())  # type: ignore[arg-type]
        left = len(expiry._by_deadline)
        expiry.stop()
        return watched, left

    assert event_loop_runner(run()) == (10_000, 1)
    assert asked == 0


def terms_until(clock: Clocks, seconds: float) -> object:
    from declbind.inbound.terms import Term

    return Term.until(clock.time() + seconds)


@pytest.fixture
def event_loop_runner():
    return asyncio.run
