"""Tokens: how they are issued, the ways in which they come, what they grant, and when they end."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.signing import b64_decode
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from declbind import WebsocketBinding, recheck, tokens
from declbind.inbound import blocks
from declbind.inbound.revocation import kick
from declbind.live.consumers import WebsocketDemultiplexer
from declbind.live.expiry import Expiry
from declbind.live.hub import get_hub
from declbind.live.socket import Socket
from declbind.models import Traffic, Watch
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests import clocks
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, code_of, in_thread, next_payload, since_of, store, subscribe
from tests.test_live_revocation import log_in

pytestmark = pytest.mark.django_db(transaction=True)

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {"view": VIEW, "create": VIEW, "update": VIEW, "delete": False}}
PRIVATE_BOARD = {**BOARD, "permissions": {"view": VIEW}}
HOST = (b"host", b"testserver")
#: RFC 9110, section 5.6.2: what the name of a subprotocol may consist of, less what browsers refuse.
LEGAL = re.compile(r"[A-Za-z0-9._-]+\Z")


@pytest.fixture
def clock(monkeypatch):
    return clocks.install(monkeypatch)


async def viewer(*codenames: str) -> User:
    user: User = await in_thread(make_user, *(codenames or (VIEW,)))
    return user


async def issue(user: Any, **kwargs: Any) -> str:
    token: str = await in_thread(tokens.issue, user, **kwargs)
    return token


def by_protocol(*protocols: str, **kwargs: Any) -> Client:
    return Client(subprotocols=protocols, **kwargs)


async def close_code(client: Client) -> int:
    await client.connect()
    return await client.wait_closed()


async def load_rows(model: Any) -> list[Any]:
    """Return the rows of a table of the console, after the hub has written what waits."""
    hub = await get_hub()
    await hub.thread.run(hub.traffic.write, hub.traffic.take(), hub.using)
    await hub.thread.run(
        hub.connection_log.write, hub.connection_log.rows(hub.connection_log.take(), hub.core.cursor), hub.using
    )
    rows: list[Any] = await in_thread(lambda: list(model.objects.all()))
    return rows


# Issuing -------------------------------------------------------------------------------------------------------------


def test_a_token_is_legal_in_a_header_and_in_a_subprotocol():
    """It is read back as it was issued."""
    user = make_user(username="ann:=/ü")
    with override_bindings(NUMBERS):
        token = tokens.issue(user, streams=["numbers"], lifetime=60)
    assert LEGAL.match(token)
    claims = tokens.read(token)
    assert (claims.user_pk, claims.streams) == (str(user.pk), frozenset({"numbers"}))
    assert 0 < claims.expires_at - timezone.now().timestamp() < 60.1


def test_a_token_does_not_hold_the_session_auth_hash():
    """Whoever reads the payload learns nothing that a session could be made of."""
    user = make_user()
    payload = b64_decode(tokens.issue(user).removeprefix(tokens.PREFIX).partition(".")[0].encode()).decode()
    assert user.get_session_auth_hash() not in payload
    assert user.password not in payload


def saved(**values: Any) -> Any:
    return make_user(**values)


@pytest.mark.parametrize(
    ("user", "arguments", "error", "text"),
    [
        (lambda: AnonymousUser(), {}, TypeError, "a user of the model auth.User, got <django"),
        (lambda: "ann", {}, TypeError, "a user of the model auth.User, got 'ann'"),
        (lambda: User(username="ann"), {}, ValueError, "a saved user"),
        (lambda: saved(is_active=False), {}, ValueError, "an active user"),
        (saved, {"lifetime": 0}, ValueError, "above 0 seconds, got 0"),
        (saved, {"lifetime": -1.5}, ValueError, "above 0 seconds, got -1.5"),
        (saved, {"lifetime": float("nan")}, ValueError, "above 0 seconds, got nan"),
        (saved, {"lifetime": float("inf")}, ValueError, "above 0 seconds, got inf"),
        (saved, {"lifetime": True}, TypeError, "a lifetime in seconds, got True"),
        (saved, {"lifetime": "60"}, TypeError, "a lifetime in seconds, got '60'"),
        (saved, {"streams": "numbers"}, TypeError, r"Write \['numbers'\]"),
        (saved, {"streams": []}, ValueError, "at least one stream"),
        (saved, {"streams": ["numbers", "nowhere"]}, ValueError, "got 'nowhere'. In force are: .*numbers"),
    ],
)
def test_what_cannot_be_issued_is_refused_with_the_reason(user, arguments, error, text):
    """The message says what was expected and what came."""
    with override_bindings(NUMBERS), pytest.raises(error, match=text):
        tokens.issue(user(), **arguments)


def test_streams_that_do_not_fit_are_refused():
    """A server would refuse the header."""
    records: list[Any] = [{**NUMBERS, "stream": f"{'s' * 60}{number:03}"} for number in range(120)]
    with override_bindings(*records), pytest.raises(ValueError, match="streams that fit"):
        tokens.issue(make_user(), streams=[str(record["stream"]) for record in records])


# Ways in -------------------------------------------------------------------------------------------------------------


async def test_a_token_comes_in_the_header():
    """The scheme has no case, as HTTP says."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client(token=token) as client:
            assert (await client.request("numbers", "create", data={"name": "a", "value": 1}))["ok"]
            await subscribe(client)
        async with Client(headers=[HOST, (b"authorization", f"bEARER   {token} ".encode())]) as client:
            await subscribe(client)


