"""One reporter for each table: its triggers if they are all installed, otherwise the ORM's hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core import serializers
from django.db import connection, models, transaction
from pytest_django import Settings

from declbind.models import Event
from declbind.outbound import entries, writes
from declbind.outbound.triggers import upkeep
from declbind.testing import capture_events, override_bindings
from tests.test_statements import KEEPERS as ROWS
from tests.test_statements import WAYS, WRITES, Way
from tests.zoo.models import Animal, Food, Keeper, Truck

pytestmark = [pytest.mark.django_db, pytest.mark.needs_triggers]

KEEPERS = {**ROWS, "capture": "triggers"}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "capture": "triggers"}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"], "capture": "triggers"}


@contextlib.contextmanager
def marking(*bindings: Any) -> Iterator[list[Any]]:
    """Put bindings in force with their triggers, and collect the events of the block."""
    with override_bindings(*bindings):
        upkeep.install("default")
        try:
            with capture_events() as events:
                yield events
        finally:
            upkeep.remove("default")


def run(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def drop(event: str, table: str = "zoo_keeper") -> None:
    if connection.vendor == "postgresql":
        run(f"DROP TRIGGER declbind_{event} ON {table}")
    else:
        run(f"DROP TRIGGER declbind_{event}_{table}")


def told(events: list[Any]) -> list[Any]:
    return sorted((event.stream, event.kind, event.changes, str(event.data)) for event in events)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_triggers_report_what_the_hooks_would_and_nothing_twice(way: Way, write: Callable[[Keeper], object]) -> None:
    """This holds whatever another package does to the statements."""
    found = []
    for binding, inside in ((ROWS, contextlib.nullcontext), (KEEPERS, way)):
        with transaction.atomic():
            row = Keeper.objects.create(pk=4242, name="Ann")
            with marking(binding) as events, inside():
                write(row)
            found.append(told(events))
            transaction.set_rollback(True)
    assert found[1] == found[0]


def test_a_delete_of_all_rows_by_sql_is_reported_once() -> None:
    """A statement without a condition is reported like any other."""
    Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        run("DELETE FROM zoo_keeper")
    assert [event.changes for event in events] == [[("keepers", "delete")]]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no TRUNCATE.")
def test_a_truncated_table_is_reported_once() -> None:
    """All groups get one resync."""
    Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        run("TRUNCATE zoo_keeper CASCADE")
    assert [event.changes for event in events] == [[("*", "resync")]]


def test_a_missing_trigger_leaves_its_table_to_the_hooks() -> None:
    """This applies from the next write on, in the same transaction."""
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        ann.save()
        drop("update")
        ann.name = "Bea"
        ann.save()
        Keeper.objects.filter(pk=ann.pk).update(name="Cy")
        upkeep.install("default")
        ann.save()
    kinds = [event.kind for event in events if event.changes != [("*", "resync")]]
    assert kinds.count("row") in (3, 4)
    # The first save after it may have detected this too late, and its groups take a snapshot.
    assert [event.data["name"] for event in events if event.kind == "row"][-2:] == ["Cy", "Bea"]
    assert len(events) == 5  # one of them is the resync of the second installation


def test_a_table_with_some_of_its_triggers_is_reported_by_the_hooks_alone() -> None:
    """Marks of the other triggers are ignored for writes that the hooks report, and used for SQL."""
    with marking(KEEPERS, TRUCKS) as events:
        drop("update")
        row = Keeper.objects.create(name="a")
        row.name = "b"
        row.save()
        run("INSERT INTO zoo_keeper (name, retired) VALUES ('c', %s)", False)
        Keeper.objects.all().delete()
        Truck.objects.create(plate="A").delete()
    found = [(event.stream, event.changes[0][1], event.data.get("name")) for event in events]
    assert sorted(found) == sorted([
        ("keepers", "create", "a"), ("keepers", "update", "b"), ("keepers", "create", "c"),
        ("keepers", "delete", "b"), ("keepers", "delete", "c"),
        ("trucks", "create", None), ("trucks", "delete", None),
    ])  # fmt: skip


def test_a_missing_trigger_loses_no_event() -> None:
    """Each kind of write is reported, or its groups get a resync."""
    for name, write in WRITES.items():
        with transaction.atomic():
            row = Keeper.objects.create(name="Ann")
            with marking(KEEPERS) as events:
                row.save()
                for event in ("insert", "update", "delete"):
                    drop(event)
                write(row)
            assert len(events) > 1 or name == "only a conflict", name
            transaction.set_rollback(True)


def test_trusting_cached_knowledge_of_triggers_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the existence of the triggers is not verified."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite asks at each write.")
    monkeypatch.setattr(writes.CapturedWrite, "run_verified", lambda self, write, model: self.run(write))
    with pytest.raises(AssertionError):
        test_a_missing_trigger_loses_no_event()


def test_a_binding_without_triggers_is_reported_to_by_the_hooks() -> None:
    """The other binding is reported to by its triggers, and both get all that hooks know."""
    other = {**ROWS, "stream": "other", "groups": ["n-{name}"]}
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS, other) as events:
        ann.name = "Bea"
        ann.save()
    assert sorted((event.stream, event.changes) for event in events) == [
        ("keepers", [("keepers", "update")]),
        ("other", [("n-Ann", "delete"), ("n-Bea", "create")]),
    ]


def test_a_save_of_a_row_in_several_tables_is_one_change() -> None:
    """There is a mark for each table, and one event: created, moved and deleted."""
    with marking({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        truck = Truck.objects.create(plate="A", load=1)
        truck.plate, truck.load = "B", 2
        truck.save()
        truck.delete()
    assert [(event.changes, event.data) for event in events] == [
        ([("p-A", "create")], {"plate": "A", "load": 1}),
        ([("p-A", "delete"), ("p-B", "create")], {"plate": "B", "load": 2}),
        ([("p-B", "delete")], {"plate": "B", "load": 2}),
    ]


def test_set_of_a_list_is_one_change() -> None:
    """There is one event, however many rows of the list are inserted and deleted."""
    owl = Animal.objects.create(name="Owl")
    foods = [Food.objects.create(name=name) for name in ("hay", "oats", "nuts")]
    owl.foods.set(foods[:2])
    with marking(FED) as events:
        owl.foods.set(foods[1:])
        run("UPDATE zoo_animal SET name = 'Uhu' WHERE id = %s", owl.pk)
        owl.foods.set(foods[1:])
    assert [(event.changes, event.data["name"]) for event in events] == [([("fed", "update")], "Uhu")] * 2


def test_writes_after_a_call_are_changes_of_their_own() -> None:
    """Raw SQL after a save of several tables is not considered part of it."""
    truck = Truck.objects.create(plate="A", load=1)
    with marking(TRUCKS) as events:
        truck.save()
        run("UPDATE zoo_truck SET load = 2 WHERE vehicle_ptr_id = %s", truck.pk)
        run("UPDATE zoo_truck SET load = 3 WHERE vehicle_ptr_id = %s", truck.pk)
    assert [event.data["load"] for event in events][-1] == 3
    assert len(events) == 3


def test_marks_carry_the_writer_and_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """They equal those of the hooks' events. Other writers are identified by their database sessions."""
    monkeypatch.setattr(entries, "_origin", lambda: "manage.py work")
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS):
        with entries.acting("carol"), transaction.atomic():
            ann.save()
            Keeper.objects.create(name="new")
        with transaction.atomic():
            ann.save()
    found = list(Event.objects.filter(kind="row").order_by("id").values_list("actor", "origin"))
    assert found == [("carol", "manage.py work")] * 2 + [("", "manage.py work")]


