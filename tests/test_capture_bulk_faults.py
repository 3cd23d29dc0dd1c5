"""Faults, concurrent writes and nested calls in the capture of bulk calls, and the need for each hook."""

from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection, transaction
from django.db.models.signals import m2m_changed

from declbind.core.frames import EVERY_GROUP
from declbind.outbound import batch, capture, lists, updates, writes
from tests.captured_events import ANIMALS, BY_NAME, FEATHERS, FED, KEEPERS, takes_target, uncaptured, watching
from tests.zoo.models import Animal, Country, Crate, Feather, Food, Keeper, Strict

pytestmark = pytest.mark.django_db


@pytest.fixture
def keepers():
    return Keeper.objects.bulk_create([Keeper(name=name) for name in ("Ann", "Bob", "Cy")])


def test_fault_in_capture_does_not_prevent_the_write(keepers, caplog):
    """The fault is logged, and clients get a resync."""
    with patch.object(batch, "groups_of", side_effect=ZeroDivisionError), watching(BY_NAME) as events:
        assert Keeper.objects.update(retired=True) == 3
    assert Keeper.objects.filter(retired=True).count() == 3
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]
    assert "on a change of zoo.keeper that could not be read" in caplog.text


def test_failed_update_leaves_the_next_one_captured(keepers):
    """The marker of a captured call ends with the call."""
    with watching(KEEPERS) as events:
        append = patch.object(updates._Update, "append", side_effect=ZeroDivisionError)
        with append, pytest.raises(ZeroDivisionError), transaction.atomic():
            Keeper.objects.bulk_update(keepers, ["name"])
        Keeper.objects.filter(name="Ann").update(retired=True)
    assert [event.pk for event in events] == [keepers[0].pk]


def test_rolled_back_calls_leave_no_event(keepers):
    """Both a rollback to a savepoint and of the whole transaction."""
    with watching(KEEPERS) as events, transaction.atomic():
        sid = transaction.get_connection().savepoint()
        Keeper.objects.update(retired=True)
        Keeper.objects.bulk_create([Keeper(name="Di")])
        transaction.savepoint_rollback(sid)
        Keeper.objects.filter(name="Ann").update(retired=True)
    assert [event.pk for event in events] == [keepers[0].pk]


def test_every_hook_is_needed(keepers):
    """Without any one hook a kind of write is missed."""
    owl = Animal.objects.create(name="Owl")
    writes = {
        "update": lambda: Keeper.objects.update(retired=True),
        "bulk_create": lambda: Keeper.objects.bulk_create([Keeper(name="Di")]),
        "_raw_delete": lambda: Keeper.objects.filter(name="Di")._raw_delete("default"),
        "delete": lambda: Keeper.objects.get(name="Ann").delete(),
        "_save_table": owl.save,
    }
    for name, write in writes.items():
        owner = next(owner for owner, hook, _ in capture.HOOKS if hook == name)
        with patch.object(owner, name, getattr(owner, name).__wrapped__), watching(KEEPERS, ANIMALS) as events:
            write()
        assert events == [], name


def test_rows_that_are_inserted_between_reading_and_writing_are_not_updated(django_db_blocker, keepers):
    """An update is limited to the rows that were read: another row would be written without an event."""
    if connection.vendor == "sqlite":
        # Nobody can write in between there: the whole table is locked.
        assert writes.only(Keeper.objects.all(), [1], "default").query.where.children == []
        return
    read = updates._Update.read

    def meddle(self, chosen):
        keys = read(self, chosen)
        with uncaptured():
            Keeper.objects.create(name="late")
        return keys

    with patch.object(updates._Update, "read", meddle), watching(KEEPERS) as events:
        assert Keeper.objects.update(retired=True) == 3
    assert len(events) == 3
    assert Keeper.objects.get(name="late").retired is False


@pytest.mark.parametrize("model", [Keeper, Country, Crate])
def test_many_keys_limit_an_update_like_few_keys(model):
    """This holds for each type of key. PostgreSQL gets one parameter of its own array type."""
    made = {Keeper: lambda n: Keeper(name="x"), Country: lambda n: Country(code=f"{n:02}"), Crate: lambda n: Crate()}
    count = 99 if model is Country else 1_200
    rows = model.objects.bulk_create([made[model](number) for number in range(count)])
    keys = [row.pk for row in rows][: count - 10]
    with patch.object(writes, "MAX_PLAIN_KEYS", 50):
        narrowed = writes.only(model.objects.all(), keys, "default")
    expected = count if connection.vendor == "sqlite" else len(keys)
    assert narrowed.count() == expected


