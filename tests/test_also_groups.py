"""The record key `also` with groups made by code: related rows move a row between groups."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from declbind import WebsocketBinding
from declbind.core.frames import EVERY_GROUP
from declbind.outbound.triggers import upkeep
from declbind.outbound.written_rows import WrittenRows
from declbind.testing import capture_events, override_bindings
from tests.zoo.models import Animal, Feather, Food, Keeper

pytestmark = pytest.mark.django_db


class ByKeeper(WebsocketBinding):
    """A binding of animals in the group of their keeper's name."""

    model = Animal
    stream = "animals"
    fields = ["name"]
    also = ["keeper"]

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return [f"of-{instance.keeper.name}"] if instance.keeper_id else []


class ByFeathers(WebsocketBinding):
    """A binding of animals in a group for each colour of their feathers."""

    model = Animal
    stream = "feathered"
    fields = ["name"]
    also = ["feather"]

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return sorted(set(instance.feather_set.values_list("colour", flat=True)))


class ByFoods(WebsocketBinding):
    """A binding of animals in a group for each of their foods."""

    model = Animal
    stream = "fed"
    fields = ["name", "foods"]

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return sorted(instance.foods.values_list("name", flat=True))


class ByTemplate(WebsocketBinding):
    """A binding of the same model whose groups are templates."""

    model = Animal
    stream = "plain"
    fields = ["name"]
    groups = ["kind-{kind}"]
    also = ["keeper"]


@pytest.fixture
def ann() -> Keeper:
    return Keeper.objects.create(name="ann")


@pytest.fixture
def owl(ann: Keeper) -> Animal:
    return Animal.objects.create(name="owl", keeper=ann)


def rename(keeper: Keeper) -> None:
    keeper.name = "bea"
    keeper.save()


def rename_one(keeper: Keeper) -> None:
    keeper.name = "bea"
    keeper.save(update_fields=["name"])


def rename_by_update(keeper: Keeper) -> None:
    Keeper.objects.filter(pk=keeper.pk).update(name="bea")


def rename_in_bulk(keeper: Keeper) -> None:
    keeper.name = "bea"
    Keeper.objects.bulk_update([keeper], ["name"])


RENAMES = [rename, rename_one, rename_by_update, rename_in_bulk]


def check_that_a_row_leaves_the_group_of_the_old_name(ann: Keeper, owl: Animal, write: Any) -> None:
    kind = owl.kind
    with override_bindings(ByKeeper, ByTemplate), capture_events() as events:
        write(ann)
    assert sorted((event.stream, event.pk, event.changes) for event in events) == [
        ("animals", owl.pk, [("of-ann", "delete"), ("of-bea", "create")]),
        ("plain", owl.pk, [(f"kind-{kind}", "update")]),
    ]


@pytest.mark.parametrize("write", RENAMES)
def test_a_row_leaves_the_group_of_the_old_name(ann: Keeper, owl: Animal, write: object) -> None:
    """The old groups are those before the write, for every kind of write."""
    check_that_a_row_leaves_the_group_of_the_old_name(ann, owl, write)