def test_fixtures_that_are_not_captured_are_not_marked_either(settings: Settings) -> None:
    """``CAPTURE_RAW`` applies to triggers and to hooks."""
    settings.DECLBIND = {"CAPTURE_RAW": False}
    text = serializers.serialize("json", [Keeper(pk=77, name="Ann")])
    truck = serializers.serialize("json", Truck.objects.filter(pk=Truck.objects.create(plate="A").pk))
    with marking(KEEPERS, TRUCKS) as events:
        for document in (text, truck):
            for item in serializers.deserialize("json", document):
                item.save()
        Keeper.objects.filter(pk=77).update(name="Bea")
    assert [event.data.get("name") for event in events] == ["Bea"]


def test_marks_wake_readers_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that triggers report reaches clients as fast as one that hooks report."""
    ann = Keeper.objects.create(name="Ann")
    rung: list[object] = []
    monkeypatch.setattr("declbind.outbound.log.ring_after_commit", lambda connection: rung.append(connection.alias))
    with marking(KEEPERS):
        rung.clear()
        for write in (ann.save, lambda: Keeper.objects.update(name="x"), ann.delete):
            write()
            assert rung == ["default"]
            rung.clear()


@pytest.fixture
def second() -> Iterator[Any]:
    """Return another model on the table of keepers."""

    class Second(models.Model):
        name = models.CharField(max_length=40)
        retired = models.BooleanField(default=False)

        class Meta:
            app_label = "zoo"
            db_table = "zoo_keeper"
            managed = False

    yield Second
    del apps.all_models["zoo"]["second"]
    apps.clear_cache()


def test_a_second_model_on_the_table_is_reported(second: Any) -> None:
    """Each way of writing through it is reported once."""
    with marking(KEEPERS) as events:
        row = second.objects.create(name="a")
        row.name = "b"
        row.save()
        second.objects.filter(pk=row.pk).update(name="c")
        row.delete()
    assert [event.changes[0][1] for event in events] == ["create", "update", "update", "delete"]


def test_two_bound_models_on_one_table_each_have_events(second: Any) -> None:
    """Marks are read as rows of one of them, and the hooks report to the other."""
    others = {**KEEPERS, "stream": "second", "model": "zoo.Second"}
    with marking(KEEPERS, others) as events:
        row = second.objects.create(name="a")
        row.save()
        second.objects.filter(pk=row.pk).update(name="b")
        row.delete()
    for stream in ("keepers", "second"):
        actions = [event.changes[0][1] for event in events if event.stream == stream]
        assert actions == ["create", "update", "update", "delete"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has schemas.")
def test_a_table_in_another_schema_is_reported() -> None:
    """Its name includes the schema, with quotes."""

    class Note(models.Model):
        text = models.CharField(max_length=20)

        class Meta:
            app_label = "zoo"
            db_table = '"archive"."note"'

    note: Any = Note
    notes = {"stream": "notes", "model": "zoo.Note", "fields": ["text"], "capture": "triggers"}
    run("CREATE SCHEMA archive")
    run("CREATE TABLE archive.note (id bigserial PRIMARY KEY, text varchar(20) NOT NULL)")
    try:
        with marking(notes) as events:
            assert [state.state for state in upkeep.load_states("default")] == ["installed"]
            row = note.objects.create(text="a")
            row.save()
            run("UPDATE archive.note SET text = 'b'")
            note.objects.all().delete()
        assert [event.changes[0][1] for event in events] == ["create", "update", "update", "delete"]
    finally:
        del apps.all_models["zoo"]["note"]
        apps.clear_cache()
