"""Capture of what query sets write: `update`, `_raw_delete`, through rows, and inherited tables."""

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat, Upper
from django.test.utils import CaptureQueriesContext

from declbind.core.frames import EVERY_GROUP
from tests.captured_events import (
    BY_KEEPER,
    BY_NAME,
    FED,
    KEEPERS,
    TRUCKS,
    VEHICLES,
    actions,
    changes,
    takes_target,
    uncaptured,
    watching,
)
from tests.zoo.models import Animal, Bear, Country, Food, Herd, Keeper, Lorry, Membership, Truck, Vehicle

pytestmark = pytest.mark.django_db
LORRIES = {"stream": "lorries", "model": "zoo.Lorry", "fields": ["plate", "load", "trailers"]}
HERDS = {"stream": "herds", "model": "zoo.Herd", "fields": ["name", "members", "neighbours"]}


@pytest.fixture
def keepers():
    return Keeper.objects.bulk_create([Keeper(name=name) for name in ("Ann", "Bob", "Cy")])


# update ---------------------------------------------------------------------------------------------------------------


def test_update_announces_each_row_as_stored(keepers):
    """The database evaluates an expression, and the result is sent."""
    with watching(KEEPERS) as events:
        count = Keeper.objects.exclude(name="Cy").update(name=Concat(Upper("name"), Value("!")))
    assert count == 2
    assert changes(events) == [("keepers", keeper.pk, [("keepers", "update")]) for keeper in keepers[:2]]
    assert [event.data["name"] for event in events] == ["ANN!", "BOB!"]


def test_update_moves_rows_between_groups(keepers):
    """Old groups are those of the stored rows, whatever the condition of the update."""
    with watching(BY_NAME) as events:
        Keeper.objects.filter(retired=False, name__gt="A").update(retired=True)
        Keeper.objects.filter(name="Ann").update(name="Anne")
    moved = [("retired-false", "delete"), ("retired-true", "create")]
    assert [event.changes for event in events] == [moved] * 3 + [[("retired-true", "update")]]


def test_update_with_joins_and_an_annotation(keepers):
    """Other tables may select the rows, and annotations may give the values."""
    Animal.objects.create(name="Owl", keeper=keepers[0])
    with watching(KEEPERS) as events:
        Keeper.objects.filter(animal__name="Owl").annotate(twice=Concat("name", "name")).update(name=F("twice"))
        Keeper.objects.distinct().filter(animal__name="Owl").update(retired=True)
    assert [(event.pk, event.data["name"]) for event in events] == [(keepers[0].pk, "AnnAnn")] * 2


def test_update_of_no_rows_leaves_no_event(keepers):
    """The count is zero."""
    with watching(KEEPERS) as events:
        assert Keeper.objects.filter(name="Nobody").update(retired=True) == 0
        assert Keeper.objects.none().update(retired=True) == 0
    assert events == []


def test_update_that_django_refuses_raises_what_django_raises(keepers):
    """A hook runs before Django's check, and must not change the error."""
    faulty = [
        lambda rows: rows.update(nothing=1),
        lambda rows: rows[:1].update(retired=True),
        lambda rows: rows.union(rows).update(retired=True),
        lambda rows: rows.update(name=F("nothing")),
        lambda rows: rows.bulk_update([Keeper(name="x")], ["name"]),
        lambda rows: rows.bulk_update(keepers, ["nothing"]),
        lambda rows: rows.bulk_update(keepers, []),
        lambda rows: rows.bulk_create([Keeper(name="x")], batch_size=-1),
        lambda rows: rows.bulk_create([Keeper(name="x")], ignore_conflicts=True, update_conflicts=True),
    ]
    for call in faulty:
        with uncaptured(), pytest.raises(Exception) as plain:  # noqa: PT011 - whichever it is, the hook must not change it
            call(Keeper.objects.all())
        with watching(KEEPERS) as events, pytest.raises(type(plain.value)) as hooked, transaction.atomic():
            call(Keeper.objects.all())
        assert str(hooked.value) == str(plain.value)
        assert events == []