def test_feathers_are_deleted_with_their_animal_in_bulk():
    """Cascades of a query set's delete are reported with their last data."""
    owl = Animal.objects.create(name="Owl")
    Feather.objects.bulk_create([Feather(animal=owl, colour=colour) for colour in "xy"])
    with watching(FEATHERS) as events:
        Animal.objects.all().delete()
    assert [(event.kind, event.data["colour"]) for event in events] == [("gone", "x"), ("gone", "y")]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="There the transaction has the only lock since it began.")
@takes_target
def test_upsert_that_conflicts_with_a_concurrent_row_resyncs_every_group():
    """A row that was committed after the search has unknown old groups."""
    Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
    upsert: Any = {"update_conflicts": True, "unique_fields": ["name"], "update_fields": ["poisonous"]}
    with watching(foods) as events, patch("declbind.outbound.inserts._met", return_value=[Food.objects.none()]):
        Food.objects.bulk_create([Food(name="hay", poisonous=True)], **upsert)
        Food.objects.bulk_create([Food(name="nuts")], **upsert)
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")], [("p-false", "create")]]


def test_set_of_a_list_is_one_change_of_each_row(keepers):
    """The event has the new list, from both sides; an unchanged list has none."""
    owl, eel = Animal.objects.create(name="Owl"), Animal.objects.create(name="Eel")
    hay, nuts, figs = (Food.objects.create(name=name) for name in ("hay", "nuts", "figs"))
    owl.foods.set([hay, nuts])
    with watching(FED) as events:
        owl.foods.set([nuts, figs])
        owl.foods.set([nuts, figs])
        owl.foods.set([figs, nuts], clear=True)
        owl.foods.set([hay], clear=True)
        hay.animal_set.set([eel])
    assert [(event.pk, event.data["foods"]) for event in events] == [
        (owl.pk, [nuts.pk, figs.pk]),
        (owl.pk, [hay.pk]),
        *sorted([(owl.pk, []), (eel.pk, [hay.pk])]),
    ]


def test_set_of_a_list_that_is_reported_in_parts_is_detected(keepers, monkeypatch):
    """Control: the parts of Django's `set`, each reported by itself."""
    monkeypatch.setattr(lists, "find_begun", lambda *args: None)
    with pytest.raises(AssertionError):
        test_set_of_a_list_is_one_change_of_each_row(keepers)


def test_nested_set_of_another_list_is_one_change(keepers):
    """A receiver may set a list of another model while the first list is being set."""
    owl, strict = Animal.objects.create(name="Owl"), Strict.objects.create(title="a", number=1, flag=True)
    hay, nuts = (Food.objects.create(name=name) for name in ("hay", "nuts"))
    owl.foods.set([hay])
    strict.foods.set([hay])

    def follow(action, **kwargs):
        if action == "post_add":
            strict.foods.set([nuts])

    m2m_changed.connect(follow, sender=Animal.foods.through)
    others = {"stream": "strict", "model": "zoo.Strict", "fields": ["foods"]}
    try:
        with watching(FED, others) as events:
            owl.foods.set([nuts])
    finally:
        m2m_changed.disconnect(follow, sender=Animal.foods.through)
    assert [(event.stream, event.data["foods"]) for event in events] == [("strict", [nuts.pk]), ("fed", [nuts.pk])]


def test_failed_set_leaves_the_next_write_captured(keepers):
    """The collected changes are dropped at the end of the call."""
    owl, hay = Animal.objects.create(name="Owl"), Food.objects.create(name="hay")
    with watching(FED) as events:
        with pytest.raises(ValueError, match="nobody"), transaction.atomic():
            owl.foods.set(["nobody"])  # type: ignore[list-item]
        owl.foods.add(hay)
    assert [(event.pk, event.data["foods"]) for event in events] == [(owl.pk, [hay.pk])]
