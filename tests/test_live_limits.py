"""Limits on what a client may send."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.http import HttpRequest

from declbind import Binding
from declbind.core.errors import ClientError
from declbind.inbound import writes
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, code_of, next_payload
from tests.live_clock import Clock

pytestmark = pytest.mark.django_db(transaction=True)


def frame(ref: object, **payload: object) -> str:
    return json.dumps({"stream": "numbers", "payload": {"action": "delete", "pk": 1, "ref": ref, **payload}})


async def test_a_frame_of_64_kib_is_the_largest():
    """One byte more is ``too_large``. The answer has no ref, because the frame is not parsed."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            text = frame(1, data={"x": ""})
            full = text.replace('"x": ""', f'"x": "{"y" * (65_536 - len(text))}"')
            assert len(full) == 65_536
            await client.send(full)
            assert code_of(await next_payload(client)) == "not_found"
            await client.send(full + " ")
            assert await client.is_silent()
            assert code_of(await client.request("numbers", "delete", pk=1)) == "not_found"


async def test_bytes_count_not_characters():
    """Text of few characters and many bytes is as large as its bytes."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await client.send(frame(1).replace('"pk": 1', '"pk": "' + "\N{GRINNING FACE}" * 20_000 + '"'))
            assert await client.is_silent()


async def test_json_of_16_levels_is_the_deepest():
    """Deeper JSON is malformed, and the answer has the ref that could be read."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            for levels, code in ((13, "not_found"), (15, "malformed"), (500, "malformed")):
                await client.send(frame(1).replace('"pk": 1', f'"pk": 1, "data": {"[" * levels}{"]" * levels}'))
                assert code_of(await next_payload(client)) == code, levels
            await client.send("[" * 60_000)
            assert await client.is_silent()


async def test_messages_over_the_rate_limit_are_refused(monkeypatch, settings):
    """The burst is carried out and the rest is ``rate_limited``. A second later, some more are allowed."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 2, "MESSAGE_BURST": 5}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            create = {"data": {"name": "a", "value": 1}}
            replies = [await client.request("numbers", "create", **create) for _ in range(7)]
            assert [code_of(reply) for reply in replies] == [None] * 5 + ["rate_limited"] * 2
            assert await IntegerValue.objects.acount() == 5
            clock.move(1)
            replies = [await client.request("numbers", "create", **create) for _ in range(3)]
            assert [code_of(reply) for reply in replies] == [None, None, "rate_limited"]


async def flood(client: Client, clock: Clock, seconds: float) -> None:
    """Send more than twice the allowed rate, until the time is over or the server closes."""
    end = clock.now + seconds
    while clock.now < end and client.close_code is None:
        for _ in range(5):
            await client.send(frame(1))
        await answer_or_close(client)
        clock.move(0.5)


async def test_a_client_that_floods_for_ten_seconds_is_closed(monkeypatch, settings):
    """A client that continues after refusals is closed with 4429. A client that slows down may stay."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 2, "MESSAGE_BURST": 4}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await flood(client, clock, 9)
            clock.move(1.5)
            await flood(client, clock, 9)
            assert client.close_code is None
            await flood(client, clock, 3)
            assert client.close_code == 4429


async def test_the_rate_limit_counts_malformed_frames(monkeypatch, settings):
    """A flood of them ends in the same way."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 2, "MESSAGE_BURST": 4}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            while client.close_code is None:
                for _ in range(5):
                    await client.send("noise")
                await answer_or_close(client)
                clock.move(0.5)
            assert client.close_code == 4429


async def answer_or_close(client: Client) -> object:
    try:
        return await client.request("numbers", "delete", pk=1)
    except ConnectionError:
        return None


async def test_concurrent_requests_of_a_connection_are_limited(monkeypatch, settings):
    """Other frames of the connection wait unread. Another connection does not wait for them."""
    settings.DECLBIND = {"MAX_IN_FLIGHT": 3, "DATABASE_THREADS": 8}
    streams = [{**NUMBERS, "stream": f"numbers-{number}"} for number in range(6)]
    under_way, most, release = 0, 0, asyncio.Event()
    loop = asyncio.get_running_loop()
    started: asyncio.Queue[None] = asyncio.Queue()

    def handle(request: HttpRequest, binding: type[Binding], identity: object) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        loop.call_soon_threadsafe(started.put_nowait, None)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(PATIENCE)
        under_way -= 1
        raise ClientError("not_found", "None.")

    monkeypatch.setattr(writes, "handle", handle)
    with override_bindings(*streams):
        async with Client() as client, Client() as other:
            for number in range(6):
                await client.send(frame(number).replace('"numbers"', f'"numbers-{number}"'))
            for _ in range(3):
                await asyncio.wait_for(started.get(), PATIENCE)
            assert (await other.request("numbers-0", "unsubscribe", params={"name": "a"}))["ok"]
            assert (most, started.qsize()) == (3, 0)
            release.set()
            assert sorted([(await next_payload(client))["ref"] for _ in range(6)]) == list(range(6))
            assert most == 3
