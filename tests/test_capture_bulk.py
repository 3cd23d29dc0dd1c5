"""Capture of what query sets write: `update`, `bulk_create`, `bulk_update`, `_raw_delete`; calls above the limit."""

import contextlib
from typing import Any
from unittest.mock import patch

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat, Upper
from django.test.utils import CaptureQueriesContext

import declbind
from declbind.core.frames import EVERY_GROUP
from declbind.models import Event
from declbind.outbound import batch, capture, lists, updates, writes
from declbind.testing import Client, override_bindings
from tests.live import since_of
from tests.test_capture import (
    ANIMALS,
    BY_KEEPER,
    FEATHERS,
    FED,
    KEEPERS,
    TRUCKS,
    VEHICLES,
    actions,
    changes,
    uncaptured,
    watching,
)
from tests.zoo.models import (
    Animal,
    Bear,
    Country,
    Crate,
    Feather,
    Food,
    Herd,
    Keeper,
    Lorry,
    Membership,
    Truck,
    Vehicle,
)

pytestmark = pytest.mark.django_db

BY_NAME = {**KEEPERS, "groups": ["retired-{retired}"]}
LORRIES = {"stream": "lorries", "model": "zoo.Lorry", "fields": ["plate", "load", "trailers"]}
HERDS = {"stream": "herds", "model": "zoo.Herd", "fields": ["name", "members", "neighbours"]}


takes_target = pytest.mark.skipif(
    not connection.features.supports_update_conflicts_with_target, reason="MySQL and MariaDB take no conflict target."
)


@pytest.fixture
def keepers():
    return Keeper.objects.bulk_create([Keeper(name=name) for name in ("Ann", "Bob", "Cy")])


# update -------------------------------------------------------------------------------------------------------------


def test_update_announces_each_row_as_stored(keepers):
    """An expression is worked out by the database; what it came to is sent."""
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


def test_update_by_a_slice_of_joins_and_an_annotation(keepers):
    """The rows may be chosen by other tables, and the values by annotations."""
    Animal.objects.create(name="Owl", keeper=keepers[0])
    with watching(KEEPERS) as events:
        Keeper.objects.filter(animal__name="Owl").annotate(twice=Concat("name", "name")).update(name=F("twice"))
        Keeper.objects.distinct().filter(animal__name="Owl").update(retired=True)
    assert [(event.pk, event.data["name"]) for event in events] == [(keepers[0].pk, "AnnAnn")] * 2


def test_update_of_nothing_is_silent(keepers):
    """Neither rows nor events, and the count is zero."""
    with watching(KEEPERS) as events:
        assert Keeper.objects.filter(name="Nobody").update(retired=True) == 0
        assert Keeper.objects.none().update(retired=True) == 0
    assert events == []


def test_update_that_django_refuses_raises_what_django_raises(keepers):
    """A hook asks before Django does, and must not word the answer."""
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


def test_update_keeps_the_query_set_as_it_was(keepers):
    """Its cache is dropped, its conditions stay."""
    rows = Keeper.objects.filter(name="Ann")
    assert [row.retired for row in rows] == [False]
    with watching(KEEPERS):
        rows.update(retired=True)
    assert [row.retired for row in rows] == [True]


def test_update_of_a_key_tells_every_group(keepers):
    """Nobody can follow a row to its new key, so all take a snapshot."""
    Country.objects.create(code="at", name="Austria")
    with watching({"stream": "c", "model": "zoo.Country", "fields": ["name"], "groups": ["n-{name}"]}) as events:
        Country.objects.filter(code="at").update(code="AT")
    assert changes(events) == [("c", None, [(EVERY_GROUP, "resync")])]


def test_the_async_twins_are_heard(keepers):
    """They end in the same methods, in another thread."""

    async def write():
        await Keeper.objects.filter(name="Ann").aupdate(retired=True)
        await Keeper.objects.abulk_create([Keeper(name="Di")])
        await Keeper.objects.abulk_update(keepers[1:2], ["name"])
        await Keeper.objects.filter(name="Di").adelete()

    with watching(KEEPERS) as events:
        async_to_sync(write)()
    assert [event.changes[0][1] for event in events] == ["update", "create", "update", "delete"]


