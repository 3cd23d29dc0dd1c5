"""Hostile input: the socket survives, requests are answered if possible, and they keep their order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from declbind import WebsocketBinding
from declbind.inbound import writes
from declbind.live import grants, housekeeping, subscriptions
from declbind.live.consumers import BindingConsumer
from declbind.live.hub import get_hub
from declbind.live.socket import Socket
from declbind.models import Traffic
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject
from tests.live import ANYONE, NUMBERS, code_of, in_thread, next_payload, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

SURROGATE = "\\ud800"


@pytest.fixture(autouse=True)
def no_rate(settings: Settings) -> None:
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 100_000, "MESSAGE_BURST": 100_000}


async def is_alive(client: Client) -> bool:
    """Return whether the next well-formed request is answered."""
    return code_of(await client.request("numbers", "delete", pk=10**9)) == "not_found"


# Single frames --------------------------------------------------------------------------------------------------------

ANSWERED = [
    ('{"stream": "numbers", "payload": {"ref": 1}}', "unknown_action"),
    ('{"stream": "numbers", "payload": {"action": null, "ref": 1}}', "unknown_action"),
    ('{"stream": "numbers", "payload": {"action": ["create"], "ref": 1}}', "unknown_action"),
    ('{"stream": "numbers", "payload": {"action": "drop", "ref": 1}}', "unknown_action"),
    ('{"stream": "nothing", "payload": {"action": "create", "data": {}, "ref": 1}}', "unknown_stream"),
    ('{"stream": "", "payload": {"action": "create", "data": {}, "ref": 1}}', "unknown_stream"),
    ('{"stream": "a\\u0000b", "payload": {"action": "create", "data": {}, "ref": 1}}', "unknown_stream"),
    ('{"stream": 5, "payload": {"action": "create", "data": {}, "ref": 1}}', "malformed"),
    ('{"payload": {"action": "create", "data": {}, "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "create", "data": [], "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "create", "data": null, "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "update", "data": {"value": 1}, "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": [1], "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": "1\\u0000", "ref": 1}}', "not_found"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": 1e300, "ref": 1}}', "not_found"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": ' + "9" * 900 + ', "ref": 1}}', "not_found"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": ' + "9" * 1001 + ', "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "delete", "pk": 1.' + "9" * 1001 + ', "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "params": 5, "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "params": {"name": {}}, "ref": 1}}', "invalid"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "params": {"name": "\\u0000"}, "ref": 1}}', "invalid"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "params": {"pk__gt": 0}, "ref": 1}}', "invalid"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "params": {"name__gt": ""}, "ref": 1}}', "invalid"),
    ('{"stream": "numbers", "payload": {"action": "subscribe", "snapshot": 1, "ref": 1}}', "malformed"),
    ('{"stream": "numbers", "payload": {"action": "unsubscribe", "params": {"x": 1}, "ref": 1}}', "invalid"),
    (f'{{"stream": "numbers", "payload": {{"action": "{SURROGATE}", "ref": 1}}}}', "malformed"),
    (f'{{"stream": "{SURROGATE}", "payload": {{"ref": 1}}}}', "malformed"),
]

SILENT = [
    "",
    "null",
    "[]",
    "5",
    '"text"',
    "{}",
    "{",
    "NaN",
    '{"stream": "numbers"}',
    '{"stream": "numbers", "payload": [1]}',
    '{"stream": "numbers", "payload": {"action": "create", "data": {"value": NaN}, "ref": 1}}',
    '{"stream": "numbers", "payload": {"action": "create", "data": {"value": 1e999}, "ref": 1}}',
    '{"stream": "numbers", "payload": {"action": "delete", "action": "create", "ref": 1}}',
    '{"stream": "numbers", "payload": {"action": "delete", "pk": 1}}',
    '{"stream": "numbers", "payload": {"action": "drop", "ref": {"a": 1}}}',
    '{"stream": "numbers", "payload": {"action": "drop", "ref": [1]}}',
    '{"stream": "numbers", "payload": {"action": "delete", "pk": ' + "9" * 5000 + "}}",
    "[" * 30_000,
    '{"a":' * 10_000,
    "\ud800",
    "\ufeff{}",
    "\x00",
]


@pytest.mark.parametrize(("text", "code"), ANSWERED)
async def test_a_malformed_request_with_a_ref_is_answered(text, code):
    """The reply has the ref, a published code and a message, and the socket stays open."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await client.send(text)
            payload = await next_payload(client)
            assert (payload["action"], payload["ref"], payload["ok"]) == ("reply", 1, False)
            assert code_of(payload) == code
            assert payload["error"]["message"]
            assert len(json.dumps(payload)) < 2_000
            assert await is_alive(client)


