"""Base managers with side effects: they neither break a write nor change its events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, models, transaction

from declbind.core.frames import EVERY_GROUP
from declbind.live.snapshots import read_snapshot
from declbind.models import Traffic
from declbind.outbound import sequencer
from declbind.outbound.triggers import marks, upkeep
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.test_stored_rows import bulk_update, record, save, save_one, update
from tests.zoo.guests import MANAGERS, Managed, OddManager

pytestmark = pytest.mark.django_db

WRITES = [save, save_one, update, bulk_update]
SENT: dict[str, Any] = {"fields": ["text"]}


@pytest.fixture
def with_base_manager(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return a function that makes the base manager do something to its rows."""
    return lambda change: monkeypatch.setattr(OddManager, "mind", staticmethod(change))


@pytest.fixture
def row() -> Managed:
    friend = Managed.objects.create(text="friend", room=9)
    return Managed.objects.create(text="one", room=1, friend=friend)


def remove(pk: Any) -> None:
    """Delete a row without a collector, which uses base managers itself."""
    models.QuerySet(Managed).filter(pk=pk)._raw_delete("default")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", MANAGERS)
def test_a_manager_that_shows_all_rows_changes_nothing(
    row: Managed, with_base_manager: Any, name: str, write: Any
) -> None:
    """The events equal those of a plain manager."""
    row.text = "two"
    with override_bindings(record(Managed, **SENT)), capture_events() as events, transaction.atomic():
        # Django's own `save` uses the base manager too, and refuses some.
        if not (name == "groups" and write in (save, save_one)):
            with_base_manager(MANAGERS[name])
        write(row)
        pk = row.pk
        remove(pk)
    assert [(event.kind, event.changes, event.data) for event in events] == [
        ("row", [("room-1", "update")], {"text": "two"}),
        ("gone", [("room-1", "delete")], {"text": "two"}),
    ]


@pytest.mark.parametrize("name", MANAGERS)
def test_a_snapshot_by_a_manager_with_side_effects(row: Managed, with_base_manager: Any, name: str) -> None:
    """The snapshot has the same rows as with a plain manager."""
    with override_bindings(record(Managed, **SENT)):
        bound = get_registry().by_stream["notes"](using="default")
        with_base_manager(MANAGERS[name])
        pages = read_snapshot(bound, "room-1", {"room": 1}, "default").pages
    assert pages == [[(str(row.pk), '{"text":"one"}')]]


def raise_anyway(found: object) -> object:
    raise RuntimeError("no tenant")


FAILING = {
    "raises": raise_anyway,
    "is sliced": lambda found: found[:5],
    "queries what is not there": lambda found: found.extra(where=["nothing = nowhere"]),
}


def check_that_a_failing_manager_costs_a_resync(with_base_manager: Any, row: Managed, failing: Any) -> None:
    with override_bindings(record(Managed, **SENT)), capture_events() as events, transaction.atomic():
        with_base_manager(failing)
        update(row)
        bulk_update(row)
        remove(row.pk)
        with_base_manager(None)
        assert not Managed.objects.filter(pk=row.pk).exists()
    assert [(event.kind, event.changes) for event in events] == [("bulk", [(EVERY_GROUP, "resync")])] * 3
    assert Traffic.objects.filter(stream="notes", kind=Traffic.ERROR).count() >= 3


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_a_manager_that_fails_costs_a_resync(row: Managed, with_base_manager: object, failing: object) -> None:
    """The write succeeds in a transaction that continues, and the cause is recorded."""
    check_that_a_failing_manager_costs_a_resync(with_base_manager, row, failing)