def test_update_leaves_the_query_set_unchanged(keepers):
    """Its cache is dropped, and its conditions stay."""
    rows = Keeper.objects.filter(name="Ann")
    assert [row.retired for row in rows] == [False]
    with watching(KEEPERS):
        rows.update(retired=True)
    assert [row.retired for row in rows] == [True]


def test_update_of_a_key_resyncs_every_group(keepers):
    """A row cannot be followed to its new key, so every group gets a resync."""
    Country.objects.create(code="at", name="Austria")
    with watching({"stream": "c", "model": "zoo.Country", "fields": ["name"], "groups": ["n-{name}"]}) as events:
        Country.objects.filter(code="at").update(code="AT")
    assert changes(events) == [("c", None, [(EVERY_GROUP, "resync")])]


def test_the_async_variants_are_captured(keepers):
    """They call the same methods, in another thread."""

    async def write():
        await Keeper.objects.filter(name="Ann").aupdate(retired=True)
        await Keeper.objects.abulk_create([Keeper(name="Di")])
        await Keeper.objects.abulk_update(keepers[1:2], ["name"])
        await Keeper.objects.filter(name="Di").adelete()

    with watching(KEEPERS) as events:
        async_to_sync(write)()
    assert [event.changes[0][1] for event in events] == ["update", "create", "update", "delete"]


def test_related_managers_write_in_bulk(keepers):
    """`add`, `remove`, `clear` and `set` of a reverse foreign key are updates."""
    ann, bob, _ = keepers
    owl, eel = Animal.objects.create(name="Owl", keeper=ann), Animal.objects.create(name="Eel")
    with watching(BY_KEEPER) as events:
        ann.animal_set.add(eel)
        ann.animal_set.remove(owl)
        bob.animal_set.set([owl])
        bob.animal_set.clear()
    groups = [event.changes for event in events]
    a, b = f"keeper-{ann.pk}", f"keeper-{bob.pk}"
    assert groups == [[(a, "create")], [(a, "delete")], [(b, "create")], [(b, "delete")]]


def test_row_that_its_manager_hides_is_hidden_from_clients():
    """It does not matter how the base manager comes to hide it."""
    bear = Bear.awake.create(name="Bo", den=1)
    with watching({"stream": "b", "model": "zoo.Bear", "fields": ["name"], "groups": ["den-{den}"]}) as events:
        all_bears: QuerySet[Bear] = QuerySet(Bear)
        all_bears.update(asleep=True)
        all_bears.update(den=2)
        all_bears.update(asleep=False)
    assert changes(events) == [("b", bear.pk, [("den-1", "delete")]), ("b", bear.pk, [("den-2", "create")])]


def test_row_that_its_manager_hides_leaves_a_constant_group():
    """Hidden rows leave a group that no row leaves by its columns, one by one or many at once."""
    bears = [Bear.awake.create(name=name) for name in "abc"]
    all_bears: QuerySet[Bear] = QuerySet(Bear)
    with watching({"stream": "b", "model": "zoo.Bear", "fields": ["name"]}) as events:
        all_bears.filter(name="a").update(asleep=True)
        bears[1].asleep = True
        Bear.awake.bulk_update(bears[1:2], ["asleep"])
    assert changes(events) == [("b", bear.pk, [("b", "delete")]) for bear in bears[:2]]


# _raw_delete ----------------------------------------------------------------------------------------------------------


def test_raw_delete_is_captured(keepers):
    """Every caller is captured; Django's own collector is captured once."""
    with watching(KEEPERS) as events:
        Keeper.objects.filter(name="Ann")._raw_delete("default")
        Keeper.objects.filter(name="Bob").delete()
    assert [(event.kind, event.data["name"]) for event in events] == [("gone", "Ann"), ("gone", "Bob")]


def test_set_null_by_a_delete_is_reported_once(keepers):
    """The update of a query set by a collector is captured with the collector."""
    ann = keepers[0]
    owl = Animal.objects.create(name="Owl", keeper=ann)
    group = f"keeper-{ann.pk}"
    with watching(BY_KEEPER) as events:
        ann.delete()
    assert changes(events) == [("animals", owl.pk, [(group, "delete")])]


# Through rows ---------------------------------------------------------------------------------------------------------


