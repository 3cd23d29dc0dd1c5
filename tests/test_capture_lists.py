"""Capture of many-to-many lists."""

import pytest

from tests.captured_events import ANIMALS, FED, actions, watching
from tests.zoo.models import Animal, Food, Herd, Keeper, Membership

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def animal(keeper):
    return Animal.objects.create(name="Owl", keeper=keeper)


@pytest.fixture
def foods():
    return [Food.objects.create(name=name) for name in ("hay", "fish", "nuts")]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda animal, foods: animal.foods.add(foods[1], foods[2]), [0, 1, 2]),
        (lambda animal, foods: animal.foods.remove(foods[0]), []),
        (lambda animal, foods: animal.foods.clear(), []),
        (lambda animal, foods: animal.foods.set([foods[0], foods[1]]), [0, 1]),
        (lambda animal, foods: foods[1].animal_set.add(animal), [0, 1]),
        (lambda animal, foods: foods[0].animal_set.remove(animal), []),
        (lambda animal, foods: foods[0].animal_set.clear(), []),
        (lambda animal, foods: foods[2].animal_set.set([animal]), [0, 2]),
        (lambda animal, foods: foods[0].delete(), []),
        (lambda animal, foods: Food.objects.filter(name="hay").delete(), []),
        (lambda animal, foods: Animal.foods.through.objects.all().delete(), []),
    ],
    ids=["add", "remove", "clear", "set", "their add", "their remove", "their clear", "their set", "their delete",
         "their query set", "through"],
)  # fmt: skip
def test_changed_list_is_an_update_of_the_row_that_has_it(animal, foods, change, left):
    """From whichever side a list changes, its owner is announced once, with the whole list as it is now."""
    animal.foods.add(foods[0])
    pks = [food.pk for food in foods]
    with watching(FED) as events:
        change(animal, foods)
    assert actions(events) == [("fed", animal.pk, ["update"])]
    assert events[0].data == {"name": "Owl", "foods": [pks[index] for index in left]}


@pytest.mark.parametrize(
    "change",
    [
        lambda animal, foods: animal.foods.add(foods[0]),
        lambda animal, foods: animal.foods.remove(foods[1]),
        lambda animal, foods: animal.foods.set([foods[0]]),
        lambda animal, foods: foods[1].animal_set.clear(),
        lambda animal, foods: foods[1].delete(),
    ],
    ids=["add again", "remove absent", "set same", "clear empty", "delete unlisted"],
)
def test_unchanged_list_leaves_no_event(animal, foods, change):
    """No row of the through table was inserted or deleted."""
    animal.foods.add(foods[0])
    with watching(FED) as events:
        change(animal, foods)
    assert events == []


def test_unbound_list_leaves_no_event(animal, foods):
    """A binding that does not send the list sends nothing."""
    with watching(ANIMALS) as events:
        animal.foods.add(foods[0])
        animal.foods.clear()
    assert events == []


def test_list_is_reported_by_bindings_that_send_it(animal, foods):
    """Another binding of the model has no event, although it reports other writes of the row."""
    with watching(ANIMALS, FED) as events:
        animal.foods.add(foods[0])
        animal.save()
        foods[0].delete()
    assert sorted(event.stream for event in events) == ["animals", "fed", "fed", "fed"]


def test_list_of_a_row_outside_of_where_leaves_no_event(animal, foods):
    """The row does not exist for this binding."""
    with watching({**FED, "where": {"status": "closed"}}) as events:
        animal.foods.add(foods[0])
        animal.foods.clear()
    assert events == []


def test_deleted_owner_is_not_updated(animal, foods):
    """A row that is deleted with its list has only a delete, whose data still has the list."""
    animal.foods.add(foods[0])
    with watching(FED) as events:
        animal.delete()
    assert [(event.kind, event.data["foods"]) for event in events] == [("gone", [foods[0].pk])]


def test_both_ends_of_a_symmetrical_list_are_reported():
    """Neighbours are mutual: adding one to the other changes two lists."""
    one, two = (Herd.objects.create(name=name) for name in "ab")
    with watching({"stream": "h", "model": "zoo.Herd", "fields": ["neighbours"]}) as events:
        one.neighbours.add(two)
        one.neighbours.clear()
    lists = [(event.pk, event.data["neighbours"]) for event in events]
    assert sorted(lists[:2]) == [(one.pk, [two.pk]), (two.pk, [one.pk])]
    assert sorted(lists[2:]) == [(one.pk, []), (two.pk, [])]


def test_list_with_a_model_of_its_own_between_follows_that_model(animal):
    """Saving, moving or deleting memberships changes the lists of their herds."""
    one, two = (Herd.objects.create(name=name) for name in "ab")
    with watching({"stream": "h", "model": "zoo.Herd", "fields": ["members"]}) as events:
        membership = Membership.objects.create(herd=one, animal=animal)
        membership.herd = two
        membership.save()
        membership.delete()
        one.members.add(animal)
        animal.delete()
    assert [(event.pk, len(event.data["members"])) for event in events] == [
        (one.pk, 1), (one.pk, 0), (two.pk, 1), (two.pk, 0), (one.pk, 1), (one.pk, 0),
    ]  # fmt: skip
