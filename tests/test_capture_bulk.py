"""Capture of what query sets write: `update`, `bulk_create`, `bulk_update`, `_raw_delete`; calls above the limit."""

import contextlib
from typing import Any
from unittest.mock import patch

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat, Upper
from django.db.models.signals import m2m_changed
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
    Strict,
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


def test_update_by_a_slice_of_joins_and_an_annotation(keepers):
    """Other tables may select the rows, and annotations may give the values."""
    Animal.objects.create(name="Owl", keeper=keepers[0])
    with watching(KEEPERS) as events:
        Keeper.objects.filter(animal__name="Owl").annotate(twice=Concat("name", "name")).update(name=F("twice"))
        Keeper.objects.distinct().filter(animal__name="Owl").update(retired=True)
    assert [(event.pk, event.data["name"]) for event in events] == [(keepers[0].pk, "AnnAnn")] * 2


def test_update_of_nothing_is_silent(keepers):
    """There are neither rows nor events, and the count is zero."""
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


def test_update_keeps_the_query_set_as_it_was(keepers):
    """Its cache is dropped, its conditions stay."""
    rows = Keeper.objects.filter(name="Ann")
    assert [row.retired for row in rows] == [False]
    with watching(KEEPERS):
        rows.update(retired=True)
    assert [row.retired for row in rows] == [True]


def test_update_of_a_key_resyncs_every_group(keepers):
    """A row cannot be followed to its new key, so all groups take a snapshot."""
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


def test_row_that_its_manager_hides_and_shows():
    """A row that the base manager hides is hidden from clients, whichever way it was hidden."""
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


# bulk_create --------------------------------------------------------------------------------------------------------


def test_bulk_create_announces_each_row():
    """The data is as stored: defaults, expressions and conversions of the database."""
    with watching(KEEPERS) as events:
        rows = Keeper.objects.bulk_create([Keeper(name="Ann"), Keeper(name=Upper(Value("bob")))], batch_size=1)
    assert changes(events) == [("keepers", row.pk, [("keepers", "create")]) for row in rows]
    assert [event.data for event in events] == [{"name": "Ann", "retired": False}, {"name": "BOB", "retired": False}]


def test_bulk_create_with_given_keys_of_another_type():
    """A key may be given as text; the row's own key is sent."""
    with watching(KEEPERS) as events:
        Keeper.objects.bulk_create([Keeper(pk="71", name="Ann")])
    assert [event.pk for event in events] == [71]


def test_bulk_create_that_ignores_conflicts_announces_new_rows():
    """Existing rows are not announced, whether or not keys are known."""
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
def test_bulk_create_that_updates_conflicts_distinguishes_new_rows():
    """An existing row is updated, and leaves its old groups."""
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
    """The pair of values conflicts, not one of them."""
    old = Animal.objects.create(name="Owl", kind="bird")
    Animal.objects.create(name="Owl", kind="fish", legs=0)
    rows = [Animal(name="Owl", kind="bird", slug="a", legs=3), Animal(name="Eel", kind="fish", slug="b", legs=0)]
    with watching(ANIMALS) as events:
        Animal.objects.bulk_create(rows, update_conflicts=True, unique_fields=["name", "kind"], update_fields=["legs"])
    eel = Animal.objects.get(name="Eel")
    assert sorted(actions(events)) == sorted([("animals", old.pk, ["update"]), ("animals", eel.pk, ["create"])])


@takes_target
def test_upsert_of_unknown_rows_resyncs_every_group():
    """Values that only the database knows may conflict with any row."""
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
        Food.objects.bulk_create(
            [Food(name=Upper(Value("hay")))],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["poisonous"],
        )
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


@pytest.mark.skipif(connection.features.supports_update_conflicts_with_target, reason="Django demands a target.")
def test_upsert_without_a_target_resyncs_every_group():
    """Any unique index may have conflicted, and no database reports which rows existed."""
    Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
    with watching(foods) as events:
        rows = [Food(name="hay", poisonous=True), Food(name="nuts")]
        Food.objects.bulk_create(rows, update_conflicts=True, update_fields=["poisonous"])
    assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


# bulk_update --------------------------------------------------------------------------------------------------------


