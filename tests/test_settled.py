"""Writes while nothing is under way with the configuration: those of unbound models end at one look into the index."""

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
    """Have bindings in force as a process has them that loaded them a moment ago: no override, no edit, no trial."""
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
def test_who_is_heard_is_known_of_each_table(binding, heard, unheard):
    """Bound models, the rows of their lists, those they are related to, their parents, and who shares a parent."""
    with settled(binding) as index:
        assert {model: index.heard[model] for model in heard | unheard} == {
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
    """What is told is what is told while the registry in force has to be asked for."""
    with override_bindings(FED, BY_FEATHER, TRUCKS):
        assert indexes.known_index() is None
        expected = told()
    with settled(FED, BY_FEATHER, TRUCKS) as index:
        assert indexes.known_index() is index
        assert told() == expected
    assert {stream for stream, _, _ in expected} == {"fed", "animals", "trucks"}


def test_a_look_at_bound_models_only_would_be_caught():
    """The check above is not vacuous: lists, relations and parents are in it."""
    with override_bindings(FED, BY_FEATHER, TRUCKS):
        expected = told()
    only_bound = lambda self, model: self.plan_for(model) is not None  # noqa: E731 - a broken variant in one line
    with patch.object(indexes.Index, "_hears", only_bound), settled(FED, BY_FEATHER, TRUCKS):
        assert told() != expected


def test_an_edit_of_this_transaction_has_to_be_asked_for():
    """A record is in force for who wrote it, and who looked only at what was known would not capture by it."""
    with settled(KEEPERS) as index:
        assert indexes.known_index() is index
        BindingRecord.objects.create(stream="foods", model="zoo.Food", fields=["name"])
        assert indexes.known_index() is None
        with capture_events() as events:
            Food.objects.create(name="hay")
    assert [event.stream for event in events] == ["foods"]


def test_a_trial_has_to_be_asked_for():
    """What is tried is in force for the thread that tries it."""
    with settled(KEEPERS), override_bindings(FED) as other:
        pass
    with settled(KEEPERS), indexes.trying(other), capture_events() as events:
        assert indexes.known_index() is None
        Animal.objects.create(name="Owl")
    assert [event.stream for event in events] == ["fed"]


def test_after_a_while_the_database_has_to_be_asked():
    """Another process may have edited a record."""
    with settled(KEEPERS), patch.object(registry._holder, "stale_at", float("-inf")):
        assert indexes.known_index() is None