async def test_a_token_comes_as_a_subprotocol():
    """The one way that a browser has."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with by_protocol(f"declbind.token.{token}") as client:
            await subscribe(client)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["TOKEN"], "TOKEN"),
        (["TOKEN", "declbind.v1"], "declbind.v1"),
        (["declbind.v1", "TOKEN"], "declbind.v1"),
        (["TOKEN", "declbind.v1", "declbind.batch.v1"], "declbind.batch.v1"),
        (["declbind.batch.v1", "TOKEN"], "declbind.batch.v1"),
        (["graphql-ws", "TOKEN"], "TOKEN"),
        (["graphql-ws"], None),
        (["declbind.v1"], "declbind.v1"),
        ([], None),
    ],
)
@pytest.mark.parametrize("is_good", [True, False])
async def test_the_server_chooses_a_subprotocol_that_was_offered(offered, chosen, is_good):
    """A browser gives up otherwise, also before it can tell the page why it was refused."""
    token = await issue(await viewer()) if is_good else "db1-forged.forged"
    protocol = f"declbind.token.{token}"
    client = by_protocol(*(protocol if name == "TOKEN" else name for name in offered))
    assert await client.connect()
    assert client.subprotocol == (protocol if chosen == "TOKEN" else chosen)
    await client.disconnect()


async def test_the_same_token_may_come_twice_and_two_different_ones_may_not():
    """Nobody could say which of two counts."""
    user = await viewer()
    first, second = await issue(user), await issue(user, lifetime=100)
    with override_bindings(PRIVATE):
        async with by_protocol(f"declbind.token.{first}", token=first) as client:
            await subscribe(client)
        assert await close_code(by_protocol(f"declbind.token.{first}", token=second)) == 4401
        both = [f"declbind.token.{first}", f"declbind.token.{second}"]
        assert await close_code(by_protocol(*both)) == 4401
        headers = [HOST, *((b"authorization", f"Bearer {each}".encode()) for each in (first, second))]
        assert await close_code(Client(headers=headers)) == 4401


async def test_other_schemes_are_no_tokens():
    """A proxy may ask for a password of its own."""
    with override_bindings(NUMBERS):
        async with Client(headers=[HOST, (b"authorization", b"Basic YW5uOnNlY3JldA==")]) as client:
            await subscribe(client)


@pytest.mark.parametrize("text", ["", "x", "db1-", "db1-.", "a.b.c", "\xff\xfe", "x" * 10_000])
async def test_what_is_no_token_is_closed_with_4401(text):
    """The handshake succeeds, because a browser does not say why one was refused."""
    client = Client(headers=[HOST, (b"authorization", b"Bearer " + text.encode("latin-1"))])
    with override_bindings(NUMBERS):
        assert await close_code(client) == 4401


async def test_a_refused_token_is_recorded_without_its_text():
    """The operator reads why; the token may still be good elsewhere."""
    token = await issue(await viewer())
    forged = token[:-3] + "AAA"
    with override_bindings(NUMBERS):
        assert await close_code(Client(token=forged)) == 4401
        async with Client() as client:
            assert code_of(await client.authenticate(forged)) == "denied"
            rows = await load_rows(Traffic)
    assert [(row.action, row.outcome) for row in rows if row.kind == Traffic.REFUSED] == [
        ("connect", "token"), ("authenticate", "denied"),
    ]  # fmt: skip
    assert all("another signature" in row.message for row in rows if row.kind == Traffic.REFUSED)
    assert not any(forged[:30] in str(vars(row)) for row in rows)


async def test_the_traffic_never_holds_a_token():
    """Neither of a request that is carried out, nor of one that is malformed, nor of one for a stream."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        # An operator watches, so that requests which are carried out are kept too.
        await Watch.objects.acreate(until=timezone.now() + timedelta(hours=1))
        await load_rows(Traffic)
        async with Client() as client:
            await client.authenticate(token)
            await client.request("numbers", "authenticate", token=[token])
            await client.request("numbers", "token", token=token, data={"token": token})
            await client.send(f'{{"stream": "numbers", "payload": {{"action": "authenticate", "token": "{token}"')
            await client.request("", "authenticate", token={"token": token})
            rows = await load_rows(Traffic)
    assert len(rows) > 4
    assert not any(token[:20] in str(vars(row)) for row in rows)


