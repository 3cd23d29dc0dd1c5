"""The statements that capture adds to a write."""

import re

import pytest
from django.db import connection
from django.db.models.deletion import Collector
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from declbind.testing import override_bindings
from tests.captured_events import ANIMALS, BY_KEEPER, FED, KEEPERS, TRUCKS, uncaptured
from tests.zoo.models import Animal, Feather, Food, Keeper, Truck

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def animal(keeper):
    return Animal.objects.create(name="Owl", keeper=keeper)


def statements(write):
    """Return the SQL of a write without numbers and times, because keys and clocks advance."""
    with CaptureQueriesContext(connection) as captured:
        write()
    return [re.sub(r"[0-9]+", "N", query["sql"]) for query in captured]


def write_everything():
    food = Food.objects.create(name="hay")
    owner = Animal.objects.create(name="Owl")
    owner.foods.add(food)
    owner.legs = 3
    owner.save()
    Feather.objects.create(animal=owner, colour="grey")
    Feather.objects.all().delete()
    owner.foods.clear()
    owner.delete()
    food.delete()
    Truck.objects.create(plate="A").delete()


def test_unbound_models_cost_no_query():
    """Saves, lists, cascades and fast deletes of unbound models run exactly the same statements."""
    with override_bindings(KEEPERS):
        with_hooks = statements(write_everything)
        with uncaptured():
            without = statements(write_everything)
    assert with_hooks == without


def test_statements_of_capture_are_detected():
    """Negative control of the previous test: a bound model among the written ones makes a difference."""
    with override_bindings(ANIMALS):
        with_hooks = statements(write_everything)
        with uncaptured():
            without = statements(write_everything)
    assert with_hooks != without


def test_binding_a_model_keeps_fast_deletes_of_other_models(animal):
    """No receiver for deletes is connected, which would disable fast deletes for the whole site."""
    with override_bindings(ANIMALS, FED):
        assert Collector(using="default").can_fast_delete(Feather.objects.all())
        assert not pre_delete.has_listeners(Feather)


#: The statements of a save of a bound row: on PostgreSQL there is only one.
WRITES = ["WITH"] if connection.vendor == "postgresql" else ["UPDATE", "INSERT"]


def test_save_with_a_constant_group_costs_one_insert(keeper):
    """The row is not read, neither before nor after: the event is the only additional statement."""
    with override_bindings(KEEPERS), CaptureQueriesContext(connection) as captured:
        keeper.save()
    assert [query["sql"].split()[0] for query in captured] == WRITES


def test_save_with_a_moving_group_costs_one_select_of_its_columns(animal):
    """Only the columns that decide are read, and the row is locked if the database can."""
    with override_bindings(BY_KEEPER), CaptureQueriesContext(connection) as captured:
        animal.save()
    assert [query["sql"].split()[0] for query in captured] == ["SELECT", *WRITES]
    select = captured[0]["sql"]
    assert connection.ops.quote_name("keeper_id") in select
    assert connection.ops.quote_name("name") not in select
    assert ("FOR UPDATE" in select) == connection.features.has_select_for_update


def test_creating_with_a_moving_group_reads_nothing(keeper):
    """A new row has no old groups."""
    with override_bindings(BY_KEEPER), CaptureQueriesContext(connection) as captured:
        Animal.objects.create(name="Owl", keeper=keeper)
    assert [query["sql"].split()[0] for query in captured] == ["INSERT", "INSERT"]


def test_lock_covers_the_parents_of_a_child():
    """A group may depend on the parent's column, which another transaction may be changing."""
    truck = Truck.objects.create(plate="A")
    with override_bindings({**TRUCKS, "groups": ["p-{plate}"]}), CaptureQueriesContext(connection) as captured:
        truck.save()
    if connection.features.has_select_for_update:
        # The rows of all joined tables are locked.
        assert connection.ops.quote_name("zoo_vehicle") in captured[0]["sql"]
        assert captured[0]["sql"].endswith("FOR UPDATE")
