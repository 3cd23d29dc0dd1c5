"""Limits: how much a client may send, how much may wait for it, and how long it may take to read."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction

from declbind.core.errors import ClientError
from declbind.inbound import writes
from declbind.live import conversation, housekeeping, hub, socket
from declbind.live.consumers import BindingConsumer
from declbind.live.flushing import Flusher
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, Tap, code_of, in_thread, next_payload, since_of, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """A replacement of ``time.monotonic`` in the live part, which stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A whole number: what the moves add up to must not hang on how the machine's clock is rounded.
        self.now = float(round(time.monotonic()))
        for module in (housekeeping, conversation, hub, socket):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def move(self, seconds: float) -> None:
        self.now += seconds


def frame(ref: Any, **payload: Any) -> str:
    return json.dumps({"stream": "numbers", "payload": {"action": "delete", "pk": 1, "ref": ref, **payload}})


# What comes in -------------------------------------------------------------------------------------------------------


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


async def test_messages_over_the_rate_are_answered_and_not_carried_out(monkeypatch, settings):
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


async def test_who_floods_for_ten_seconds_is_closed(monkeypatch, settings):
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


async def test_the_rate_holds_for_frames_that_are_no_requests(monkeypatch, settings):
    """Malformed frames count too: a flood of them has the same end."""
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


async def answer_or_close(client: Client) -> Any:
    try:
        return await client.request("numbers", "delete", pk=1)
    except ConnectionError:
        return None


async def test_no_more_requests_than_allowed_are_under_way_at_once(monkeypatch, settings):
    """Other frames of the connection wait unread. Another connection does not wait for them."""
    settings.DECLBIND = {"MAX_IN_FLIGHT": 3, "DATABASE_THREADS": 8}
    streams = [{**NUMBERS, "stream": f"numbers-{number}"} for number in range(6)]
    under_way, most, release = 0, 0, asyncio.Event()
    loop = asyncio.get_running_loop()
    started: asyncio.Queue[None] = asyncio.Queue()

    def handle(request: Any, binding: Any, identity: Any) -> Any:
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


# What waits to go out ------------------------------------------------------------------------------------------------


async def write_many(count: int, name: str = "a", first: int = 0) -> None:
    """Write numbers one by one, in one transaction."""

    @transaction.atomic
    def write() -> None:
        for value in range(first, first + count):
            IntegerValue.objects.create(name=name, value=value)

    await in_thread(write)


@pytest.mark.parametrize("limits", [{"QUEUE_FRAMES": 20}, {"QUEUE_BYTES": 3_000}])
async def test_a_queue_that_overflows_ends_its_reader_and_no_other(settings, limits):
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


async def test_a_frame_that_waits_too_long_ends_its_reader(monkeypatch):
    """After QUEUE_SECONDS without reading the connection ends, even if no more frames follow."""
    clock = Clock(monkeypatch)
    tap = Tap()
    with override_bindings(NUMBERS):
        async with Client(tap) as slow:
            await subscribe(slow)
            tap.shut()
            await write_many(3)
            await settle()
            clock.move(11)
            await until_given_up()
            tap.let()
            assert await slow.wait_closed() == 4408


async def test_one_frame_half_read_ends_its_reader_too(monkeypatch):
    """Nothing waits in the queue, but the reader does not read: the frame that is being sent counts."""
    clock = Clock(monkeypatch)
    tap = Tap()
    with override_bindings(NUMBERS):
        async with Client(tap) as slow:
            await subscribe(slow)
            tap.shut()
            await write_many(1)
            await settle()
            clock.move(11)
            await until_given_up()
            tap.let()
            assert await slow.wait_closed() == 4408


async def settle() -> None:
    await (await hub.get_hub()).settle()


async def until_given_up() -> None:
    """Wait until the server has decided to close the only connection."""
    [connection] = (await hub.get_hub()).core.connections
    await asyncio.wait_for(asyncio.shield(connection.info.closed), PATIENCE)


async def test_a_reader_that_reads_nothing_at_all_is_dropped(monkeypatch, settings):
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
        # The application ends by itself: nobody reads, and nobody disconnects.
        await client._communicator.wait(PATIENCE)
        assert list((await hub.get_hub()).core.connections) == []


async def read_steadily(tap: Tap, clock: Clock, client: Client, count: int) -> list[dict[str, Any]]:
    """Read one frame every four seconds."""
    frames = []
    for _ in range(count):
        tap.let()
        frames.append(await client.receive())
        clock.move(4)
    return frames


async def prepare_slow_reader(tap: Tap, **payload: Any) -> Client:
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
        await settle()
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


async def test_a_replay_that_is_queued_at_once_is_noticed(monkeypatch, settings):
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
        await settle()
        clock, tap = Clock(monkeypatch), Tap()
        slow = await prepare_slow_reader(tap, since=since_of(reply))
        with pytest.raises(ConnectionError):
            await read_steadily(tap, clock, slow, 41)
        assert slow.close_code == 4408
        await slow.disconnect()


# A burst, and readers that read --------------------------------------------------------------------------------------


class Steady:
    """A wrapper of a consumer that takes its frames at a steady pace, slower than they can be made."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        taken = 0

        async def send_steadily(message: Any) -> None:
            nonlocal taken
            taken += 1
            if taken % 4 == 0:
                await asyncio.sleep(0.001)  # the reader's pace
            await send(message)

        await BindingConsumer.as_asgi()(scope, receive, send_steadily)


BURST = 1_000


async def read_a_burst(settings: Any) -> int:
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


async def test_a_burst_does_not_close_a_reader_that_reads(settings):
    """The hub is faster than any reader, so it waits a little for readers that keep reading."""
    assert await read_a_burst(settings) == BURST


async def test_a_burst_that_waits_for_nobody_is_noticed(monkeypatch, settings):
    """Negative control: the same reader is closed because it is slower than the hub."""

    async def go_on(self: Flusher, behind: Any) -> None:
        return None

    monkeypatch.setattr(Flusher, "_wait_for", go_on)
    assert await read_a_burst(settings) < BURST


async def test_who_reads_nothing_holds_nobody_up_for_long(settings):
    """The hub waits once for a reader that takes nothing, not after each slice of a burst."""
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
