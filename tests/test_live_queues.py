"""Limits on what may wait for a client: queues, slow readers and bursts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from declbind.asgi_types import Scope
from declbind.live import hub, socket
from declbind.live.consumers import BindingConsumer
from declbind.live.flushing import Flusher
from declbind.testing import PATIENCE, Client, Frame, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, Tap, in_thread, next_payload, settle_hub, since_of, store, subscribe
from tests.live_clock import Clock

pytestmark = pytest.mark.django_db(transaction=True)


def frame(ref: object, **payload: object) -> str:
    return json.dumps({"stream": "numbers", "payload": {"action": "delete", "pk": 1, "ref": ref, **payload}})


# Queues ---------------------------------------------------------------------------------------------------------------


async def write_many(count: int, name: str = "a", first: int = 0) -> None:
    """Write numbers one by one, in one transaction."""

    @transaction.atomic
    def write() -> None:
        for value in range(first, first + count):
            IntegerValue.objects.create(name=name, value=value)

    await in_thread(write)


@pytest.mark.parametrize("limits", [{"QUEUE_FRAMES": 20}, {"QUEUE_BYTES": 3_000}])
async def test_an_overflowing_queue_closes_only_its_own_client(settings, limits):
    """Too many frames or bytes close the slow client with 4408. The others miss nothing."""
    settings.DECLBIND = limits
    tap = Tap()
    with override_bindings(NUMBERS):
        async with Client(tap) as slow, Client() as quick:
            await subscribe(slow)
            await subscribe(quick)
            tap.shut()
            for start in range(0, 60, 5):
                await write_many(5, first=start)
                assert [(await next_payload(quick))["data"]["value"] for _ in range(5)] == list(range(start, start + 5))
            tap.let(2)
            assert await slow.wait_closed() == 4408
            # Of what waited nothing is sent any more: at most the frame that was under way.
            assert len([1 for text in tap.passed if text["payload"]["action"] == "create"]) <= 1
            await store("a", 100)
            assert (await next_payload(quick))["data"]["value"] == 100


async def test_a_frame_that_waits_too_long_closes_its_client(monkeypatch):
    """After QUEUE_SECONDS without reading the connection ends, even if no more frames follow."""
    clock = Clock(monkeypatch)
    tap = Tap()
    with override_bindings(NUMBERS):
        async with Client(tap) as slow:
            await subscribe(slow)
            tap.shut()
            await write_many(3)
            await settle_hub()
            clock.move(11)
            await wait_for_the_close()
            tap.let()
            assert await slow.wait_closed() == 4408


async def test_a_partly_read_frame_closes_its_client_too(monkeypatch):
    """The queue is empty, but the frame that is being sent counts."""
    clock = Clock(monkeypatch)
    tap = Tap()
    with override_bindings(NUMBERS):
        async with Client(tap) as slow:
            await subscribe(slow)
            tap.shut()
            await write_many(1)
            await settle_hub()
            clock.move(11)
            await wait_for_the_close()
            tap.let()
            assert await slow.wait_closed() == 4408


async def wait_for_the_close() -> None:
    """Wait until the server has decided to close the only connection."""
    [connection] = (await hub.get_hub()).core.connections
    await asyncio.wait_for(asyncio.shield(connection.info.closed), PATIENCE)


async def test_a_client_that_reads_nothing_is_dropped(monkeypatch, settings):
    """The server tries to send the close frame for a while. Then it gives up, and the hub drops the connection."""
    monkeypatch.setattr(socket, "CLOSE_SECONDS", 0.05)
    settings.DECLBIND = {"QUEUE_FRAMES": 5}
    tap = Tap()
    with override_bindings(NUMBERS):
        client = Client(tap)
        await client.connect()
        await subscribe(client)
        tap.shut()
        await write_many(10)
        # The application ends by itself: the client neither reads nor disconnects.
        await client._communicator.wait(PATIENCE)
        assert list((await hub.get_hub()).core.connections) == []


async def read_steadily(tap: Tap, clock: Clock, client: Client, count: int) -> list[Frame]:
    """Read one frame every four seconds."""
    frames = []
    for _ in range(count):
        tap.let()
        frames.append(await client.receive())
        clock.move(4)
    return frames


async def prepare_slow_reader(tap: Tap, **payload: object) -> Client:
    client = Client(tap)
    assert await client.connect()
    tap.shut()
    request = {"action": "subscribe", "params": {"name": "a"}, "ref": 1, **payload}
    await client.send({"stream": "numbers", "payload": request})
    return client


async def test_a_replay_does_not_overflow_a_slow_but_steady_reader(monkeypatch, settings):
    """Forty missed frames, a queue of ten, and four seconds per frame: it takes minutes and is complete."""
    settings.DECLBIND = {"QUEUE_FRAMES": 10}
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await subscribe(client)
        await write_many(40)
        await settle_hub()
        clock, tap = Clock(monkeypatch), Tap()
        slow = await prepare_slow_reader(tap, since=since_of(reply))
        frames = await read_steadily(tap, clock, slow, 41)
        assert [frame["payload"]["data"]["value"] for frame in frames[1:]] == list(range(40))
        await store("a", 40)
        assert (await read_steadily(tap, clock, slow, 1))[0]["payload"]["data"]["value"] == 40
        tap.let(10)
        await slow.disconnect()


async def test_a_snapshot_does_not_overflow_a_slow_but_steady_reader(monkeypatch, settings):
    """Many pages wait in the database's answer, not in the queue."""
    settings.DECLBIND = {"QUEUE_FRAMES": 5, "QUEUE_BYTES": 500, "SNAPSHOT_PAGE_ROWS": 2}
    await write_many(40)
    with override_bindings(NUMBERS):
        clock, tap = Clock(monkeypatch), Tap()
        slow = await prepare_slow_reader(tap, snapshot=True)
        frames = await read_steadily(tap, clock, slow, 21)
        rows = [row for frame in frames[1:] for row in frame["payload"]["objects"]]
        assert [row["data"]["value"] for row in rows] == list(range(40))
        tap.let(10)
        await slow.disconnect()


