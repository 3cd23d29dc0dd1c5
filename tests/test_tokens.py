"""Tokens: how they are issued and transmitted, and what they grant."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.signing import b64_decode
from django.utils import timezone

from declbind import tokens
from declbind.live.consumers import WebsocketDemultiplexer
from declbind.live.hub import get_hub
from declbind.models import Traffic, Watch
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import NUMBERS, code_of, in_thread, next_payload, store, subscribe
from tests.logins import log_in
from tests.tokens import HOST, PRIVATE, PRIVATE_BOARD, VIEW, by_protocol, close_code, issue, load_rows, viewer

pytestmark = pytest.mark.django_db(transaction=True)

#: RFC 9110, section 5.6.2: what the name of a subprotocol may consist of, less what browsers refuse.
LEGAL = re.compile(r"[A-Za-z0-9._-]+\Z")


# Issuing -------------------------------------------------------------------------------------------------------------


def test_a_token_is_legal_in_a_header_and_in_a_subprotocol():
    """It is received as it was issued."""
    user = make_user(username="ann:=/ü")
    with override_bindings(NUMBERS):
        token = tokens.issue(user, streams=["numbers"], lifetime=60)
    assert LEGAL.match(token)
    claims = tokens.read(token)
    assert (claims.user_pk, claims.streams) == (str(user.pk), frozenset({"numbers"}))
    assert 0 < claims.expires_at - timezone.now().timestamp() < 60.1


def test_a_token_does_not_hold_the_session_auth_hash():
    """The payload contains nothing from which a session could be made."""
    user = make_user()
    payload = b64_decode(tokens.issue(user).removeprefix(tokens.PREFIX).partition(".")[0].encode()).decode()
    assert user.get_session_auth_hash() not in payload
    assert user.password not in payload


def saved(**values: object) -> object:
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
def test_invalid_arguments_of_issue_are_refused(user, arguments, error, text):
    """The message says what was expected and what was given."""
    with override_bindings(NUMBERS), pytest.raises(error, match=text):
        tokens.issue(user(), **arguments)


def test_a_token_with_too_many_streams_is_refused():
    """A server would refuse the header."""
    records: list[Any] = [{**NUMBERS, "stream": f"{'s' * 60}{number:03}"} for number in range(120)]
    with override_bindings(*records), pytest.raises(ValueError, match="streams that fit"):
        tokens.issue(make_user(), streams=[str(record["stream"]) for record in records])


# Ways in -------------------------------------------------------------------------------------------------------------


async def test_a_token_may_be_in_the_header():
    """The scheme is not case-sensitive, as in HTTP."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client(token=token) as client:
            assert (await client.request("numbers", "create", data={"name": "a", "value": 1}))["ok"]
            await subscribe(client)
        async with Client(headers=[HOST, (b"authorization", f"bEARER   {token} ".encode())]) as client:
            await subscribe(client)


async def test_a_token_may_be_a_subprotocol():
    """Browsers have no other way."""
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
    """Otherwise a browser fails the connection, before the page can learn the reason of a refusal."""
    token = await issue(await viewer()) if is_good else "db1-forged.forged"
    protocol = f"declbind.token.{token}"
    client = by_protocol(*(protocol if name == "TOKEN" else name for name in offered))
    assert await client.connect()
    assert client.subprotocol == (protocol if chosen == "TOKEN" else chosen)
    await client.disconnect()


async def test_two_different_tokens_are_refused():
    """The same token may be given twice."""
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


async def test_other_schemes_are_ignored():
    """A proxy may require a password in the same header."""
    with override_bindings(NUMBERS):
        async with Client(headers=[HOST, (b"authorization", b"Basic YW5uOnNlY3JldA==")]) as client:
            await subscribe(client)


@pytest.mark.parametrize("text", ["", "x", "db1-", "db1-.", "a.b.c", "\xff\xfe", "x" * 10_000])
async def test_an_invalid_token_is_closed_with_4401(text):
    """The handshake succeeds, because a browser does not report why one was refused."""
    client = Client(headers=[HOST, (b"authorization", b"Bearer " + text.encode("latin-1"))])
    with override_bindings(NUMBERS):
        assert await close_code(client) == 4401


async def test_a_refused_token_is_recorded_without_its_text():
    """The operator sees the reason. The token may still be valid elsewhere."""
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


async def test_the_traffic_never_contains_a_token():
    """This covers requests that are carried out, malformed ones, and requests to a stream."""
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
    """A page of another site can make a browser send cookies, but not a token that the page does not have."""
    token = await issue(await viewer())
    with override_bindings(PRIVATE):
        async with Client(token=token, headers=[HOST, FOREIGN]) as client:
            await subscribe(client)
        assert not await Client(headers=[HOST, FOREIGN]).connect()


@pytest.mark.parametrize("token", ["", "db1-forged.forged"])
async def test_a_bad_token_does_not_make_cookies_count(token):
    """A page of another site could send any token with the cookies of its visitor."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        client = Client(user=login.user, session=login.session, token=token, headers=[HOST, FOREIGN])
        assert await close_code(client) == 4401


async def test_cookies_do_not_count_beside_a_token():
    """Neither their permissions nor their logout affect the connection."""
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
    """The scope that ``connection_groups`` gets contains nothing of the cookies."""
    login, user = await log_in(VIEW), await viewer()
    seen: list[object] = []

    class Demultiplexer(WebsocketDemultiplexer):
        def connection_groups(self, **kwargs: object) -> list[str]:
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
    """Existing and other streams are refused alike, for every action."""
    with override_bindings(PRIVATE, {**PRIVATE, "stream": "other"}):
        token = await issue(await viewer(), streams=["numbers"])
        async with Client(token=token) as client:
            await subscribe(client)
            for stream in ("other", "nowhere", ""):
                requests: list[tuple[str, dict[str, object]]] = [
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
    """This covers ``auto_subscribe`` and ``connection_groups``."""
    covered, other = {**PRIVATE_BOARD, "stream": "covered"}, {**PRIVATE_BOARD, "stream": "other"}

    class Demultiplexer(WebsocketDemultiplexer):
        def bindings(self, hub):
            return hub.registry.by_stream

        def connection_groups(self, **kwargs):
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
    """The streams of the token are checked again when the configuration changes."""
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