def test_a_manager_asked_without_a_savepoint_would_be_caught(
    row: Managed, with_base_manager: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed statement ends the transaction on some databases; on others, an exception is let through."""
    if connection.vendor == "postgresql":
        for module in ("rows", "batch"):
            monkeypatch.setattr(f"declbind.outbound.{module}.reading", lambda plan, using: contextlib.nullcontext())
        failing = FAILING["queries what is not there"]
    else:
        monkeypatch.setattr("declbind.outbound.batch.unread", lambda *args: raise_anyway(None))
        failing = raise_anyway
    with pytest.raises(Exception, match=r"nowhere|nothing|transaction|tenant"), transaction.atomic():
        check_that_a_failing_manager_costs_a_resync(with_base_manager, row, failing)


@pytest.mark.parametrize("write", [save, update, bulk_update])
def test_a_row_that_the_manager_hides_is_deleted_for_clients(row: Managed, with_base_manager: Any, write: Any) -> None:
    """This includes a row that it shows again."""
    with override_bindings(record(Managed, **SENT)), capture_events() as events:
        with_base_manager(lambda found: found.exclude(text="hidden"))
        row.text = "hidden"
        write(row)
        row.text = "shown"
        update(row)
    assert [(event.changes, event.data) for event in events] == [
        ([("room-1", "delete")], {}),
        ([("room-1", "create")], {"text": "shown"}),
    ]


# With triggers -------------------------------------------------------------------------------------------------------


def write_raw(with_base_manager: Any, change: Any) -> list[Any]:
    """Write by SQL alone, with triggers, while the base manager does something; return the events."""
    binding = record(Managed, capture="triggers", **SENT)
    with override_bindings(binding):
        upkeep.install("default")
        try:
            sequencer.settle("default")
            with_base_manager(change)
            with override_bindings(binding), capture_events() as events, connection.cursor() as cursor:
                cursor.execute("INSERT INTO zoo_managed (text, room) VALUES ('new', 1)")
                cursor.execute("UPDATE zoo_managed SET text = 'other', room = 2")
                cursor.execute("DELETE FROM zoo_managed")
                sequencer.settle("default")
        finally:
            with_base_manager(None)
            upkeep.remove("default")
    return [(event.kind, event.changes, event.data) for event in events]


ROW_BY_ROW: list[object] = [
    ("row", [("room-1", "create")], {"text": "new"}),
    ("row", [("room-1", "delete"), ("room-2", "create")], {"text": "other"}),
    ("gone", [("room-2", "delete")], {"text": "other"}),
]
RESYNC: object = ("bulk", [(EVERY_GROUP, "resync")], {})
#: What such a manager may do without excluding rows.
UNRESTRICTED = ["joins", "ranks", "defers", "orders", "extra"]


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["nothing", *UNRESTRICTED])
def test_marks_of_a_manager_that_restricts_nothing_are_reported_row_by_row(
    with_base_manager: object, name: str
) -> None:
    """This applies although it is one of the project's own."""
    assert write_raw(with_base_manager, MANAGERS.get(name)) == ROW_BY_ROW


RESTRICTED = {
    "excludes": lambda found: found.exclude(text="nothing like it"),
    "is distinct": lambda found: found.distinct(),
    "joins": lambda found: found.filter(friend__text="friend"),
    "shows none": lambda found: found.none(),
    **FAILING,
}


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("restricted", RESTRICTED.values(), ids=RESTRICTED)
def test_a_manager_that_may_hide_rows_costs_a_resync(with_base_manager: object, restricted: object) -> None:
    """Whether it showed a row before the write is unknown."""
    told = write_raw(with_base_manager, restricted)
    assert told[1:] == [RESYNC] * 2
    assert told[0] in (ROW_BY_ROW[0], RESYNC)


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
def test_judging_a_manager_by_its_class_would_be_caught(
    with_base_manager: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: only the class of a manager decides."""
    monkeypatch.setattr(marks, "shows_every_row", lambda plan, using: plan.shows_all)
    with pytest.raises(AssertionError):
        test_marks_of_a_manager_that_restricts_nothing_are_reported_row_by_row(with_base_manager, "nothing")


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("restricted", RESTRICTED.values(), ids=RESTRICTED)
def test_taking_each_manager_for_a_plain_one_would_be_caught(
    with_base_manager: object, restricted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: each manager is treated as a plain one."""
    monkeypatch.setattr(marks, "shows_every_row", lambda plan, using: True)
    with pytest.raises(Exception, match=r"assert|nowhere|no tenant"):
        test_a_manager_that_may_hide_rows_costs_a_resync(with_base_manager, restricted)
