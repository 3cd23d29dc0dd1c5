"""The detector: writes to bound tables that leave no event are counted, with their places in the code."""

import threading

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet

from declbind.console import doctor, unseen
from declbind.models import UnseenWrite
from declbind.outbound import detector as detection
from declbind.outbound.triggers import upkeep
from declbind.registry import get_registry
from declbind.testing import override_bindings
from tests.captured_events import KEEPERS, uncaptured
from tests.zoo.models import Animal, Feather, Food, Herd, Keeper, Lorry, Truck

pytestmark = pytest.mark.django_db

MARKED = {**KEEPERS, "capture": "triggers"}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"]}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}


@pytest.fixture(autouse=True)
def detector(settings, monkeypatch):
    """Examine the statements of this test, and store the counts on request."""
    found = detection.Detector()
    monkeypatch.setattr(detection, "detector", found)
    # Its thread would conflict with the test's transaction.
    monkeypatch.setattr(found, "_run", lambda: None)
    settings.DECLBIND = {"DETECT_UNSEEN": True}
    yield found
    connection.execute_wrappers.clear()


def rename_by_sql(name="x"):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE zoo_keeper SET name = %s", [name])


def noticed():
    detection.detector.store()
    return [(row.table, row.verb, row.count) for row in UnseenWrite.objects.order_by("id")]


def test_raw_sql_is_detected_with_its_place():
    """The place is in the project, not in Django."""
    Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS):
        rename_by_sql()
        rename_by_sql()
        assert noticed() == [("zoo_keeper", "UPDATE", 2)]
    [row] = UnseenWrite.objects.all()
    assert row.location.startswith("tests/test_detector.py:")
    assert row.location.endswith("in rename_by_sql")


STATEMENTS = [
    "update zoo_keeper set retired = {true}",
    "DELETE FROM {quoted}",
    "  INSERT INTO zoo_keeper (name, retired) VALUES ('x', {true})",
    "/* report */ UPDATE zoo_keeper SET name = 'x'",
    "-- a report\nUPDATE zoo_keeper SET name = 'x'",
    "/* delete from zoo_animal */ UPDATE zoo_keeper SET name = 'delete from zoo_food' -- update zoo_truck",
    "WITH few AS (SELECT 1) UPDATE zoo_keeper SET name = 'x'",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_are_recognised_in_every_form(statement):
    """Comments, common table expressions, and any case are allowed."""
    if statement.startswith("WITH") and getattr(connection, "mysql_is_mariadb", False):
        pytest.skip("MariaDB has no WITH before an UPDATE")
    Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS), connection.cursor() as cursor:
        true = "true" if connection.vendor == "postgresql" else "1"
        cursor.execute(statement.format(true=true, quoted=connection.ops.quote_name("zoo_keeper")))
        assert [table for table, _, _ in noticed()] == ["zoo_keeper"]


def test_words_in_comments_texts_and_locks_are_no_writes():
    """A statement that only reads may mention such words."""
    locks = "FOR UPDATE" if connection.vendor != "sqlite" else ""
    with override_bindings(KEEPERS), connection.cursor() as cursor:
        cursor.execute(f"/* update zoo_keeper */ SELECT 'delete from zoo_keeper' FROM zoo_keeper {locks} -- zoo_keeper")
    assert noticed() == []


def test_captured_writes_are_not_detected():
    """Each way to write with the ORM, including parents' tables and lists."""
    with override_bindings(KEEPERS, TRUCKS, FED):
        ann = Keeper.objects.create(name="Ann")
        ann.save()
        Keeper.objects.update(name="x")
        Keeper.objects.bulk_create([Keeper(name="b")])
        Keeper.objects.bulk_create([Keeper(name="c")], ignore_conflicts=True)
        Keeper.objects.bulk_update([ann], ["name"])
        Keeper.objects.filter(name="b")._raw_delete("default")
        Keeper.objects.all().delete()
        truck = Truck.objects.create(plate="A")
        truck.save()
        truck.delete()
        Lorry.objects.create(plate="B").delete()
        owl = Animal.objects.create(name="Owl")
        owl.foods.add(Food.objects.create(name="hay"))
        owl.foods.clear()
        owl.delete()
        assert noticed() == []


