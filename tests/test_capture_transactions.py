"""Captured events and transactions, fixtures, `touch()`, and writes to another database."""

import contextlib
import json
from typing import Any

import pytest
from django.core import serializers
from django.db import IntegrityError, connection, transaction
from django.db.models.deletion import Collector

import declbind
from declbind.models import Event
from declbind.outbound import deletes, places, saves
from declbind.testing import override_bindings
from tests.captured_events import KEEPERS, changes, watching
from tests.zoo.models import Feather, Food, Keeper

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def foods():
    return [Food.objects.create(name=name) for name in ("hay", "fish", "nuts")]


# Transactions ---------------------------------------------------------------------------------------------------------


def test_rolled_back_savepoint_leaves_no_event():
    """Writes around the savepoint are kept."""
    with watching(KEEPERS) as events, transaction.atomic():
        Keeper.objects.create(name="Ann")
        with contextlib.suppress(LookupError), transaction.atomic():
            Keeper.objects.create(name="Bob")
            raise LookupError
        Keeper.objects.create(name="Cid")
    assert [event.data["name"] for event in events] == ["Ann", "Cid"]


@pytest.mark.django_db(transaction=True)
def test_write_that_the_database_refuses_in_autocommit_leaves_no_event():
    """An error of the write itself ends the transaction that capture opened."""
    Food.objects.create(name="hay")
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
        with pytest.raises(IntegrityError):
            Food.objects.create(name="hay")
        Food.objects.create(name="fish")
    assert [event.data["name"] for event in events] == ["fish"]
    assert not connection.in_atomic_block


@pytest.mark.django_db(transaction=True)
def test_caught_error_behaves_as_without_declbind():
    """A unique violation inside ``atomic`` can be caught outside of it, and the transaction continues."""
    Food.objects.create(name="hay")
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events, transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Food.objects.create(name="hay")
        Food.objects.create(name="fish")
    assert [event.data["name"] for event in events] == ["fish"]


@pytest.mark.django_db(transaction=True)
def test_save_in_autocommit_is_committed_when_it_returns(keeper):
    """Capture leaves no transaction open."""
    with watching(KEEPERS) as events:
        keeper.save()
        assert not connection.in_atomic_block
        assert Event.objects.count() == 1
    assert len(events) == 1


# Fixtures -------------------------------------------------------------------------------------------------------------


def load_fixture(*rows):
    for loaded in serializers.deserialize("json", json.dumps(rows)):
        loaded.save()


def test_loaded_fixture_is_captured():
    """Rows that ``loaddata`` writes are announced like any write: created, then updated by loading again."""
    row = {"model": "zoo.keeper", "pk": 5, "fields": {"name": "Ann", "retired": False}}
    with watching(KEEPERS) as events:
        load_fixture(row)
        load_fixture({**row, "fields": {"name": "Bob", "retired": True}})
    assert changes(events) == [("keepers", 5, [("keepers", "create")]), ("keepers", 5, [("keepers", "update")])]
    assert events[1].data == {"name": "Bob", "retired": True}


def test_loaded_fixture_moves_rows_between_groups(keeper):
    """The group diff applies to fixtures too."""
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        load_fixture({"model": "zoo.keeper", "pk": keeper.pk, "fields": {"name": "Bob"}})
    assert events[0].changes == [("n-Ann", "delete"), ("n-Bob", "create")]


def test_setting_turns_capture_of_fixtures_off(settings):
    """A project that loads a million rows may not want a million events."""
    settings.DECLBIND = {"CAPTURE_RAW": False}
    with watching(KEEPERS) as events:
        load_fixture({"model": "zoo.keeper", "pk": 5, "fields": {"name": "Ann"}})
        Keeper.objects.create(name="Bob")
    assert [event.data["name"] for event in events] == ["Bob"]


def test_loaded_child_has_its_parents_fields():
    """A fixture holds a parent and its child as two rows; the child's event has the fields of both."""
    with watching({"stream": "t", "model": "zoo.Truck", "fields": ["plate", "load"]}) as events:
        load_fixture(
            {"model": "zoo.vehicle", "pk": 5, "fields": {"plate": "X"}},
            {"model": "zoo.truck", "pk": 5, "fields": {"load": 3}},
        )
    assert [(event.pk, event.data) for event in events] == [(5, {"plate": "X", "load": 3})]


# touch() --------------------------------------------------------------------------------------------------------------


def test_touch_announces_rows_that_no_hook_saw(keeper):
    """The rows of a query set or a list of instances are announced as if each had been saved unchanged."""
    bob = Keeper.objects.create(name="Bob")
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        assert declbind.touch(Keeper.objects.order_by("pk")) == 2
        assert declbind.touch([bob]) == 1
        assert declbind.touch([]) == 0
        assert declbind.touch([Keeper(name="unsaved")]) == 0
        assert declbind.touch(Food.objects.all()) == 0
    assert changes(events) == [
        ("keepers", pk, [(f"n-{name}", "update")])
        for pk, name in ((keeper.pk, "Ann"), (bob.pk, "Bob"), (bob.pk, "Bob"))
    ]


def test_touch_sends_what_is_stored(keeper):
    """For a changed, unsaved instance, the stored row is announced."""
    with watching(KEEPERS) as events:
        keeper.name = "Not stored"
        declbind.touch([keeper])
    assert events[0].data["name"] == "Ann"


# Another database -----------------------------------------------------------------------------------------------------


def test_writes_to_another_database_are_logged_once(keeper, caplog, monkeypatch):
    """A write of a bound model to another database than the log's is logged once, and succeeds."""
    monkeypatch.setattr(places, "_reported", set())
    written = []

    def write(self, raw, cls, *args):
        written.append(cls)
        return True

    save = saves.capture_save_table(write)
    with override_bindings(KEEPERS):
        for _ in range(2):
            assert save(keeper, cls=Keeper, using="elsewhere") is True
        assert save(Feather(), cls=Feather, using="elsewhere") is True
    assert written == [Keeper, Keeper, Feather]
    [record] = caplog.records
    assert record.getMessage() == (
        "Writes of zoo.Keeper to database 'elsewhere' are not captured: the log is in 'default', and an event is "
        "stored in the transaction of its write. Bound by: 'keepers'. Write to 'default', or route declbind's models "
        "to the database of the bound ones."
    )


def test_deletes_in_another_database_are_logged(keeper, caplog, monkeypatch):
    """Deletes are writes too."""
    monkeypatch.setattr(places, "_reported", set())
    collector: Any = Collector(using="elsewhere")
    collector.add([keeper])
    with override_bindings(KEEPERS):
        deletes.capture_delete(lambda collector: None)(collector)
    assert "zoo.Keeper to database 'elsewhere'" in caplog.text
