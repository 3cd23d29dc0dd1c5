"""Capture of deletes: instances, query sets, cascades and `SET_NULL`."""

import pytest
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Count
from django.db.models.deletion import Collector
from django.db.models.signals import pre_delete

from tests.captured_events import ANIMALS, BY_KEEPER, FEATHERS, KEEPERS, changes, watching
from tests.zoo.models import Animal, Cage, Feather, Food, Keeper

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def animal(keeper):
    return Animal.objects.create(name="Owl", keeper=keeper)


@pytest.mark.parametrize(
    "delete",
    [
        lambda pk: Keeper.objects.get(pk=pk).delete(),
        lambda pk: Keeper.objects.filter(pk=pk).delete(),
        lambda pk: Keeper.objects.only("pk").get(pk=pk).delete(),
        lambda pk: Keeper(pk=pk, name="not stored").delete(),
    ],
    ids=["instance", "query set", "deferred", "unloaded"],
)
def test_delete_sends_the_last_stored_data(keeper, delete):
    """Data and groups are those of the row, whichever way it was deleted."""
    pk = keeper.pk
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        delete(pk)
    assert changes(events) == [("keepers", pk, [("n-Ann", "delete")])]
    assert events[0].data == {"name": "Ann", "retired": False}


def test_deleting_a_missing_row_leaves_no_event(keeper):
    """Without a row there is no event."""
    with watching(KEEPERS) as events:
        Keeper.objects.filter(pk=keeper.pk + 1).delete()
        Keeper(pk=keeper.pk + 1).delete()
    assert events == []


def test_fast_delete_of_a_query_set_reports_each_row():
    """Rows that Django deletes in one statement, without loading them, each have an event."""
    for name in "abc":
        Food.objects.create(name=name)
    with watching({"stream": "f", "model": "zoo.Feather", "fields": ["colour"]}) as events:
        owner = Animal.objects.create(name="Owl")
        for colour in "xyz":
            Feather.objects.create(animal=owner, colour=colour)
        Feather.objects.exclude(colour="x").delete()
    assert sorted(event.data["colour"] for event in events if event.kind == "gone") == ["y", "z"]


def test_query_set_with_an_aggregate_can_be_deleted(animal):
    """Rows selected by an aggregate cannot be locked in one query; they are announced anyway."""
    Feather.objects.create(animal=animal, colour="grey")
    with watching(FEATHERS, {**KEEPERS, "groups": ["n-{name}"]}) as events:
        Keeper.objects.create(name="Idle")
        Keeper.objects.annotate(n=Count("animal")).filter(n=0).delete()
        Feather.objects.annotate(n=Count("animal__foods")).filter(n=0).delete()
        assert set(Keeper.objects.values_list("name", flat=True)) == {"Ann"}
    assert [(event.stream, event.kind) for event in events] == [
        ("keepers", "row"),
        ("keepers", "gone"),
        ("feathers", "gone"),
    ]


def test_cascaded_rows_are_reported(animal):
    """A cascaded delete of a child is reported to the child's binding, also for fast deletes."""
    Feather.objects.create(animal=animal, colour="grey")
    pk = animal.pk
    with watching(FEATHERS, ANIMALS) as events:
        animal.delete()
    assert sorted((event.stream, event.kind) for event in events) == [("animals", "gone"), ("feathers", "gone")]
    assert {event.data.get("animal") for event in events} == {None, pk}


def test_set_null_is_an_update_of_the_row_that_stays(animal, keeper):
    """A row that loses its keeper is sent as it is now, and leaves the keeper's group."""
    pk = keeper.pk
    with watching({**ANIMALS, "fields": ["name", "keeper"]}, {**BY_KEEPER, "stream": "kept"}) as events:
        keeper.delete()
    assert changes(events) == [
        ("animals", animal.pk, [("animals", "update")]), ("kept", animal.pk, [(f"keeper-{pk}", "delete")]),
    ]  # fmt: skip
    assert [event.data for event in events] == [{"name": "Owl", "keeper": None}, {}]


def test_row_that_is_set_null_and_deleted_in_one_go_is_only_deleted(animal, keeper):
    """A deleted row is not reported as updated first."""
    animal.owner = User.objects.create(username="ann")
    animal.save()
    collector = Collector(using="default")
    collector.collect([animal.owner])
    collector.collect([keeper])
    with watching(ANIMALS) as events:
        collector.delete()
    assert [event.kind for event in events] == ["gone"]


def test_protected_row_stays_and_is_not_announced(animal):
    """A deletion that Django refuses leaves no event."""
    Cage.objects.create(animal=animal)
    with watching(ANIMALS) as events, pytest.raises(models.ProtectedError):
        animal.delete()
    assert events == []


def test_thousands_of_rows_can_be_deleted_at_once(settings):
    """The limit on a statement's parameters must not affect the host."""
    settings.DECLBIND = {"BULK_LIMIT": 10_000}
    Keeper.objects.bulk_create([Keeper(name=f"k{number}") for number in range(4_000)])
    with watching(KEEPERS) as events:
        Keeper.objects.all().delete()
    assert len(events) == 4_000
    assert Keeper.objects.count() == 0


def test_write_of_a_pre_delete_receiver_is_reported_first(animal):
    """A receiver's write before the delete is reported first."""

    def write(instance, **kwargs):
        Food.objects.create(name="last meal")

    pre_delete.connect(write, sender=Animal)
    try:
        with watching(ANIMALS, {"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
            animal.delete()
    finally:
        pre_delete.disconnect(write, sender=Animal)
    assert [event.stream for event in events] == ["foods", "animals"]


@pytest.fixture
def foods():
    return [Food.objects.create(name=name) for name in ("hay", "fish", "nuts")]