async def test_a_malformed_frame_without_a_ref_gets_no_reply():
    """The socket stays open, as in Channels 1.x."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            for text in SILENT:
                await client.send(text)
            assert await client.is_silent()
            assert await is_alive(client)


async def test_binary_frames_are_no_requests():
    """Bytes are refused regardless of their content, and so is a frame with neither bytes nor text."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            request = b'{"stream": "numbers", "payload": {"action": "create", "data": {"name": "a", "value": 1}}}'
            for message in ({"bytes": request}, {"bytes": b"\xff\x00", "text": None}, {}):
                await client._communicator.send_input({"type": "websocket.receive", **message})
            assert await is_alive(client)
            assert not await IntegerValue.objects.aexists()


@pytest.mark.parametrize("ref", [0, -1.5, "", "x" * 1000, None, True, 10**30, "\N{GRINNING FACE}\u2028"])
async def test_any_scalar_is_a_ref(ref):
    """The ref is returned exactly as it was sent, in replies and refusals. A null is a ref as well."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            for payload in ({"action": "drop"}, {"action": "subscribe", "params": {"name": "a"}}):
                await client.send({"stream": "numbers", "payload": {**payload, "ref": ref}})
                answer = (await next_payload(client))["ref"]
                assert (type(answer), answer) == (type(ref), ref)


async def test_an_answer_can_always_be_sent():
    """A ref with a lone surrogate is returned as its escape, so that the server can encode the frame."""
    sent: list[str] = []

    async def application(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_and_note(message: Any) -> None:
            sent.append(message.get("text", ""))
            await send(message)

        await BindingConsumer.as_asgi()(scope, receive, send_and_note)

    with override_bindings(NUMBERS):
        async with Client(application) as client:
            await client.send(f'{{"stream": 5, "payload": {{"ref": "{SURROGATE}"}}}}')
            assert (await next_payload(client))["ref"] == "\ud800"
            assert sent[-1].encode()


KEYS = ["stream", "payload", "action", "pk", "data", "params", "snapshot", "since", "ref", "key", "if", "name", "value"]
WORDS = ["numbers", "create", "update", "delete", "subscribe", "unsubscribe", "epoch", "offset", "a", "1", "\x00"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=12,
)
REQUESTS = st.fixed_dictionaries(
    {"stream": st.just("numbers") | SCALARS},
    optional={
        "payload": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(KEYS, VALUES) | {"action": st.sampled_from(WORDS) | VALUES}
        )
        | VALUES
    },
)
FRAMES = (
    REQUESTS.map(json.dumps)
    | REQUESTS.map(lambda value: json.dumps(value, ensure_ascii=False))
    | VALUES.map(json.dumps)
    | st.text(st.characters(exclude_categories=()))
    | REQUESTS.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut]))
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(FRAMES, min_size=10, max_size=25))
def test_no_frame_ends_the_socket(texts):
    """Arbitrary JSON, arbitrary text, and requests of arbitrary parts: the next request is answered as usual.

    If a ref can be read, it is answered, and no answer is "internal": a frame of a client never makes the server fail.
    """

    async def talk() -> None:
        async with Client() as client:
            for text in texts:
                await client.send(text)
            await client.send(mutation("delete", "the last of all", pk=10**9))
            payload: JSONObject = {}
            while payload.get("ref") != "the last of all":
                payload = await next_payload(client)
                assert payload["action"] != "reply" or code_of(payload) != "internal"
            assert code_of(payload) == "not_found"
            hub = await get_hub()
            await housekeeping.write_traffic(hub)
            await hub.stop()

    with override_bindings(NUMBERS):
        async_to_sync(talk)()


# Stored refusals ------------------------------------------------------------------------------------------------------


async def test_a_refusal_can_be_stored_whatever_its_stream_is_called():
    """Traffic rows contain cleaned text of clients. No name of a stream prevents other rows from being stored."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            for stream in ("a\x00b", "x" * 5_000, "\ud800", "\N{GRINNING FACE}"):
                await client.send({"stream": stream, "payload": {"action": "create\x00", "ref": 1}})
                assert not (await next_payload(client))["ok"]
            await housekeeping.write_traffic(await get_hub())
    assert await Traffic.objects.filter(kind=Traffic.REFUSED).acount() == 4


async def test_a_failed_periodic_task_does_not_stop_the_others(monkeypatch, settings):
    """The check of all permissions continues if the traffic cannot be written."""
    settings.DECLBIND = {"REVALIDATE_SECONDS": 0}
    checked = asyncio.Event()
    with override_bindings(NUMBERS):
        hub = await get_hub()

        def fail(*args: object) -> None:
            raise ZeroDivisionError

        async def revalidate(sockets: Iterable[Socket]) -> None:
            checked.set()

        monkeypatch.setattr(hub.traffic, "write", fail)
        monkeypatch.setattr(hub, "revalidate", revalidate)
        async with Client():
            await asyncio.wait_for(checked.wait(), PATIENCE)