# Cookies and pages of other sites ------------------------------------------------------------------------------------


FOREIGN = (b"origin", b"https://evil.example")


async def test_a_connection_with_a_token_needs_no_origin():
    """Another site's page can make a browser send cookies, and cannot make it send a token that the page lacks."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client(token=token, headers=[HOST, FOREIGN]) as client:
            await subscribe(client)
        assert not await Client(headers=[HOST, FOREIGN]).connect()


@pytest.mark.parametrize("token", ["", "db1-forged.forged"])
async def test_a_bad_token_does_not_open_the_way_for_cookies(token):
    """A page of another site that sends any token with the cookies of its visitor gets nothing."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        client = Client(user=login.user, session=login.session, token=token, headers=[HOST, FOREIGN])
        assert await close_code(client) == 4401


async def test_cookies_do_not_count_beside_a_token():
    """Neither their rights nor their log-out are those of the connection."""
    strong = await log_in(VIEW)
    weak = await viewer("example.add_integervalue")
    with override_bindings(PRIVATE):
        async with Client(user=strong.user, session=strong.session, token=await issue(weak)) as client:
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"
        token = await issue(strong.user)
        async with Client(user=strong.user, session=strong.session, token=token) as client:
            await subscribe(client)
            await in_thread(strong.browser.logout)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1


async def test_code_of_the_project_sees_the_user_of_the_token():
    """``connection_groups`` is asked with a scope that holds nothing of the cookies."""
    login, user = await log_in(VIEW), await viewer()
    seen: list[Any] = []

    class Demultiplexer(WebsocketDemultiplexer):
        def connection_groups(self, **kwargs: Any) -> list[str]:
            seen.append((self.scope["user"], "session" in self.scope, dict(self.scope["headers"]).get(b"cookie")))
            return []

    headers = [HOST, (b"cookie", b"sessionid=abc")]
    with override_bindings(PRIVATE):
        token = await issue(user)
        client = Client(Demultiplexer.as_asgi(), user=login.user, session=login.session, token=token, headers=headers)
        async with client:
            pass
    assert seen == [(user, False, None)]


# What a token covers -------------------------------------------------------------------------------------------------


async def test_other_streams_than_those_of_the_token_are_denied():
    """Streams that exist and others are refused alike, whatever is asked of them."""
    with override_bindings(PRIVATE, {**PRIVATE, "stream": "other"}):
        token = await issue(await viewer(), streams=["numbers"])
        async with Client(token=token) as client:
            await subscribe(client)
            for stream in ("other", "nowhere", ""):
                requests: list[tuple[str, dict[str, Any]]] = [
                    ("subscribe", {"params": {"name": "a"}}),
                    ("unsubscribe", {"params": {"name": "a"}}),
                    ("create", {"data": {"name": "a", "value": 1}}),
                    ("update", {"pk": 1, "data": {"value": 1}}),
                    ("delete", {"pk": 1}),
                    ("nonsense", {}),
                ]
                for action, payload in requests:
                    reply = await client.request(stream, action, **payload)
                    assert reply["error"]["code"] == "denied", (stream, action)
                    assert reply["error"]["message"] == "The token is not for this stream."


