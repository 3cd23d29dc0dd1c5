"""Sessions of the database that keep a change from clients: open transactions, and a held lock of the log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from declbind.console.why import Cause, Certainty, Question, explain
from declbind.models import Event
from declbind.outbound import sequencer, sessions
from declbind.registry import database_alias
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.live import NUMBERS

from .open_transactions import elsewhere, hold_the_head

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL shows who holds which lock"),
]


def first_answer(row: Any, **values: Any) -> Any:
    return explain(Question("numbers", str(row), **values), database_alias()).answers[0]


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
