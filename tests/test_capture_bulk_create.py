"""Capture of `bulk_create` and `bulk_update`, and the cost of bulk calls."""

import contextlib

import pytest
from django.db import connection, transaction
from django.db.models import Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

from declbind.core.frames import EVERY_GROUP
from declbind.models import Event
from declbind.testing import override_bindings
from tests.captured_events import (
    ANIMALS,
    BY_NAME,
    FEATHERS,
    KEEPERS,
    actions,
    changes,
    takes_target,
    uncaptured,
    watching,
)
from tests.zoo.models import Animal, Crate, Food, Keeper

pytestmark = pytest.mark.django_db


@pytest.fixture
def keepers():
    return Keeper.objects.bulk_create([Keeper(name=name) for name in ("Ann", "Bob", "Cy")])


# bulk_create ----------------------------------------------------------------------------------------------------------


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


# bulk_update ----------------------------------------------------------------------------------------------------------


def test_bulk_update_announces_each_row_once(keepers):
    """Each row has one event, however many statements it takes, and only rows of the query set."""
    for keeper in keepers:
        keeper.retired = True
    with watching(BY_NAME) as events:
        assert Keeper.objects.exclude(name="Cy").bulk_update(keepers, ["retired"], batch_size=1) == 2
    assert [(event.pk, event.changes) for event in events] == [
        (keeper.pk, [("retired-false", "delete"), ("retired-true", "create")]) for keeper in keepers[:2]
    ]


# Cost -----------------------------------------------------------------------------------------------------------------


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
def test_a_call_takes_two_more_statements_for_any_number_of_rows(call, binding):
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