def test_groups_read_only_after_the_write_are_detected(
    ann: Keeper, owl: Animal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the previous test."""
    monkeypatch.setattr(WrittenRows, "unknown", lambda *args: [])
    with pytest.raises(AssertionError):
        check_that_a_row_leaves_the_group_of_the_old_name(ann, owl, rename)


def test_a_row_that_stays_in_its_group_is_reported_once(ann: Keeper, owl: Animal) -> None:
    """It gets one update."""
    with override_bindings(ByKeeper), capture_events() as events:
        ann.retired = True
        ann.save()
    assert [event.changes for event in events] == [[("of-ann", "update")]]


def test_deleting_a_related_row_moves_its_rows(ann: Keeper, owl: Animal) -> None:
    """The rows leave the groups that depend on it."""
    feather = Feather.objects.create(animal=owl, colour="red")
    Feather.objects.create(animal=owl, colour="blue")
    with override_bindings(ByFeathers), capture_events() as events:
        feather.delete()
    assert [event.changes for event in events] == [[("red", "delete"), ("blue", "update")]]


def test_creating_a_related_row_moves_its_rows(owl: Animal) -> None:
    """The old groups are those before the insert, of one or of many rows."""
    Feather.objects.create(animal=owl, colour="blue")
    with override_bindings(ByFeathers), capture_events() as events:
        Feather.objects.create(animal=owl, colour="red")
        Feather.objects.bulk_create([Feather(animal=owl, colour="green")])
    assert [event.changes for event in events] == [
        [("blue", "update"), ("red", "create")],
        [("blue", "update"), ("red", "update"), ("green", "create")],
    ]


def test_moving_a_related_row_moves_both_of_its_rows(ann: Keeper, owl: Animal) -> None:
    """Each of the two rows leaves or enters the group."""
    crow = Animal.objects.create(name="crow", keeper=ann)
    feather = Feather.objects.create(animal=owl, colour="red")
    with override_bindings(ByFeathers), capture_events() as events:
        feather.animal = crow
        feather.save()
    assert sorted((event.pk, event.changes) for event in events) == [
        (owl.pk, [("red", "delete")]),
        (crow.pk, [("red", "create")]),
    ]


def test_unknown_old_groups_cause_a_resync(ann: Keeper, owl: Animal) -> None:
    """Which rows the value of an update refers to is known only after the write."""
    crow = Animal.objects.create(name="crow", keeper=ann)
    Feather.objects.create(animal=owl, colour="red")
    with override_bindings(ByFeathers), capture_events() as events:
        Feather.objects.update(animal=crow)
    assert [(event.kind, event.changes) for event in events] == [
        ("row", [("red", "delete")]),
        ("bulk", [(EVERY_GROUP, "resync")]),
    ]


def test_rows_of_a_list_leave_their_groups(owl: Animal) -> None:
    """This holds for `add`, `remove`, `set` and `clear`."""
    hay, mice = Food.objects.create(name="hay"), Food.objects.create(name="mice")
    with override_bindings(ByFoods), capture_events() as events:
        owl.foods.add(hay)
        owl.foods.add(mice)
        owl.foods.remove(hay)
        owl.foods.clear()
    assert [event.changes for event in events] == [
        [("hay", "create")],
        [("hay", "update"), ("mice", "create")],
        [("hay", "delete"), ("mice", "update")],
        [("mice", "delete")],
    ]


def test_set_of_a_list_moves_a_row_once(owl: Animal) -> None:
    """Its removals and additions are one change."""
    hay, mice = Food.objects.create(name="hay"), Food.objects.create(name="mice")
    owl.foods.add(hay)
    with override_bindings(ByFoods), capture_events() as events:
        owl.foods.set([mice])
        owl.foods.set([mice, hay])
    assert [event.changes for event in events] == [
        [("hay", "delete"), ("mice", "create")],
        [("mice", "update"), ("hay", "create")],
    ]


@pytest.mark.needs_triggers
def test_a_mark_of_a_trigger_causes_a_resync(ann: Keeper, owl: Animal) -> None:
    """Raw SQL renames the keeper, so the old groups are unknown. The binding without code gets its event."""
    bindings = [type(f"Marked{cls.__name__}", (cls,), {"capture": "triggers"}) for cls in (ByKeeper, ByTemplate)]
    with override_bindings(*bindings):
        upkeep.install("default")
        with capture_events() as events, connection.cursor() as cursor:
            cursor.execute("UPDATE zoo_keeper SET name = 'bea'")
    assert sorted((event.stream, event.changes) for event in events) == [
        ("animals", [(EVERY_GROUP, "resync")]),
        ("plain", [(f"kind-{owl.kind}", "update")]),
    ]
