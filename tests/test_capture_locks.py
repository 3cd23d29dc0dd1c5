"""Writers of SQLite in its default mode wait for each other, captured or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from declbind.outbound import parents, writes
from declbind.testing import override_bindings
from tests.factories import AnimalFactory
from tests.test_inbound_idempotency import run_together
from tests.zoo.models import Animal, Truck

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has modes of beginning"),
]
#: The old groups of their rows are read before each write.
BINDINGS = [
    {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["legs-{legs}"]},
    {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate"], "groups": ["load-{load}"]},
]
WRITERS, ROUNDS = 4, 20


def bulk_update(row: Any) -> None:
    row.legs += 1
    Animal.objects.bulk_update([row], ["legs"])


#: The work of each writer in each round, with a row of its own.
WRITES: dict[str, Callable[[Any], object]] = {
    "save": lambda row: row.save(),
    "save of a child": lambda row: row.save(),
    "update": lambda row: Animal.objects.filter(pk=row.pk).update(legs=4),
    "bulk_update": bulk_update,
    "delete": lambda row: row.delete(),
}


def write_at_once(monkeypatch: pytest.MonkeyPatch, write: str) -> list[object]:
    """Let several threads write in SQLite's default mode; return the error of each."""
    plates = itertools.count()
    make = (lambda: Truck.objects.create(plate=next(plates))) if "child" in write else AnimalFactory.create
    rows = [[make() for _ in range(ROUNDS)] for _ in range(WRITERS)]
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")

    def write_often(own: Sequence[object]) -> None:
        connection.ensure_connection()
        assert vars(connections["default"])["transaction_mode"] == "DEFERRED"
        for row in own:
            WRITES[write](row)

    with override_bindings(*BINDINGS):
        return run_together(*[lambda own=own: write_often(own) for own in rows])


@pytest.mark.parametrize("write", WRITES)
def test_writers_wait_for_the_lock(monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """A captured write waits for the lock like an uncaptured one. The reads of capture do not make it fail."""
    assert write_at_once(monkeypatch, write) == [None] * WRITERS


@pytest.mark.parametrize("write", WRITES)
def test_writers_that_do_not_wait_are_detected(monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """Negative control: without taking the lock first, the writers of the previous test fail."""
    for module in (parents, writes):
        monkeypatch.setattr(module, "take_write_lock", lambda using: None)
    assert any(isinstance(result, OperationalError) for result in write_at_once(monkeypatch, write))
