"""Waiting: how long a handshake may take, and how long an open socket may wait for its first request."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import OperationalError

from declbind.inbound import permissions
from declbind.live import conversation, housekeeping
from declbind.live.hub import LiveHub, get_hub
from declbind.live.log_reader import LogReader
from declbind.testing import Client, override_bindings
from tests.live import BOARD, NUMBERS, subscribe
from tests.live_clock import Clock

pytestmark = pytest.mark.django_db(transaction=True)


class Stuck:
    """A function that waits for a database that does not answer."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.answers.wait(20)
        raise OperationalError("the connection was lost")


@pytest.fixture
def short(settings):
    settings.DECLBIND = {"HANDSHAKE_SECONDS": 0.2}


# Handshakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["identify", "load_current_user"])
async def test_a_handshake_that_waits_for_the_database_is_ended(where, short, monkeypatch, caplog):
    """The client is asked to come back later, whichever query does not return, and the log has the reason."""
    stuck = Stuck()
    with override_bindings(NUMBERS):
        async with Client() as first:
            await subscribe(first)
            with monkeypatch.context() as patch:
                patch.setattr(permissions, where, stuck)
                client = Client()
                assert await client.connect()
                assert await client.wait_closed() == 1013
            stuck.answers.set()
            assert "no answer within HANDSHAKE_SECONDS (0.2)" in caplog.text
            # The next client is served.
            async with Client() as second:
                await subscribe(second)
            assert len((await get_hub()).sockets()) == 1


async def test_a_hub_that_cannot_read_the_log_closes_its_clients(short, monkeypatch, caplog):
    """The first client does not wait for a database that accepts the connection and never answers."""
    stuck = Stuck()
    with override_bindings(NUMBERS), monkeypatch.context() as patch:
        patch.setattr(LogReader, "first_look", stuck)
        client = Client()
        assert await client.connect()
        assert await client.wait_closed() == 1013
        assert "no answer within HANDSHAKE_SECONDS" in caplog.text
        patch.undo()
        stuck.answers.set()
        # It was late, and the hub has started by now.
        async with Client() as second:
            await subscribe(second)


async def test_a_handshake_without_a_limit_is_detected(settings, monkeypatch):
    """Negative control: with a high limit, the same client waits."""
    settings.DECLBIND = {"HANDSHAKE_SECONDS": 3600}
    stuck = Stuck()
    with override_bindings(NUMBERS):
        async with Client() as first:
            await subscribe(first)
        monkeypatch.setattr(permissions, "identify", stuck)
        client = Client()
        connecting = asyncio.create_task(client.connect())
        done, _ = await asyncio.wait({connecting}, timeout=0.5)
        assert not done
        stuck.answers.set()
        await asyncio.wait({connecting})


# Open sockets --------------------------------------------------------------------------------------------------------


async def end_idle() -> list[int]:
    """Run the hub's check of each second, and return the codes of closed sockets."""
    hub = await get_hub()
    sockets = hub.sockets()
    housekeeping.end_unused(hub)
    return [socket.closed.result()[0] for socket in sockets if socket.closed.done()]


async def test_an_unused_socket_is_closed(settings, monkeypatch):
    """It is closed with 4408 after this time without a subscription or request."""
    settings.DECLBIND = {"IDLE_SECONDS": 60}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert await end_idle() == []
            clock.move(59)
            assert await end_idle() == []
            clock.move(1)
            assert await end_idle() == [4408]
            assert await client.wait_closed() == 4408


async def test_a_request_restarts_the_time(settings, monkeypatch):
    """A refused request counts too."""
    settings.DECLBIND = {"IDLE_SECONDS": 60}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert await end_idle() == []
            clock.move(59)
            assert not (await client.request("numbers", "delete", pk=1))["ok"]
            assert await client.is_silent()
            clock.move(2)
            assert await end_idle() == []
            clock.move(60)
            assert await end_idle() == [4408]


@pytest.mark.parametrize("record", [NUMBERS, BOARD])
async def test_a_subscriber_without_frames_stays_connected(record, settings, monkeypatch):
    """Without any write for a day, subscribed clients stay connected."""
    settings.DECLBIND = {"IDLE_SECONDS": 60}
    clock = Clock(monkeypatch)
    with override_bindings(record):
        async with Client() as client:
            if record is NUMBERS:
                await subscribe(client)
            for _ in range(3):
                clock.move(86_400)
                assert await end_idle() == []


async def test_the_time_begins_when_the_last_subscription_ends(settings, monkeypatch):
    """The time of a subscription is not idle time."""
    settings.DECLBIND = {"IDLE_SECONDS": 60}
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            assert await end_idle() == []
            clock.move(86_400)
            await client.request("numbers", "unsubscribe", params={"name": "a"})
            assert await client.is_silent()
            assert await end_idle() == []
            clock.move(60)
            assert await end_idle() == [4408]


async def test_unused_sockets_stay_open_by_default(monkeypatch):
    """A page may open its socket long before it is used."""
    clock = Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client():
            assert await end_idle() == []
            clock.move(10**9)
            assert await end_idle() == []


# Floods --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [{"text": ""}, {"bytes": b""}, {"bytes": b"x" * 1000}, {"text": "x"}])
async def test_a_thousand_frames_over_the_rate_end_the_socket(frame, monkeypatch):
    """Empty and binary frames count as well, and a client far above the rate is closed before ten seconds."""
    Clock(monkeypatch)
    with override_bindings(NUMBERS):
        client = Client()
        await client.connect()
        for _ in range(40 + conversation.FLOOD_MESSAGES):
            await client._communicator.send_input({"type": "websocket.receive", **frame})
        assert await client.is_silent()
        await client._communicator.send_input({"type": "websocket.receive", **frame})
        assert await client.wait_closed() == 4429


async def count_flood(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Return how many of 100 refusals the metrics have, and how many of them are stored as rows."""
    Clock(monkeypatch)
    with override_bindings(NUMBERS):
        async with Client() as client:
            hub = await get_hub()
            hub.metrics.take_fresh()
            hub.traffic.take()
            for _ in range(99):
                await client._communicator.send_input({"type": "websocket.receive", "bytes": b"x"})
            await client.request("numbers", "delete", pk=1)
            return hub.metrics.take_fresh().refused.total(), len(hub.traffic.take())


async def test_refusals_that_are_not_stored_are_counted(settings, monkeypatch):
    """Only a few rows of a flood are stored, but the console's numbers include all of it."""
    settings.DECLBIND = {"TRAFFIC_PER_SECOND": 5, "HEARTBEAT_SECONDS": 3600}
    assert await count_flood(monkeypatch) == (100, 5)


async def test_counts_of_stored_rows_alone_are_detected(settings, monkeypatch):
    """Negative control: a hub that counts only stored rows has too few."""
    settings.DECLBIND = {"TRAFFIC_PER_SECOND": 5, "HEARTBEAT_SECONDS": 3600}
    note = LiveHub.note

    def note_kept(self: LiveHub, socket: Any, kind: str, **values: object) -> None:
        before = len(self.traffic._waiting)
        count = self.metrics.count
        self.metrics.count = lambda *args: None  # type: ignore[method-assign]
        note(self, socket, kind, **values)
        self.metrics.count = count  # type: ignore[method-assign]
        if len(self.traffic._waiting) > before:
            count(kind, "")

    monkeypatch.setattr(LiveHub, "note", note_kept)
    assert (await count_flood(monkeypatch))[0] < 100
