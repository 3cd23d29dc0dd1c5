"""A session that hangs while it holds the lock of the log: nothing waits for it without bound."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test import Client as Browser
from django.utils import timezone

from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.live.snapshots import BLOCKED
from declbind.models import Event, Head, Node
from declbind.outbound import head_lock, history, log, sequencer, sessions
from declbind.outbound.head_lock import NumberingBlockedError
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, store, subscribe
from tests.live_snapshots import read_snapshot, values_of

from .open_transactions import elsewhere, hold_the_head

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite bounds all its waits itself"),
]

USING = "default"
#: The bound of the tests: MySQL and MariaDB count whole seconds.
BOUND = 1.0
#: What a call may take that is bounded. The servers' own bounds are 50 s and none.
SOON = 8.0
#: How the session is called. Only PostgreSQL shows who holds which lock.
HOLDER = "a hung shell" if connection.vendor == "postgresql" else "a session of the database has held its lock"


@pytest.fixture(autouse=True)
def short_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_lock, "LOCK_SECONDS", BOUND)
    monkeypatch.setattr(sessions, "HELD_SECONDS", 0.0)


@pytest.fixture
def waiting() -> Iterator[None]:
    """Let an event wait for its number while the head is locked."""
    with override_bindings(NUMBERS):
        IntegerValue.objects.create(name="a", value=1)
        with elsewhere(hold_the_head):
            yield


def bound_of_the_session() -> str:
    """Return the setting that bounds the waits of this connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout')" if connection.vendor == "postgresql"
            else "SELECT @@innodb_lock_wait_timeout"
        )  # fmt: skip
        return str(cursor.fetchone()[0])


def read_numbered() -> None:
    with sequencer.numbered_read(USING):
        pass


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("is_nested", [False, True], ids=["outermost", "in a transaction"])
@pytest.mark.parametrize("work", [lambda: sequencer.sequence(USING), read_numbered], ids=["numbering", "snapshot"])
def test_numbering_gives_up_soon(work: Callable[[], object], is_nested: bool) -> None:
    """A transaction of the caller goes on, with its own bound of waits."""
    before = bound_of_the_session()
    started = time.monotonic()
    with transaction.atomic() if is_nested else contextlib.nullcontext():
        with pytest.raises(NumberingBlockedError):
            work()
        assert bound_of_the_session() == before
        IntegerValue.objects.create(name="b", value=2)
    assert time.monotonic() - started < SOON
    assert IntegerValue.objects.filter(name="b").exists()


@pytest.mark.usefixtures("waiting")
def test_a_wait_without_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without the bound, the call is still waiting after the time that it may take."""
    monkeypatch.setattr(head_lock, "bounded_waits", lambda connection, restores=False: contextlib.nullcontext())
    is_done = threading.Event()

    def run() -> None:
        with contextlib.suppress(Exception):
            sequencer.sequence(USING)
        is_done.set()
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    assert not is_done.wait(BOUND + 2)
    # The fixture ends the session, and the thread with it.
    threads.append(thread)


threads: list[threading.Thread] = []


@pytest.fixture(autouse=True)
def joined_threads(short_bound: None) -> Iterator[None]:
    yield
    while threads:
        threads.pop().join(PATIENCE)


@pytest.mark.usefixtures("waiting")
def test_old_events_are_deleted_later(settings: Any) -> None:
    """The sweep shares its thread with the heartbeat, and goes on with the rest of its work."""
    head = Head.objects.get(pk=1)
    Event.objects.filter(seq__isnull=False).delete()
    Event.objects.create(seq=head.seq, created_at=timezone.now() - timedelta(days=9))
    assert log.trim(USING) == 0
    assert Event.objects.filter(seq=head.seq).exists()


def test_old_events_are_deleted_when_the_lock_is_free() -> None:
    """Control of the test before."""
    with override_bindings(NUMBERS):
        IntegerValue.objects.create(name="a", value=1)
        sequencer.sequence(USING)
        Event.objects.update(created_at=timezone.now() - timedelta(days=9))
        assert log.trim(USING) > 0


def test_a_first_start_does_not_wait_and_a_replaced_log_is_not_served() -> None:
    """Tables that were never seen are recorded by a later connection. Replaced ones need a new epoch first."""
    history.ensure_head(USING)
    epoch = Head.objects.get(pk=1).epoch
    Head.objects.update(incarnation="")
    with elsewhere(hold_the_head):
        history.check_incarnation(USING)
        with pytest.raises(NumberingBlockedError):
            history.renew_epoch(USING, epoch)
    assert Head.objects.get(pk=1).incarnation == ""
    Head.objects.update(incarnation="another")
    with elsewhere(hold_the_head), pytest.raises(NumberingBlockedError):
        history.check_incarnation(USING)
    history.check_incarnation(USING)
    assert Head.objects.get(pk=1).incarnation not in ("", "another")
    assert Head.objects.get(pk=1).epoch != epoch


async def test_a_client_is_refused_and_then_served() -> None:
    """The refusal says what is the matter. The same request succeeds when the session has ended."""
    held: Any = elsewhere(hold_the_head)
    with override_bindings(NUMBERS):
        await store("a", 1)
        async with Client() as client:
            await get_hub()
            await sync_to_async(held.__enter__)()
            try:
                await store("a", 2)
                reply = await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
                assert (reply["error"]["code"], reply["error"]["message"]) == ("internal", BLOCKED)
            finally:
                await sync_to_async(held.__exit__)(None, None, None)
            await subscribe(client, snapshot=True)
            assert values_of(await read_snapshot(client)) == [1, 2]


async def test_a_held_lock_stops_neither_the_heartbeat_nor_the_start_of_a_process(
    settings: Any,
) -> None:
    """The process stays alive in the console, says what is the matter, and sends what was numbered before."""
    settings.DECLBIND = {"HEALTH_TOKEN": "t"}
    held: Any = elsewhere(hold_the_head)
    with override_bindings(NUMBERS):
        await store("a", 1)
        await sync_to_async(held.__enter__)()
        try:
            async with Client() as client:
                await subscribe(client)
                hub = await get_hub()
                await store("a", 2)
                await hub.settle()
                async with asyncio.timeout(PATIENCE):
                    await housekeeping.beat(hub)
                assert HOLDER in await sync_to_async(lambda: Node.objects.get().last_error)()
                await sync_to_async(Event.objects.update)(created_at=timezone.now() - timedelta(seconds=30))
                headers = {"Authorization": "Bearer t"}
                state = (await sync_to_async(Browser().get)("/declbind/health/", headers=headers)).json()
                assert any(HOLDER in problem for problem in state["problems"])
                await sync_to_async(held.__exit__)(None, None, None)
                held = contextlib.nullcontext()
                assert [(await client.receive())["payload"]["data"]["value"] for _ in range(2)] == [1, 2]
        finally:
            await sync_to_async(held.__exit__)(None, None, None)