async def test_a_replay_that_is_queued_at_once_is_detected(monkeypatch, settings):
    """Negative control of the two previous tests: without waiting for the reader the queue overflows."""

    async def push_at_once(self: socket.Socket, texts: list[str], is_wanted: Any) -> None:
        for text in texts:
            self.push(text)

    monkeypatch.setattr(socket.Socket, "push_paced", push_at_once)
    settings.DECLBIND = {"QUEUE_FRAMES": 10}
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await subscribe(client)
        await write_many(40)
        await settle_hub()
        clock, tap = Clock(monkeypatch), Tap()
        slow = await prepare_slow_reader(tap, since=since_of(reply))
        with pytest.raises(ConnectionError):
            await read_steadily(tap, clock, slow, 41)
        assert slow.close_code == 4408
        await slow.disconnect()


# Bursts ---------------------------------------------------------------------------------------------------------------


class Steady:
    """A wrapper of a consumer that takes its frames at a steady pace, slower than they can be made."""

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        taken = 0

        async def send_steadily(message: object) -> None:
            nonlocal taken
            taken += 1
            if taken % 4 == 0:
                await asyncio.sleep(0.001)  # the reader's pace
            await send(message)

        await BindingConsumer.as_asgi()(scope, receive, send_steadily)


BURST = 1_000


async def read_a_burst(settings: Settings) -> int:
    """Send a reader five times as many frames at once as its queue holds; return how many it received."""
    settings.DECLBIND = {"QUEUE_FRAMES": BURST // 5}
    with override_bindings(NUMBERS):
        async with Client(Steady()) as client:
            await subscribe(client)
            await write_many(BURST)
            got = 0
            while got < BURST:
                try:
                    await client.receive()
                except ConnectionError:
                    break
                got += 1
            return got


async def test_a_burst_does_not_close_a_client_that_keeps_reading(settings):
    """The hub is faster than any reader, so it waits a little for readers that keep reading."""
    assert await read_a_burst(settings) == BURST


async def test_a_burst_without_pauses_is_detected(monkeypatch, settings):
    """Negative control: the same reader is closed because it is slower than the hub."""

    async def go_on(self: Flusher, behind: Any) -> None:
        return None

    monkeypatch.setattr(Flusher, "_wait_for", go_on)
    assert await read_a_burst(settings) < BURST


async def test_a_client_that_reads_nothing_delays_others_only_once(settings):
    """The hub waits once for a client that reads nothing, not after each slice of a burst."""
    settings.DECLBIND = {"QUEUE_FRAMES": BURST // 2}
    waits: list[int] = []
    with override_bindings(NUMBERS):
        flusher = (await hub.get_hub()).flusher
        wait_for = flusher._wait_for

        async def note(behind: Any) -> None:
            before = asyncio.get_running_loop().time()
            await wait_for(behind)
            if asyncio.get_running_loop().time() - before > 0.01:
                waits.append(len(behind))

        flusher._wait_for = note  # type: ignore[method-assign]
        async with Client() as quick:
            await subscribe(quick)
            slow = await prepare_slow_reader(Tap())
            await write_many(BURST)
            assert [(await next_payload(quick))["data"]["value"] for _ in range(BURST)] == list(range(BURST))
            assert len(waits) == 1
            await slow.disconnect()