# Order ---------------------------------------------------------------------------------------------------------------


async def test_requests_of_one_stream_are_applied_in_the_order_sent():
    """A create, many updates and a delete sent at once, followed by other requests."""
    with override_bindings(NUMBERS):
        row = await store("a", 0)
        async with Client() as client:
            for value in range(1, 30):
                await client.send(mutation("update", value, pk=row.pk, data={"value": value}))
            await client.send(mutation("update", "if", pk=row.pk, data={"name": "b"}, **{"if": {"value": 29}}))
            await client.send(mutation("delete", "delete", pk=row.pk))
            await client.send(mutation("update", "late", pk=row.pk, data={"value": 0}))
            replies = [await next_payload(client) for _ in range(32)]
            assert [reply["ref"] for reply in replies] == [*range(1, 30), "if", "delete", "late"]
            assert [code_of(reply) for reply in replies] == [None] * 31 + ["not_found"]


def mutation(action: str, ref: object, /, stream: Any = "numbers", **payload: object) -> JSONObject:
    return {"stream": stream, "payload": {"action": action, "ref": ref, **payload}}


async def test_streams_do_not_wait_for_each_other(monkeypatch):
    """While a request of one stream is stuck, those of another are carried out."""
    handle, release, loop = writes.handle, asyncio.Event(), asyncio.get_running_loop()

    def handle_slowly(request: Any, binding: Any, identity: Any) -> object:
        if request.stream == "slow":
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(PATIENCE)
        return handle(request, binding, identity)

    monkeypatch.setattr(writes, "handle", handle_slowly)
    with override_bindings(NUMBERS, {**NUMBERS, "stream": "slow"}):
        async with Client() as client:
            await client.send(mutation("create", "first", "slow", data={"name": "a", "value": 1}))
            await client.send(mutation("create", "second", "slow", data={"name": "a", "value": 2}))
            assert (await client.request("numbers", "create", data={"name": "a", "value": 3}))["ok"]
            release.set()
            assert [(await next_payload(client))["ref"] for _ in range(2)] == ["first", "second"]


async def test_a_client_that_disconnects_during_requests_leaves_no_state(monkeypatch):
    """Accepted requests are carried out, and pending subscriptions are not left in the hub."""
    with override_bindings(NUMBERS):
        for _ in range(5):
            client = Client()
            await client.connect()
            await client.send(mutation("create", 1, data={"name": "a", "value": 1}))
            for name in "abc":
                await client.send(mutation("subscribe", name, params={"name": name}, snapshot=True))
            await client.disconnect()
        hub = await get_hub()
        assert list(hub.core.subscriptions()) == []
        assert list(hub.core.connections) == []
        assert await IntegerValue.objects.acount() == 5


async def test_a_cancelled_request_adds_no_subscription(monkeypatch):
    """If the server cancels the application, pending requests have no effect on the hub."""
    grant, loop = grants.grant, asyncio.get_running_loop()
    begun, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def grant_slowly(*args: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(PATIENCE)
        try:
            return grant(*args)
        finally:
            loop.call_soon_threadsafe(ended.set)

    monkeypatch.setattr(subscriptions, "grant", grant_slowly)
    with override_bindings(NUMBERS):
        client = Client()
        await client.connect()
        await client.send(mutation("subscribe", 1, params={"name": "a"}))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        application = client._communicator.future
        while not application.done():
            application.cancel()
            await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        hub = await get_hub()
        await hub.settle()
        assert list(hub.core.subscriptions()) == []


async def test_a_binding_that_raises_is_answered_as_internal(caplog):
    """A fault of the server does not close the socket, and its text appears only in the log."""

    class Broken(WebsocketBinding):
        stream = "broken"
        model = IntegerValue
        fields = ("name",)
        permissions = ANYONE

        def has_view_permission(self, user: Any, params: Any) -> bool:
            raise ZeroDivisionError("the secret reason")

        def has_permission(self, user: Any, action: str, pk: Any) -> bool:
            raise ZeroDivisionError("the secret reason")

    with override_bindings(Broken, NUMBERS):
        async with Client() as client:
            for action, payload in (("subscribe", {}), ("create", {"data": {"name": "a"}})):
                reply = await client.request("broken", action, **payload)
                assert code_of(reply) == "internal"
                assert "secret" not in json.dumps(reply)
            assert await is_alive(client)
            await subscribe(client)
    assert "the secret reason" in caplog.text
    assert await in_thread(IntegerValue.objects.count) == 0