def test_related_managers_write_in_bulk(keepers):
    """`add`, `remove`, `clear` and `set` of a foreign key's other side are updates."""
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


def test_row_that_its_manager_hides_and_shows():
    """What the base manager does not show is out of sight for clients, whichever way it got there."""
    bear = Bear.awake.create(name="Bo", den=1)
    with watching({"stream": "b", "model": "zoo.Bear", "fields": ["name"], "groups": ["den-{den}"]}) as events:
        all_bears: QuerySet[Bear] = QuerySet(Bear)
        all_bears.update(asleep=True)
        all_bears.update(den=2)
        all_bears.update(asleep=False)
    assert changes(events) == [("b", bear.pk, [("den-1", "delete")]), ("b", bear.pk, [("den-2", "create")])]


def test_row_that_its_manager_hides_goes_out_of_a_constant_group():
    """A group that no row leaves by its columns is left by rows that are hidden, one by one or many at once."""
    bears = [Bear.awake.create(name=name) for name in "abc"]
    all_bears: QuerySet[Bear] = QuerySet(Bear)
    with watching({"stream": "b", "model": "zoo.Bear", "fields": ["name"]}) as events:
        all_bears.filter(name="a").update(asleep=True)
        bears[1].asleep = True
        Bear.awake.bulk_update(bears[1:2], ["asleep"])
    assert changes(events) == [("b", bear.pk, [("b", "delete")]) for bear in bears[:2]]


# bulk_create --------------------------------------------------------------------------------------------------------


def test_bulk_create_announces_each_row():
    """Data as stored: defaults, expressions and what the database made of the values."""
    with watching(KEEPERS) as events:
        rows = Keeper.objects.bulk_create([Keeper(name="Ann"), Keeper(name=Upper(Value("bob")))], batch_size=1)
    assert changes(events) == [("keepers", row.pk, [("keepers", "create")]) for row in rows]
    assert [event.data for event in events] == [{"name": "Ann", "retired": False}, {"name": "BOB", "retired": False}]


def test_bulk_create_with_given_keys_of_another_type():
    """A key may be given as text; the row's own is sent."""
    with watching(KEEPERS) as events:
        Keeper.objects.bulk_create([Keeper(pk="71", name="Ann")])
    assert [event.pk for event in events] == [71]


def test_bulk_create_that_ignores_conflicts_announces_what_came():
    """Who was there already is not announced, whether or not keys are known."""
    Food.objects.create(name="hay")
    taken = Crate.objects.create(label="old")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"]}
    crates = {"stream": "crates", "model": "zoo.Crate", "fields": ["label"]}
    with watching(foods, crates) as events:
        Food.objects.bulk_create([Food(name="hay"), Food(name="nuts")], ignore_conflicts=True)
        Crate.objects.bulk_create([Crate(pk=taken.pk, label="x"), Crate(label="new")], ignore_conflicts=True)
    assert [(event.stream, event.changes, event.data) for event in events] == [
        ("foods", [("foods", "create")], {"name": "nuts"}),
        ("crates", [("crates", "create")], {"label": "new"}),
    ]
    assert events[0].pk == Food.objects.get(name="nuts").pk


@takes_target
def test_bulk_create_that_updates_conflicts_tells_old_from_new():
    """A row that was there is updated, and leaves the groups that it was in."""
    hay = Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
    with watching(foods) as events:
        Food.objects.bulk_create(
            [Food(name="hay", poisonous=True), Food(name="nuts")],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["poisonous"],
        )
    nuts = Food.objects.get(name="nuts")
    assert {event.pk: event.changes for event in events} == {
        hay.pk: [("p-false", "delete"), ("p-true", "create")],
        nuts.pk: [("p-false", "create")],
    }


