"""Rows that another transaction commits between the reads of capture and the write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.db.models import Model

from declbind.core.frames import EVERY_GROUP
from declbind.outbound import batch, deletes, writes
from tests.captured_events import uncaptured, watching
from tests.json_types import JSONObject
from tests.zoo.models import Animal, Food, Keeper, Truck, Vehicle

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "sqlite", reason="There the transaction has the only lock since it began."),
]

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"]}
ANIMALS = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "keeper"]}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}

DELETES: dict[str, Callable[[], object]] = {
    "delete": lambda: Keeper.objects.filter(name__in=["a", "late"]).delete(),
    "raw delete": lambda: Keeper.objects.filter(name__in=["a", "late"])._raw_delete("default"),
}


@pytest.mark.parametrize("name", DELETES)
def test_a_row_that_is_inserted_before_a_delete_stays(name: str) -> None:
    """A delete is limited to the rows that were read: another row would be deleted without an event."""
    Keeper.objects.create(name="a")
    read = batch.Batch.will_delete

    def meddle(self: Any, plan: Any, chosen: Any) -> object:
        keys = read(self, plan, chosen)
        with uncaptured():
            Keeper.objects.create(name="late")
        return keys

    with patch.object(batch.Batch, "will_delete", meddle), watching(KEEPERS) as events:
        DELETES[name]()
    assert [event.data["name"] for event in events] == ["a"]
    assert list(Keeper.objects.values_list("name", flat=True)) == ["late"]


def test_a_delete_of_all_matching_rows_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the delete uses the query as it was given."""
    monkeypatch.setattr(deletes, "only", lambda rows, keys, using: rows)
    with pytest.raises(AssertionError):
        test_a_row_that_is_inserted_before_a_delete_stays("raw delete")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Elsewhere reading the keys locks the rows.")
def test_a_row_that_is_inserted_before_a_cascade_stays() -> None:
    """Rows set to null, and rows of a list, are those that were read."""
    ann, hay = Keeper.objects.create(name="Ann"), Food.objects.create(name="hay")
    owl, late = Animal.objects.create(name="Owl", slug="o", keeper=ann), Animal.objects.create(name="Late", slug="l")
    owl.foods.add(hay)
    original = deletes._locked

    def meddle(rows: Any, *args: Any) -> object:
        found = original(rows, *args)
        with uncaptured():
            late.foods.add(hay)
        return found

    with patch.object(deletes, "_locked", meddle), watching(FED) as events:
        Animal.foods.through.objects.filter(food=hay).delete()
    assert [event.pk for event in events] == [owl.pk]
    assert list(late.foods.all()) == [hay]


def find_no_conflicts(model: type[Model], *args: object) -> list[object]:
    """Find none of the rows that an upsert will conflict with."""
    return [model._base_manager.none()]


UPSERT: JSONObject = {"update_conflicts": True}
UPSERTS: dict[str, tuple[JSONObject, Callable[[], object]]] = {
    "related rows": (
        {**ANIMALS, "also": ["foods"]},
        lambda: Food.objects.bulk_create(
            [Food(name="hay", poisonous=True)], unique_fields=["name"], update_fields=["poisonous"], **UPSERT
        ),
    ),
    "children": (
        {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate"]},
        lambda: Vehicle.objects.bulk_create(
            [Vehicle(plate="A")], unique_fields=["plate"], update_fields=["plate"], **UPSERT
        ),
    ),
    "lists": (
        FED,
        lambda: Animal.foods.through.objects.bulk_create(
            [Animal.foods.through(animal=Animal.objects.get(), food=Food.objects.get())],
            unique_fields=["animal", "food"], update_fields=["food"], **UPSERT,
        ),
    ),
}  # fmt: skip


@pytest.mark.skipif(connection.vendor != "postgresql", reason="MySQL takes no target, so every group is told anyway.")
@pytest.mark.parametrize("name", UPSERTS)
def test_an_upsert_of_a_concurrently_committed_row_resyncs_every_stream(name: str) -> None:
    """The old groups are unknown for every stream of the table."""
    binding, write = UPSERTS[name]
    owl, hay = Animal.objects.create(name="Owl"), Food.objects.create(name="hay")
    owl.foods.add(hay)
    Truck.objects.create(plate="A")
    with watching(binding) as events, patch("declbind.outbound.inserts._met", side_effect=find_no_conflicts):
        write()
    assert [(EVERY_GROUP, "resync")] in [event.changes for event in events]
    with watching(binding) as events:
        write()
    assert [(EVERY_GROUP, "resync")] not in [event.changes for event in events]


def test_only_rows_that_were_read_are_written() -> None:
    """``None`` means all rows."""
    rows = Keeper.objects.bulk_create([Keeper(name="a"), Keeper(name="b")])
    assert writes.only(Keeper.objects.all(), [rows[0].pk], "default").get().name == "a"
    assert writes.only(Keeper.objects.all(), None, "default").count() == 2