def test_bulk_update_announces_each_row_once(keepers):
    """Each row has one event, however many statements it takes, and only rows of the query set."""
    for keeper in keepers:
        keeper.retired = True
    with watching(BY_NAME) as events:
        assert Keeper.objects.exclude(name="Cy").bulk_update(keepers, ["retired"], batch_size=1) == 2
    assert [(event.pk, event.changes) for event in events] == [
        (keeper.pk, [("retired-false", "delete"), ("retired-true", "create")]) for keeper in keepers[:2]
    ]


# _raw_delete --------------------------------------------------------------------------------------------------------


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


# through rows -------------------------------------------------------------------------------------------------------


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


# inheritance --------------------------------------------------------------------------------------------------------


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
    """One statement reads, one stores the events; inside a transaction, so that nothing else is counted.

    MySQL and MariaDB read subqueries from a snapshot and return no updated rows. There one statement reads the keys
    before the write, and another the rows after it.
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
    """There is no additional statement, also for fast deletes."""
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
    """Each affected group gets one resync: those that held a row, and those that hold one now."""

    def test_update(self, keepers):
        """An update, in a binding with one group and in one whose rows move."""
        with watching(KEEPERS) as events:
            assert Keeper.objects.update(name="x") == 3
        assert [(event.kind, event.pk, event.changes) for event in events] == [("bulk", None, [("keepers", "resync")])]
        with watching(BY_NAME) as events:
            Keeper.objects.update(retired=True)
            Keeper.objects.update(name="y")
        both = [("retired-false", "resync"), ("retired-true", "resync")]
        assert [event.changes for event in events] == [both, [("retired-true", "resync")]]

    def test_bulk_update(self, keepers):
        """A bulk update, with the same result."""
        for keeper in keepers:
            keeper.retired = True
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_update(keepers, ["retired"])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    def test_bulk_create(self):
        """An insert of rows, which have no old groups."""
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_create([Keeper(name="x", retired=number > 1) for number in range(4)])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    @takes_target
    def test_upsert(self):
        """An upsert: the conflicting rows' groups are read beforehand, so that no other group is resynced."""
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
        """A delete: deleted rows, and rows whose foreign key is set to null."""
        Animal.objects.bulk_create([Animal(name=f"a{n}", slug=f"a{n}", keeper=keepers[n % 2]) for n in range(4)])
        with watching(KEEPERS, BY_KEEPER) as events:
            Keeper.objects.all().delete()
        assert [(event.stream, event.changes) for event in events] == [
            ("keepers", [("keepers", "resync")]),
            ("animals", [(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]),
        ]

    def test_a_list(self, keepers):
        """A list: one row added to many lists."""
        animals = [Animal.objects.create(name=f"a{number}", keeper=keepers[number % 2]) for number in range(4)]
        hay = Food.objects.create(name="hay")
        with watching({**FED, "groups": ["keeper-{keeper_id}"]}) as events:
            hay.animal_set.set(animals)
        assert [event.changes for event in events] == [[(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]]

    def test_a_list_that_others_do_not_send(self, keepers):
        """A list: a binding that does not send it gets no resync, with one group or many."""
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
        """Rows announced by hand are limited too."""
        with watching(BY_NAME) as events:
            assert declbind.touch(Keeper.objects.all()) == 3
        assert [event.changes for event in events] == [[("retired-false", "resync")]]

    def test_a_call_at_the_limit_is_reported_row_by_row(self, keepers):
        """A call with exactly the limit has an event for each row."""
        with watching(KEEPERS) as events:
            Keeper.objects.exclude(name="Cy").update(retired=True)
        assert [event.kind for event in events] == ["row", "row"]

    def test_too_many_groups_are_reported_as_all(self, keepers, monkeypatch):
        """An event does not grow without a bound."""
        monkeypatch.setattr("declbind.outbound.drafts.MAX_GROUPS", 2)
        with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
            Keeper.objects.update(retired=True)
        assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("groups", [["everyone"], ["retired-{retired}"]])
async def test_a_client_gets_a_resync(settings, groups, admin_user):
    """A subscriber gets it once, with an offset; a client that resumes gets it from the log."""
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
    """Without any one of them a kind of write is missed: no two do the same."""
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
def test_many_keys_narrow_an_update_as_few_do(model):
    """For each type of key; PostgreSQL gets one parameter of its own array type."""
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


def test_set_inside_of_the_set_of_another_list_is_one_change_as_well(keepers):
    """A receiver may set a list of another model while the first is being set."""
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
