"""Bound models with a list that is not a ManyToManyField of Django, as django-taggit adds."""

from __future__ import annotations

import pytest

from declbind.fields import model_fields
from declbind.testing import capture_events, override_bindings
from tests.factories import AnimalFactory, FoodFactory
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db


class Tags:
    """The form in which a ``TaggableManager`` appears in a model's options."""

    name = "tags"
    many_to_many = True
    concrete = False
    primary_key = False
    remote_field = None


@pytest.fixture(autouse=True)
def tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add tags to the lists of the animals."""
    lists = Animal._meta.many_to_many
    monkeypatch.setitem(vars(Animal._meta), "many_to_many", (*lists, Tags()))


def test_all_fields_are_those_that_can_be_sent() -> None:
    """The package's list is left out; Django's stay."""
    names = [field.name for field in model_fields(Animal)]
    assert "foods" in names
    assert "tags" not in names


def test_rows_and_lists_are_captured_beside_it() -> None:
    """Neither a save nor a change of a Django list fails because of it."""
    animal, food = AnimalFactory.create(), FoodFactory.create()
    with (
        override_bindings({"stream": "animals", "model": "zoo.Animal", "fields": "__all__"}),
        capture_events() as events,
    ):
        animal.save()
        animal.foods.add(food)
    assert [event.data["foods"] for event in events] == [[], [food.pk]]