async def test_other_streams_are_not_joined_at_connect():
    """Neither by ``auto_subscribe`` nor by ``connection_groups``."""
    covered, other = {**PRIVATE_BOARD, "stream": "covered"}, {**PRIVATE_BOARD, "stream": "other"}

    class Demultiplexer(WebsocketDemultiplexer):
        def bindings(self, hub: Any) -> Any:
            return hub.registry.by_stream

        def connection_groups(self, **kwargs: Any) -> list[str]:
            return ["extra"]

    with override_bindings(covered, other):
        token = await issue(await viewer(), streams=["covered"])
        async with Client(Demultiplexer.as_asgi(), token=token):
            hub = await get_hub()
            (socket,) = hub.sockets()
            assert set(socket.subscriptions) == {("covered", "covered"), ("covered", "extra")}
        async with Client(token=token) as client:
            await store("a", 1)
            assert (await client.receive())["stream"] == "covered"
            assert await client.is_silent()


async def test_a_binding_that_comes_into_force_later_is_not_joined_either():
    """What the token is for is asked again when the configuration changes."""
    covered, other = {**PRIVATE_BOARD, "stream": "covered"}, {**PRIVATE_BOARD, "stream": "other"}
    with override_bindings(covered, other):
        token = await issue(await viewer(), streams=["covered"])
    with override_bindings(covered):
        async with Client(token=token) as client:
            hub = await get_hub()
            with override_bindings(covered, other):
                await hub.settle()
                (socket,) = hub.sockets()
                assert set(socket.subscriptions) == {("covered", "covered")}
            assert client.close_code is None


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
        (lambda user: kick(user=user), 4403),
        (lambda user: blocks.block(str(user.pk), timedelta(hours=1)), 4403),
    ],
)
async def test_what_ends_a_session_ends_a_token(lose: Callable[[User], Any], code: int):
    """Before anything later is delivered."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            await in_thread(lose, user)
            await store("a", 1)
            with pytest.raises(ConnectionError, match=str(code)):
                await client.receive()


@pytest.mark.parametrize("lose", [change_password, deactivate, lambda user: user.delete()])
async def test_a_token_of_such_a_user_opens_nothing_any_more(lose):
    """It is refused as one that never was."""
    user = await viewer()
    token = await issue(user)
    await in_thread(lose, user)
    with override_bindings(PRIVATE):
        assert await close_code(Client(token=token)) == 4401


async def test_a_permission_that_is_lost_ends_the_subscription():
    """As on a socket with a session."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            await subscribe(client)
            await in_thread(user.user_permissions.clear)
            await store("a", 1)
            assert await next_payload(client) == {"action": "closed", "reason": "permission"}
            assert await client.is_silent()


async def test_recheck_reaches_connections_with_a_token():
    """For rights of the project that declbind cannot see change."""
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


async def test_a_secret_key_that_was_replaced_ends_a_token_unless_it_is_a_fallback():
    """The fallbacks hold for the signature and for the digest of the password."""
    user = await viewer()
    with override_settings(SECRET_KEY="old" * 20):
        token = await issue(user)
    with override_bindings(PRIVATE):
        with override_settings(SECRET_KEY_FALLBACKS=["old" * 20]):
            async with Client(token=token) as client:
                await subscribe(client)
        assert await close_code(Client(token=token)) == 4401


async def test_a_proof_of_a_right_holds_for_the_next_token_of_the_user():
    """A client that comes back with a new token gets what it missed."""
    user = await viewer()
    with override_bindings(PRIVATE):
        async with Client(token=await issue(user)) as client:
            since = since_of(await subscribe(client))
        await store("a", 7)
        async with Client(token=await issue(user, lifetime=50)) as client:
            await subscribe(client, since=since)
            assert (await next_payload(client))["data"]["value"] == 7


# The end of a term ---------------------------------------------------------------------------------------------------


async def test_a_client_is_told_before_its_token_ends(clock):
    """Thirty seconds before, and at the end it is closed though nothing is written."""
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
    """With the seconds that are left."""
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer(), lifetime=12)) as client:
            assert await next_payload(client) == {"action": "expiring", "seconds": 12}