@takes_target
def test_upsert_by_several_columns():
    """The pair of values is what meets, not one of them."""
    old = Animal.objects.create(name="Owl", kind="bird")
    Animal.objects.create(name="Owl", kind="fish", legs=0)
    rows = [Animal(name="Owl", kind="bird", slug="a", legs=3), Animal(name="Eel", kind="fish", slug="b", legs=0)]
    with watching(ANIMALS) as events:
        Animal.objects.bulk_create(rows, update_conflicts=True, unique_fields=["name", "kind"], update_fields=["legs"])
    eel = Animal.objects.get(name="Eel")
    assert sorted(actions(events)) == sorted([("animals", old.pk, ["update"]), ("animals", eel.pk, ["create"])])


@takes_target
def test_upsert_whose_rows_cannot_be_found_beforehand_tells_every_group():
    """Values that only the database knows meet whichever row they meet."""
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
        Food.objects.bulk_create(
            [Food(name=Upper(Value("hay")))],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["poisonous"],
        )
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


@pytest.mark.skipif(connection.features.supports_update_conflicts_with_target, reason="Django demands a target.")
def test_upsert_without_a_target_tells_every_group():
    """Any unique index may have met a row, and no database says which rows were there."""
    Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
    with watching(foods) as events:
        rows = [Food(name="hay", poisonous=True), Food(name="nuts")]
        Food.objects.bulk_create(rows, update_conflicts=True, update_fields=["poisonous"])
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


# bulk_update --------------------------------------------------------------------------------------------------------


def test_bulk_update_announces_each_row_once(keepers):
    """However many statements it takes, and only rows of the query set."""
    for keeper in keepers:
        keeper.retired = True
    with watching(BY_NAME) as events:
        assert Keeper.objects.exclude(name="Cy").bulk_update(keepers, ["retired"], batch_size=1) == 2
    assert [(event.pk, event.changes) for event in events] == [
        (keeper.pk, [("retired-false", "delete"), ("retired-true", "create")]) for keeper in keepers[:2]
    ]


# _raw_delete --------------------------------------------------------------------------------------------------------


def test_raw_delete_is_heard(keepers):
    """By whoever calls it; Django's own collector is heard once."""
    with watching(KEEPERS) as events:
        Keeper.objects.filter(name="Ann")._raw_delete("default")
        Keeper.objects.filter(name="Bob").delete()
    assert [(event.kind, event.data["name"]) for event in events] == [("gone", "Ann"), ("gone", "Bob")]


def test_set_null_by_a_delete_is_heard_once(keepers):
    """The update that a collector makes of a query set is captured with the collector."""
    ann = keepers[0]
    owl = Animal.objects.create(name="Owl", keeper=ann)
    group = f"keeper-{ann.pk}"
    with watching(BY_KEEPER) as events:
        ann.delete()
    assert changes(events) == [("animals", owl.pk, [(group, "delete")])]


# through rows -------------------------------------------------------------------------------------------------------


def test_through_rows_changed_in_bulk_change_lists(keepers):
    """Both the row that loses and the one that gains."""
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


# inheritance --------------------------------------------------------------------------------------------------------


def test_update_of_a_childs_columns_is_heard_by_those_who_send_them():
    """The parent's binding hears of its own columns; a grandchild's of all that it inherits."""
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
    """A child's groups may hang on a parent's column."""
    truck = Truck.objects.create(plate="A")
    Vehicle.objects.create(plate="B")
    by_plate = {**TRUCKS, "groups": ["p-{plate}"]}
    with watching(by_plate) as events:
        Vehicle.objects.filter(plate="A").update(plate="Z")
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-Z", "create")])]


def test_save_of_a_parent_instance_is_heard_by_the_childs_binding():
    """The child's row changed with it, groups and all."""
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
def test_upsert_of_parents_is_heard_by_the_childs_binding():
    """The parent's row that is met may be a child's, and then the child's groups hang on what is stored."""
    truck = Truck.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        rows = [Vehicle(pk=truck.pk, plate="B"), Vehicle(plate="C")]
        Vehicle.objects.bulk_create(rows, update_conflicts=True, unique_fields=["pk"], update_fields=["plate"])
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-B", "create")])]


# cost ---------------------------------------------------------------------------------------------------------------

