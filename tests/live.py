"""Shared parts of the tests of ``declbind.live``: bindings, writes from an async test, and a controllable reader."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pytest
from asgiref.sync import sync_to_async
from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from django.db import OperationalError
from pytest_django import Settings

from declbind.live.consumers import BindingConsumer
from declbind.live.hub import get_hub
from declbind.live.log_reader import LogReader
from declbind.live.proofs import Holder
from declbind.live.socket import Socket
from declbind.outbound import log, relay
from declbind.registry import database_alias
from declbind.testing import Client
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject

P = ParamSpec("P")
T = TypeVar("T")

ANYONE = {"view": True, "create": True, "update": True, "delete": True}
NUMBERS = {
    "stream": "numbers",
    "model": "example.IntegerValue",
    "fields": ["name", "value"],
    "groups": ["name-{name}"],
    "permissions": ANYONE,
}
#: The same model with two groups that no row can leave, joined at connect.
BOARD = {
    "stream": "board",
    "model": "example.IntegerValue",
    "fields": ["name", "value"],
    "permissions": ANYONE,
    "auto_subscribe": True,
}


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that uses the database."""
    result: T = await sync_to_async(function)(*args, **kwargs)
    return result


async def let_tasks_run() -> None:
    """Let every task of the event loop run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def settle_hub() -> None:
    """Wait until the hub has read the log once more."""
    await (await get_hub()).settle()


async def store(name: str = "a", value: int = 1, **values: object) -> IntegerValue:
    """Store a new number."""
    return await IntegerValue.objects.acreate(name=name, value=value, **values)


async def subscribe(client: Client, name: str = "a", stream: str = "numbers", **payload: object) -> JSONObject:
    """Subscribe with one name as params, which must succeed; return the reply."""
    reply = await client.request(stream, "subscribe", params={"name": name}, **payload)
    assert reply["ok"], reply
    return reply


def since_of(reply: JSONObject) -> JSONObject:
    """Return the ``since`` of a client that has received everything up to a reply."""
    return {key: reply[key] for key in ("epoch", "offset", "resume")}


async def next_payload(client: Client) -> JSONObject:
    payload: JSONObject = (await client.receive())["payload"]
    return payload


def code_of(reply: JSONObject) -> str | None:
    """Return the error code of a reply, or None if it succeeded."""
    return None if reply["ok"] else reply["error"]["code"]


def trim_all(settings: Settings) -> None:
    """Number the waiting events, and trim all events."""
    before = getattr(settings, "DECLBIND", {})
    settings.DECLBIND = {**before, "RETENTION_EVENTS": 0}
    relay.run_once(database_alias())
    while log.trim(database_alias()):
        pass
    settings.DECLBIND = before


async def fail_to_look(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Make the database fail whenever the hub reads the log, and call a function meanwhile."""
    failed = threading.Event()

    def look(*args: object) -> None:
        failed.set()
        raise OperationalError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(LogReader, "look", look)
        # A read that has already begun ends first.
        hub = await get_hub()
        hub.pump.wake()
        assert await in_thread(failed.wait, 20)
        await in_thread(meanwhile)


class Tap:
    """A valve before a consumer that passes its frames only while it is open, like a reader that reads on demand."""

    def __init__(self, application: ASGI3Application | None = None) -> None:
        self.application: ASGI3Application = application or BindingConsumer.as_asgi()
        self.passed: list[JSONObject] = []
        self._open = asyncio.Semaphore(0)
        self._is_open = True

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_through(message: ASGISendEvent) -> None:
            if message["type"] != "websocket.accept" and not self._is_open:
                await self._open.acquire()
            if message["type"] == "websocket.send" and message["text"]:
                self.passed.append(json.loads(message["text"]))
            await send(message)

        await self.application(scope, receive, send_through)

    def shut(self) -> None:
        """Stop reading."""
        self._is_open = False

    def let(self, count: int = 1) -> None:
        """Read this many frames while shut."""
        for _ in range(count):
            self._open.release()


async def offset_now() -> tuple[str, int]:
    """Return epoch and offset as a client knows them that has just subscribed."""
    async with Client() as client:
        reply = await subscribe(client)
        return reply["epoch"], reply["offset"]


async def resume(client: Client, epoch: str, offset: int, name: str = "a") -> JSONObject:
    proof = Holder(epoch, None, "numbers", f"name-{name}").issue(0)
    return await subscribe(client, name, since={"epoch": epoch, "offset": offset, "resume": proof})


async def next_value(client: Client) -> Any:
    return (await next_payload(client))["data"]["value"]


async def only_socket() -> Socket:
    (socket,) = (await get_hub()).sockets()
    return socket
