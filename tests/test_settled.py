"""Writes while the configuration is settled: those of unbound models return after one lookup in the index."""

import contextlib
from unittest.mock import patch

import pytest

from declbind import registry
from declbind.models import BindingRecord
from declbind.outbound import index as indexes
from declbind.testing import capture_events, override_bindings
from tests.zoo.models import Animal, Cage, Country, Feather, Food, Keeper, Lorry, Tractor, Truck, Vehicle

pytestmark = pytest.mark.django_db

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"]}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}
BY_FEATHER = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "also": ["feather"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"]}
FEEDING = Animal.foods.through


@contextlib.contextmanager
def settled(*bindings):
    """Put bindings in force as in a process that has just loaded them: no override, no edit, no trial."""
    with override_bindings(*bindings) as chosen:
        pass
    holder = registry._holder
    with patch.multiple(holder, registry=chosen, is_outdated=False, stale_at=float("inf"), has_edited=False):
        yield indexes.current_index()


@pytest.mark.parametrize(
    ("binding", "heard", "unheard"),
    [
        (KEEPERS, {Keeper}, {Animal, Food, Country}),
        (FED, {Animal, FEEDING}, {Keeper, Food, Feather}),
        (BY_FEATHER, {Animal, Feather}, {Keeper, Food, FEEDING}),
        (TRUCKS, {Truck, Vehicle, Lorry, Tractor}, {Keeper, Cage}),
    ],
    ids=["a model", "a list", "a relation", "a child of a parent"],
)
def test_the_index_knows_which_tables_are_bound(binding, heard, unheard):
    """Bound models, the rows of their lists, related models, parents, and models that share a parent."""
    with settled(binding) as index:
        assert {model: index.bound[model] for model in heard | unheard} == {
            **dict.fromkeys(heard, True),
            **dict.fromkeys(unheard, False),
        }


def write_all():
    owl, hay = Animal.objects.create(name="Owl"), Food.objects.create(name="hay")
    owl.foods.add(hay)
    Feather.objects.create(animal=owl, colour="grey")
    Feather.objects.update(colour="white")
    Feather.objects.all().delete()
    Truck.objects.create(plate="A", load=1)
    Vehicle.objects.update(plate="B")
    Truck.objects.bulk_update(Truck.objects.all(), ["load"])
    hay.delete()
    owl.delete()
    Vehicle.objects.all().delete()


def told():
    with capture_events() as events:
        write_all()
    return [(event.stream, event.kind, event.changes) for event in events]


def test_nothing_is_missed():
    """The events equal those of a process that has to query for the registry in force."""
    with override_bindings(FED, BY_FEATHER, TRUCKS):
        assert indexes.known_index() is None
        expected = told()
    with settled(FED, BY_FEATHER, TRUCKS) as index:
        assert indexes.known_index() is index
        assert told() == expected
    assert {stream for stream, _, _ in expected} == {"fed", "animals", "trucks"}


def test_considering_bound_models_only_is_detected():
    """Negative control: the check above includes lists, relations and parents."""
    with override_bindings(FED, BY_FEATHER, TRUCKS):
        expected = told()
    only_bound = lambda self, model: self.plan_for(model) is not None  # noqa: E731 - a broken variant in one line
    with patch.object(indexes.Index, "_is_bound", only_bound), settled(FED, BY_FEATHER, TRUCKS):
        assert told() != expected


def test_an_edit_is_in_force_in_its_own_transaction():
    """The transaction must not use the cached registry."""
    with settled(KEEPERS) as index:
        assert indexes.known_index() is index
        BindingRecord.objects.create(stream="foods", model="zoo.Food", fields=["name"])
        assert indexes.known_index() is None
        with capture_events() as events:
            Food.objects.create(name="hay")
    assert [event.stream for event in events] == ["foods"]


def test_a_binding_on_trial_is_in_force_in_its_thread():
    """Writes of this thread do not use the cached registry."""
    with settled(KEEPERS), override_bindings(FED) as other:
        pass
    with settled(KEEPERS), indexes.trying(other), capture_events() as events:
        assert indexes.known_index() is None
        Animal.objects.create(name="Owl")
    assert [event.stream for event in events] == ["fed"]


def test_after_a_while_the_database_is_queried():
    """Another process may have edited a record."""
    with settled(KEEPERS), patch.object(registry._holder, "stale_at", float("-inf")):
        assert indexes.known_index() is None