CALLS = {
    "update": lambda rows: Keeper.objects.update(name="x"),
    "moving update": lambda rows: Keeper.objects.update(retired=True),
    "bulk_update": lambda rows: Keeper.objects.bulk_update(rows, ["name"]),
    "bulk_create": lambda rows: Keeper.objects.bulk_create([Keeper(name="new") for _ in rows]),
    "ignoring": lambda rows: Keeper.objects.bulk_create([Keeper(name="new") for _ in rows], ignore_conflicts=True),
    "delete": lambda rows: Keeper.objects.filter(name__startswith="k").delete(),
    "_raw_delete": lambda rows: Keeper.objects.filter(name__startswith="k")._raw_delete("default"),
}


@pytest.mark.parametrize("binding", [KEEPERS, BY_NAME], ids=["one group", "moving"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_costs_two_statements_more_whatever_the_number_of_rows(call, binding):
    """One reads, one stores the events; inside a transaction, so that nothing else is counted.

    MySQL and MariaDB read subqueries from a snapshot and return no updated rows: one statement reads the keys before
    the write, and another the rows after it.
    """
    more = 4 if connection.vendor == "mysql" else 2

    def cost(hooked):
        Keeper.objects.all().delete()
        rows = Keeper.objects.bulk_create([Keeper(name=f"k{number}") for number in range(300)])
        with contextlib.nullcontext() if hooked else uncaptured(), CaptureQueriesContext(connection) as captured:
            call(rows)
        return len(captured)

    with override_bindings(binding), transaction.atomic():
        assert cost(hooked=True) <= cost(hooked=False) + more
    assert Event.objects.filter(stream="keepers").count() >= 300


def test_unbound_models_cost_nothing(keepers):
    """Not one statement more, fast deletes included."""
    with override_bindings(FEATHERS):
        for call in CALLS.values():
            with CaptureQueriesContext(connection) as hooked:
                call(keepers)
            with uncaptured(), CaptureQueriesContext(connection) as plain:
                call(keepers)
            assert len(hooked) == len(plain)


# above the limit ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _low_limit(settings):
    settings.DECLBIND = {"BULK_LIMIT": 2}


@pytest.mark.usefixtures("_low_limit")
class TestAboveTheLimit:
    """Each touched group is told once to take a snapshot: those that held a row, and those that hold one now."""

    def test_update(self, keepers):
        """Of a binding with one group, and of one whose rows move."""
        with watching(KEEPERS) as events:
            assert Keeper.objects.update(name="x") == 3
        assert [(event.kind, event.pk, event.changes) for event in events] == [("bulk", None, [("keepers", "resync")])]
        with watching(BY_NAME) as events:
            Keeper.objects.update(retired=True)
            Keeper.objects.update(name="y")
        both = [("retired-false", "resync"), ("retired-true", "resync")]
        assert [event.changes for event in events] == [both, [("retired-true", "resync")]]

    def test_bulk_update(self, keepers):
        """The same."""
        for keeper in keepers:
            keeper.retired = True
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_update(keepers, ["retired"])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    def test_bulk_create(self):
        """New rows have no old groups."""
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_create([Keeper(name="x", retired=number > 1) for number in range(4)])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    @takes_target
    def test_upsert(self):
        """Rows that it meets were seen beforehand, though not one by one, so that no other group is told."""
        Food.objects.bulk_create([Food(name=name) for name in "abc"])
        by_poison = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
        for binding, told in ((by_poison, ["p-false"]), ({**by_poison, "groups": ["all"]}, ["all"])):
            with watching(binding) as events:
                Food.objects.bulk_create(
                    [Food(name=name) for name in "abcd"],
                    update_conflicts=True,
                    unique_fields=["name"],
                    update_fields=["poisonous"],
                )
            assert [event.changes for event in events] == [[(group, "resync") for group in told]]

    def test_delete(self, keepers):
        """Rows that go, and rows that lose what they hung on."""
        Animal.objects.bulk_create([Animal(name=f"a{n}", slug=f"a{n}", keeper=keepers[n % 2]) for n in range(4)])
        with watching(KEEPERS, BY_KEEPER) as events:
            Keeper.objects.all().delete()
        assert [(event.stream, event.changes) for event in events] == [
            ("keepers", [("keepers", "resync")]),
            ("animals", [(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]),
        ]

    def test_a_list(self, keepers):
        """One row added to many lists."""
        animals = [Animal.objects.create(name=f"a{number}", keeper=keepers[number % 2]) for number in range(4)]
        hay = Food.objects.create(name="hay")
        with watching({**FED, "groups": ["keeper-{keeper_id}"]}) as events:
            hay.animal_set.set(animals)
        assert [event.changes for event in events] == [[(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]]

    def test_a_list_that_others_do_not_send(self, keepers):
        """Whoever does not send the list keeps what he holds, in one group or in many."""
        animals = [Animal.objects.create(name=f"a{number}", keeper=keepers[0]) for number in range(4)]
        hay = Food.objects.create(name="hay")
        for bindings in ([ANIMALS, FED], [BY_KEEPER, FED]):
            with watching(*bindings) as events:
                hay.animal_set.set(animals)
                hay.animal_set.clear()
            assert changes(events) == [("fed", None, [("fed", "resync")])] * 2
        with watching(ANIMALS, FED, KEEPERS) as events:
            hay.animal_set.set(animals)
            Animal.objects.all().delete()
        assert [event.stream for event in events] == ["fed", "animals", "fed"]

    def test_touch(self, keepers):
        """Announcing by hand is bounded too."""
        with watching(BY_NAME) as events:
            assert declbind.touch(Keeper.objects.all()) == 3
        assert [event.changes for event in events] == [[("retired-false", "resync")]]

    def test_a_call_at_the_limit_is_told_row_by_row(self, keepers):
        """The limit itself is within it."""
        with watching(KEEPERS) as events:
            Keeper.objects.exclude(name="Cy").update(retired=True)
        assert [event.kind for event in events] == ["row", "row"]

    def test_too_many_groups_are_told_as_all(self, keepers, monkeypatch):
        """One event does not grow without a bound."""
        monkeypatch.setattr("declbind.outbound.drafts.MAX_GROUPS", 2)
        with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
            Keeper.objects.update(retired=True)
        assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("groups", [["everyone"], ["retired-{retired}"]])
async def test_a_client_is_told_to_take_a_snapshot(settings, groups, admin_user):
    """Whoever asked hears it once, with an offset; who comes back later hears it from the log."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    params = {} if groups == ["everyone"] else {"retired": False}
    await sync_to_async(Keeper.objects.bulk_create)([Keeper(name=f"k{number}") for number in range(3)])
    with override_bindings({**KEEPERS, "groups": groups}):
        async with Client(user=admin_user) as client, Client(user=admin_user) as late:
            reply = await client.request("keepers", "subscribe", params=params)
            await Keeper.objects.aupdate(name="x")
            frame = await client.receive()
            assert frame["payload"] == {"action": "resync", "reason": "bulk"}
            assert frame["offset"] > reply["offset"]
            await Keeper.objects.filter(name="x").aupdate(name="y")
            assert (await client.receive())["offset"] > frame["offset"]
            since = since_of(reply)
            await late.request("keepers", "subscribe", params=params, since=since)
            assert (await late.receive())["payload"]["reason"] == "bulk"


# faults -------------------------------------------------------------------------------------------------------------


def test_fault_in_capture_costs_no_write(keepers, caplog):
    """It is logged, and the clients are told that something is missing."""
    with patch.object(batch, "groups_of", side_effect=ZeroDivisionError), watching(BY_NAME) as events:
        assert Keeper.objects.update(retired=True) == 3
    assert Keeper.objects.filter(retired=True).count() == 3
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]
    assert "on a change of zoo.keeper that could not be read" in caplog.text


def test_failed_update_leaves_the_next_one_captured(keepers):
    """What marks a call as captured ends with it."""
    with watching(KEEPERS) as events:
        append = patch.object(updates._Update, "append", side_effect=ZeroDivisionError)
        with append, pytest.raises(ZeroDivisionError), transaction.atomic():
            Keeper.objects.bulk_update(keepers, ["name"])
        Keeper.objects.filter(name="Ann").update(retired=True)
    assert [event.pk for event in events] == [keepers[0].pk]


def test_rolled_back_calls_leave_no_event(keepers):
    """To a savepoint and as a whole."""
    with watching(KEEPERS) as events, transaction.atomic():
        sid = transaction.get_connection().savepoint()
        Keeper.objects.update(retired=True)
        Keeper.objects.bulk_create([Keeper(name="Di")])
        transaction.savepoint_rollback(sid)
        Keeper.objects.filter(name="Ann").update(retired=True)
    assert [event.pk for event in events] == [keepers[0].pk]


def test_every_hook_is_needed(keepers):
    """Without any one of them, what it is for is missed: no two do the same."""
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


def test_rows_that_appear_between_reading_and_writing_are_left_alone(django_db_blocker, keepers):
    """An update is of the rows that were read: another one would be written and not announced."""
    if connection.vendor == "sqlite":
        # Nobody writes in between there: the whole table is locked.
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
def test_many_keys_narrow_an_update_as_few_do(model):
    """For each type of key; on PostgreSQL as one parameter of its own list type."""
    made = {Keeper: lambda n: Keeper(name="x"), Country: lambda n: Country(code=f"{n:02}"), Crate: lambda n: Crate()}
    count = 99 if model is Country else 1_200
    rows = model.objects.bulk_create([made[model](number) for number in range(count)])
    keys = [row.pk for row in rows][: count - 10]
    with patch.object(writes, "MAX_PLAIN_KEYS", 50):
        narrowed = writes.only(model.objects.all(), keys, "default")
    expected = count if connection.vendor == "sqlite" else len(keys)
    assert narrowed.count() == expected


def test_feathers_go_with_their_animal_in_bulk():
    """Cascades of a query set's delete are told with their last data."""
    owl = Animal.objects.create(name="Owl")
    Feather.objects.bulk_create([Feather(animal=owl, colour=colour) for colour in "xy"])
    with watching(FEATHERS) as events:
        Animal.objects.all().delete()
    assert [(event.kind, event.data["colour"]) for event in events] == [("gone", "x"), ("gone", "y")]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="There the transaction has the only lock since it began.")
@takes_target
def test_upsert_that_meets_a_row_of_somebody_else_tells_every_group():
    """A row that was committed after it was looked for: nobody knows which groups it was in."""
    Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
    upsert: Any = {"update_conflicts": True, "unique_fields": ["name"], "update_fields": ["poisonous"]}
    with watching(foods) as events, patch("declbind.outbound.inserts._met", return_value=[Food.objects.none()]):
        Food.objects.bulk_create([Food(name="hay", poisonous=True)], **upsert)
        Food.objects.bulk_create([Food(name="nuts")], **upsert)
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")], [("p-false", "create")]]


def test_set_of_a_list_is_one_change_of_each_row(keepers):
    """With the new list, from both sides; and none where the list is what it was."""
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


def test_set_of_a_list_that_is_told_in_its_parts_would_be_caught(keepers, monkeypatch):
    """The control: what Django's `set` consists of, each told by itself."""

    class Parts:
        through = using = None

        def append(self):
            """Add nothing to what the parts told."""

    monkeypatch.setattr(lists, "_Change", lambda *args: Parts())
    with pytest.raises(AssertionError):
        test_set_of_a_list_is_one_change_of_each_row(keepers)


def test_failed_set_leaves_the_next_write_captured(keepers):
    """What is gathered ends with the call."""
    owl, hay = Animal.objects.create(name="Owl"), Food.objects.create(name="hay")
    with watching(FED) as events:
        with pytest.raises(ValueError, match="nobody"), transaction.atomic():
            owl.foods.set(["nobody"])  # type: ignore[list-item]
        owl.foods.add(hay)
    assert [(event.pk, event.data["foods"]) for event in events] == [(owl.pk, [hay.pk])]
