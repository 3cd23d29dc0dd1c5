"""Sessions of the database that keep a change from clients: open transactions, and a held lock of the log."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test import Client as Browser
from django.utils import timezone

from declbind.console.why import Cause, Certainty, Question, explain
from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.models import Event, Head, Node
from declbind.outbound import history, sequencer, sessions
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS, store, subscribe

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL shows who holds which lock"),
]


@contextlib.contextmanager
def elsewhere(work: Callable[[], Any]) -> Iterator[Any]:
    """Do some work in a transaction of another connection, which stays open during the block."""
    is_done, may_end = threading.Event(), threading.Event()
    found: list[Any] = []

    def run() -> None:
        try:
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET application_name = 'a hung shell'")
                found.append(work())
                is_done.set()
                may_end.wait(60)
                raise ZeroDivisionError
        finally:
            is_done.set()
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    assert is_done.wait(PATIENCE)
    try:
        yield found[0] if found else None
    finally:
        may_end.set()
        thread.join()


def first_answer(row: Any, **values: Any) -> Any:
    return explain(Question("numbers", str(row), **values), database_alias()).answers[0]


def hold_the_head() -> None:
    Head.objects.select_for_update().get(pk=1)


def test_a_row_that_an_open_transaction_has_changed() -> None:
    """The probe finds its lock; without the transaction it is likely a rollback."""
    with override_bindings(NUMBERS):
        row = IntegerValue.objects.create(name="a", value=1)
        sequencer.sequence(database_alias())
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=10))
        with elsewhere(lambda: IntegerValue.objects.filter(pk=row.pk).update(value=2)):
            answer = first_answer(row.pk, at=timezone.now())
            assert (answer.cause, answer.certainty) == (Cause.OPEN_TRANSACTION, Certainty.CERTAIN)
            assert ("program", "a hung shell") in answer.evidence
        answer = first_answer(row.pk, at=timezone.now())
        assert (answer.cause, answer.certainty) == (Cause.ROLLED_BACK, Certainty.LIKELY)


def test_a_row_that_an_open_transaction_has_created() -> None:
    """Nobody else can see the row; the transaction has written its table."""
    with override_bindings(NUMBERS):
        with elsewhere(lambda: IntegerValue.objects.create(name="a", value=1)) as row:
            answer = first_answer(row.pk, at=timezone.now())
            assert (answer.cause, answer.certainty) == (Cause.OPEN_TRANSACTION, Certainty.LIKELY)
        assert first_answer(row.pk, at=timezone.now()).cause is Cause.ROLLED_BACK


def test_a_session_that_holds_the_lock_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names the session. If no session holds it, the answer says that no process numbers the log."""
    monkeypatch.setattr(sessions, "HELD_SECONDS", 0.0)
    with override_bindings(NUMBERS):
        row = IntegerValue.objects.create(name="a", value=1)
        with elsewhere(hold_the_head):
            answer = first_answer(row.pk)
            assert (answer.cause, answer.certainty) == (Cause.NUMBERING_BLOCKED, Certainty.CERTAIN)
            assert "a hung shell" in answer.text
            assert "pg_terminate_backend" in answer.remedy
        answer = first_answer(row.pk)
        assert (answer.cause, answer.certainty) == (Cause.NOT_SEQUENCED, Certainty.CERTAIN)


async def test_a_held_lock_stops_neither_the_heartbeat_nor_the_start_of_a_process(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """The process stays alive in the console, says what is the matter, and sends what was numbered before."""
    monkeypatch.setattr(sequencer, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(sessions, "HELD_SECONDS", 0.0)
    settings.DECLBIND = {"HEALTH_TOKEN": "t"}
    held: Any = elsewhere(hold_the_head)
    with override_bindings(NUMBERS):
        await store("a", 1)
        # As any earlier start of a process has done.
        await sync_to_async(history.check_incarnation)(database_alias())
        await sync_to_async(held.__enter__)()
        try:
            async with Client() as client:
                await subscribe(client)
                hub = await get_hub()
                await store("a", 2)
                await hub.settle()
                async with asyncio.timeout(PATIENCE):
                    await housekeeping.beat(hub)
                assert "a hung shell" in await sync_to_async(lambda: Node.objects.get().last_error)()
                await sync_to_async(Event.objects.update)(created_at=timezone.now() - timedelta(seconds=30))
                headers = {"Authorization": "Bearer t"}
                state = (await sync_to_async(Browser().get)("/declbind/health/", headers=headers)).json()
                assert any("a hung shell" in problem for problem in state["problems"])
                await sync_to_async(held.__exit__)(None, None, None)
                held = contextlib.nullcontext()
                assert [(await client.receive())["payload"]["data"]["value"] for _ in range(2)] == [1, 2]
        finally:
            await sync_to_async(held.__exit__)(None, None, None)