def test_writes_without_the_hooks_are_detected():
    """Negative control: without the hooks, the writes of the previous test are counted."""
    with override_bindings(KEEPERS), uncaptured():
        ann = Keeper.objects.create(name="Ann")
        ann.save()
        QuerySet(Keeper).update(name="x")
        ann.delete()
        assert sorted(verb for _, verb, _ in noticed()) == ["DELETE", "INSERT", "UPDATE", "UPDATE"]


def test_unbound_tables_are_not_detected():
    """Unbound tables, reads, and statements that matched no row are not counted."""
    Keeper.objects.create(name="Ann")
    with override_bindings({"stream": "feathers", "model": "zoo.Feather", "fields": ["colour"]}):
        rename_by_sql()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'UPDATE zoo_feather' FROM zoo_keeper")
            cursor.execute("DELETE FROM zoo_feather")
        list(Feather.objects.all())
        Herd.objects.create(name="h")
        assert noticed() == []


def test_it_is_off_by_default(settings):
    """Without the setting, nothing is installed."""
    settings.DECLBIND = {}
    assert connection.execute_wrappers == []
    Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS):
        rename_by_sql()
        assert noticed() == []


@pytest.mark.needs_triggers
def test_writes_that_triggers_report_are_not_detected():
    """This holds as long as the triggers are installed."""
    Keeper.objects.create(name="Ann")
    with override_bindings(MARKED):
        upkeep.install("default")
        rename_by_sql()
        assert noticed() == []
        upkeep.remove("default")
        rename_by_sql()
        assert noticed() == [("zoo_keeper", "UPDATE", 1)]


def test_show_and_doctor_name_the_place():
    """They also say what to do, and the counts can be cleared."""
    Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS):
        rename_by_sql()
        assert noticed()
        gap = unseen.find_gaps(get_registry().by_stream["keepers"], "default")[0]
        assert gap.is_fault
        assert "UPDATE of table zoo_keeper at tests/test_detector.py" in gap.text
        assert "touch" in gap.action
        [finding] = [finding for finding in doctor._capture("default") if finding.level == "bad"]
        assert finding.meaning.startswith("keepers: not captured: UPDATE of table zoo_keeper")
        unseen.forget("default")
        assert [finding.level for finding in doctor._capture("default")] == ["ok"]


def test_an_error_of_the_detector_does_not_reach_the_application(monkeypatch, caplog):
    """The statement was executed, and the application gets its result."""
    Keeper.objects.create(name="Ann")
    monkeypatch.setattr(detection, "_location", lambda frame: 1 / 0)
    with override_bindings(KEEPERS):
        rename_by_sql("y")
    assert Keeper.objects.get().name == "y"
    assert "could not be examined" in caplog.text


def test_places_beyond_the_limit_are_counted_together(monkeypatch):
    """The number of remembered places is bounded."""
    monkeypatch.setattr(detection, "MAX_PLACES", 2)
    for number in range(4):
        detection.detector.note(detection.Place("t", "UPDATE", f"place {number}"))
    assert noticed() == [("t", "UPDATE", 1), ("t", "UPDATE", 1), ("t", "UPDATE", 2)]


@pytest.mark.django_db(transaction=True)
def test_counts_are_stored_outside_of_the_transaction(detector, monkeypatch):
    """A thread stores them, so they survive a rollback and do not disturb the writes."""
    monkeypatch.undo()
    stored = threading.Event()
    fresh = detection.Detector()
    monkeypatch.setattr(detection, "STORE_SECONDS", 0.01)
    store = fresh.store

    def store_and_tell():
        store()
        stored.set()

    def write_and_fail():
        with transaction.atomic():
            fresh.note(detection.Place("zoo_keeper", "UPDATE", "here"))
            raise ZeroDivisionError

    monkeypatch.setattr(fresh, "store", store_and_tell)
    with override_bindings(KEEPERS):
        with pytest.raises(ZeroDivisionError):
            write_and_fail()
        assert stored.wait(10)
    assert [row.location for row in UnseenWrite.objects.all()] == ["here"]