def test_through_rows_changed_in_bulk_change_lists(keepers):
    """Both the row that loses a member and the one that gains it are reported."""
    owl, eel = Animal.objects.create(name="Owl"), Animal.objects.create(name="Eel")
    one, two = Herd.objects.create(name="one"), Herd.objects.create(name="two")
    member = Membership.objects.create(herd=one, animal=owl)
    with watching(HERDS) as events:
        Membership.objects.update(herd=two)
        member.animal, member.herd = eel, two
        Membership.objects.bulk_update([member], ["animal"])
        Membership.objects.all()._raw_delete("default")
    lists = [(event.pk, event.data["members"]) for event in events]
    assert lists == [(one.pk, []), (two.pk, [owl.pk]), (two.pk, [eel.pk]), (two.pk, [])]


def test_lists_of_many_rows_are_read_by_one_query(keepers):
    """A hundred rows with lists take as many statements as one."""
    foods = [Food.objects.create(name=name) for name in ("hay", "nuts")]

    def statements(count):
        Animal.objects.all().delete()
        animals = [Animal.objects.create(name=f"a{number}") for number in range(count)]
        for animal in animals:
            animal.foods.set(foods)
        with watching(FED) as events, CaptureQueriesContext(connection) as captured:
            Animal.objects.update(legs=3)
        assert [event.data["foods"] for event in events] == [[food.pk for food in foods]] * count
        return len(captured)

    assert statements(100) == statements(2)


# Inheritance ----------------------------------------------------------------------------------------------------------


def test_update_of_a_childs_columns_is_reported_by_bindings_that_send_them():
    """The parent's binding reports its own columns; a grandchild's reports all inherited ones."""
    lorry = Lorry.objects.create(plate="A")
    truck = Truck.objects.create(plate="B")
    with watching(VEHICLES, TRUCKS, LORRIES) as events:
        Truck.objects.update(load=5)
    assert actions(events) == [
        ("trucks", lorry.pk, ["update"]),
        ("trucks", truck.pk, ["update"]),
        ("lorries", lorry.pk, ["update"]),
    ]
    with watching(VEHICLES, TRUCKS, LORRIES) as events:
        Truck.objects.filter(pk=lorry.pk).update(plate="C", load=6)
    assert sorted(actions(events)) == [(stream, lorry.pk, ["update"]) for stream in ("lorries", "trucks", "vehicles")]
    assert {event.data["plate"] for event in events} == {"C"}


def test_update_of_a_parent_moves_the_childs_row():
    """A child's groups may depend on a parent's column."""
    truck = Truck.objects.create(plate="A")
    Vehicle.objects.create(plate="B")
    by_plate = {**TRUCKS, "groups": ["p-{plate}"]}
    with watching(by_plate) as events:
        Vehicle.objects.filter(plate="A").update(plate="Z")
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-Z", "create")])]


def test_save_of_a_parent_instance_is_reported_by_the_childs_binding():
    """The child's row changes with it, including its groups."""
    lorry = Lorry.objects.create(plate="A")
    by_plate = {**LORRIES, "groups": ["p-{plate}"]}
    with watching(by_plate) as events:
        vehicle = Vehicle.objects.get(pk=lorry.pk)
        vehicle.plate = "B"
        vehicle.save()
        truck = Truck.objects.get(pk=lorry.pk)
        truck.plate = "C"
        truck.save()
        truck.save(update_fields=["plate"])
        Vehicle.objects.create(plate="D")
    moved = [[(f"p-{old}", "delete"), (f"p-{new}", "create")] for old, new in ("AB", "BC")]
    assert [event.changes for event in events] == [*moved, [("p-C", "update")]]


@takes_target
def test_upsert_of_parents_is_reported_by_the_childs_binding():
    """The conflicting parent's row may be a child's, and the child's groups then depend on the stored row."""
    truck = Truck.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        rows = [Vehicle(pk=truck.pk, plate="B"), Vehicle(plate="C")]
        Vehicle.objects.bulk_create(rows, update_conflicts=True, unique_fields=["pk"], update_fields=["plate"])
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-B", "create")])]