async def test_an_idle_socket_is_closed_when_its_token_ends():
    """By the timer: the pump has nothing to do with it."""
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer(), lifetime=0.3)) as client:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("declbind.live.pump.Pump._advance", lambda self: asyncio.sleep(3600))
                assert await client.wait_closed() == 4401


Move = Callable[[clocks.Clocks], None]


def sleep(clock: clocks.Clocks) -> None:
    """Let the machine sleep: the monotonic clock stands still."""
    clock.wall += 400


def set_back(clock: clocks.Clocks) -> None:
    """Let time pass while an administrator sets the wall clock back."""
    clock.steady += 400
    clock.wall -= 10_000


def pass_by(clock: clocks.Clocks) -> None:
    clock.pass_by(400)


def write_across_the_end(clock: clocks.Clocks, move: Move) -> None:
    for value in range(100):
        if value == 50:
            move(clock)
        IntegerValue.objects.create(name="a", value=value)
    connections.close_all()


async def values_across_the_end(clock: clocks.Clocks, move: Move, *, blocks_loop: bool) -> list[int]:
    """Write a hundred rows, the second half after the end of a token; return what its socket got before it closed."""
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
                    received.append(frame["payload"]["data"]["value"])
            await in_thread(writer.join)
    return received


@pytest.mark.parametrize("blocks_loop", [False, True])
@pytest.mark.parametrize("move", [pass_by, sleep, set_back])
async def test_nothing_is_delivered_that_was_committed_after_the_end(clock, move, blocks_loop):
    """However fast it is written, whichever clock tells the end, and if the event loop was busy then."""
    received = await values_across_the_end(clock, move, blocks_loop=blocks_loop)
    assert received == list(range(len(received)))
    assert all(value < 50 for value in received)


async def test_a_hub_without_the_barrier_is_noticed(clock, monkeypatch):
    """Negative control of the test before: a regular look at all sockets would come too late."""
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    assert await values_across_the_end(clock, pass_by, blocks_loop=True) == list(range(100))


@pytest.mark.parametrize("action", ["snapshot", "replay"])
async def test_a_read_that_ends_after_the_token_is_not_delivered(clock, monkeypatch, action):
    """Rows that were read after the end are dropped, even if nobody else has noticed the end yet."""
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
            payload: dict[str, Any] = {"snapshot": True} if action == "snapshot" else {"since": since}
            request = {"action": "subscribe", "params": {"name": "a"}, "ref": 1, **payload}
            await client.send({"stream": "numbers", "payload": request})
            assert [action for action in await actions_to_the_close(client) if action != "reply"] == []
            assert client.close_code == 4401


async def actions_to_the_close(client: Client) -> list[str]:
    found = []
    try:
        while True:
            found.append((await next_payload(client))["action"])
    except ConnectionError:
        return found


def let_end_in(monkeypatch: pytest.MonkeyPatch, clock: clocks.Clocks, name: str) -> None:
    """Let the token end while a function reads from the database."""
    module = "declbind.live.snapshots" if name == "read_snapshot" else "declbind.live.replays"
    function = getattr(__import__(module, fromlist=[name]), name)

    def read(*args: Any) -> Any:
        found = function(*args)
        clock.pass_by(400)
        return found

    monkeypatch.setattr(f"{module}.{name}", read)


async def test_a_read_without_the_check_is_noticed(clock, monkeypatch):
    """Negative control of the test before."""
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
    """A request that waited until the token had ended stores nothing."""
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    with override_bindings(PRIVATE):
        async with Client(token=await issue(await viewer())) as client:
            clock.pass_by(400)
            await client.send({"stream": "numbers", "payload": {"action": "create", "data": {"name": "a", "value": 1}}})
        # The consumer carries out what it has taken before it ends.
        refused = [row.outcome for row in await load_rows(Traffic) if row.action == "create"]
    assert refused == ["denied"]
    assert not await IntegerValue.objects.aexists()


def test_a_look_costs_the_same_however_many_sockets_there_are(clock, event_loop_runner):
    """Ten thousand sockets are not looked at one by one, and closed ones are forgotten."""
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


def terms_until(clock: clocks.Clocks, seconds: float) -> Any:
    from declbind.inbound.terms import Term

    return Term.until(clock.time() + seconds)


@pytest.fixture
def event_loop_runner():
    return asyncio.run
