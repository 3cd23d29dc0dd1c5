"""The page for load balancers: 200 while events are delivered, 503 while they wait."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.test import Client as HttpClient
from django.utils import timezone
from pytest_django import Settings

from declbind.live.hub import get_hub
from declbind.models import Event, Node
from declbind.outbound import history, log, sequencer
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from tests.factories import make_user
from tests.json_types import JSONObject
from tests.live import NUMBERS, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)


TOKEN = "a secret of the monitoring"


@pytest.fixture(autouse=True)
def token(settings: Settings) -> None:
    settings.DECLBIND = {"HEALTH_TOKEN": TOKEN}


def ask(client: HttpClient | None = None, token: str = TOKEN) -> tuple[int, JSONObject]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = (client or HttpClient()).get("/declbind/health/", headers=headers)
    return response.status_code, response.json()


def test_a_process_without_sockets_is_healthy():
    """The page shows the log and the configuration, and no hub."""
    status, state = ask()
    assert (status, state["ok"], state["process"]) == (200, True, None)
    assert state["log"]["offset"] == log.load_head(database_alias()).offset
    assert state["configuration"]["invalid"] == 0


async def test_a_process_with_sockets_shows_its_numbers():
    """Connections, subscriptions, queues, cursor and version are those of the hub."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await store("a", 1)
            await client.receive()
            status, state = await sync_to_async(ask)()
            hub = await get_hub()
    process = state["process"]
    assert status == 200
    assert (process["connections"], process["subscriptions"]) == (1, 1)
    assert (process["lag_events"], process["lag_seconds"], process["queued_frames"]) == (0, 0.0, 0)
    assert process["cursor"] == hub.core.cursor


async def test_a_lagging_hub_is_unhealthy(monkeypatch):
    """The answer is 503 if the process has not delivered events for ten seconds."""
    async with Client():
        hub = await get_hub()
        await hub.settle()
        monkeypatch.setattr(hub.pump, "_advance", sync_to_async(lambda: False))
        # A read of the log that has begun must end before the write.
        await hub.settle()
        await store("a", 1)
        await sync_to_async(Event.objects.update)(created_at=timezone.now() - timedelta(seconds=20))
        await sync_to_async(number_all)()
        status, state = await sync_to_async(ask)()
        assert status == 503
        assert state["process"]["lag_events"] >= 1
        assert state["process"]["lag_seconds"] >= 20


def number_all() -> None:
    while sequencer.sequence(database_alias()):
        pass


def test_events_without_a_number_are_unhealthy_if_a_process_should_number_them():
    """On PostgreSQL such events are noticed by their age; SQLite numbers by itself.

    As long as no process has served a socket, nobody waits for them, and taking this process out of service would keep
    it from ever having one.
    """
    Event.objects.create(stream="s", created_at=timezone.now() - timedelta(seconds=30))
    status, state = ask()
    assert (status, state["ok"]) == (200, True)
    now = timezone.now()
    Node.objects.create(id="n", host="web", pid=1, started_at=now, seen_at=now)
    before, (status, state) = state, ask()
    if history.needs_sequencer(database_alias()):
        assert "No process has served a socket yet" in before["problems"][0]
        assert "do not number them" in state["problems"][0]
        assert status == 503
        assert state["log"]["unsequenced"] == 1
        assert state["log"]["oldest_unsequenced_seconds"] >= 30
    else:
        assert (status, state["log"]["unsequenced"]) == (200, 0)


def fail(*args: object) -> None:
    raise OperationalError("password authentication failed for user postgres")


def test_a_database_that_does_not_answer_is_unhealthy(monkeypatch):
    """The page reports it instead of failing, and discloses no secret."""
    monkeypatch.setattr(log, "load_head", fail)
    status, state = ask()
    assert status == 503
    assert state == {"ok": False, "error": "OperationalError", "log": None, "process": None}


@pytest.mark.parametrize("token", ["", "another secret", TOKEN[:-1]])
def test_anonymous_users_see_only_the_status(token, monkeypatch):
    """They see neither numbers nor the kind of a fault."""
    assert ask(token=token) == (200, {"ok": True})
    monkeypatch.setattr(log, "load_head", fail)
    assert ask(token=token) == (503, {"ok": False})


def test_an_empty_token_gives_no_access(settings):
    """An empty setting means that there is no token."""
    settings.DECLBIND = {"HEALTH_TOKEN": ""}
    response = HttpClient().get("/declbind/health/", headers={"Authorization": "Bearer "})
    assert response.json() == {"ok": True}


@pytest.mark.parametrize(("codenames", "sees"), [((), False), (("declbind.view_node",), True)])
def test_numbers_need_the_permission_to_view_processes(codenames, sees):
    """It is the permission of the page about processes."""
    client = HttpClient()
    client.force_login(make_user(*codenames))
    assert ("log" in ask(client, token="")[1]) is sees


async def test_a_fault_is_shown_only_while_it_lasts(monkeypatch):
    """The class of the error is shown. Its text is for operators."""
    async with Client():
        hub = await get_hub()
        with monkeypatch.context() as patch:
            failed = threading.Event()

            def fail_once_more() -> None:
                failed.set() if hub.heartbeat.last_error else hub.pump.wake()
                fail()

            patch.setattr(hub.pump, "_advance", sync_to_async(fail_once_more))
            hub.pump.wake()
            assert await asyncio.to_thread(failed.wait, PATIENCE)
            assert (await sync_to_async(ask)())[1]["process"]["last_error"] == "OperationalError"
            assert "password" in hub.heartbeat.last_error
        await hub.settle()
        assert (await sync_to_async(ask)())[1]["process"]["last_error"] == ""
