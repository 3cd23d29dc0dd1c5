"""Rows that are deleted without a statement of their own: by `REPLACE`, or by a foreign key to their own table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.utils import IntegrityError
from pytest_django import Settings

from tests.test_trigger_reporting import marking, run
from tests.zoo.models import Food

pytestmark = [pytest.mark.django_db, pytest.mark.needs_triggers]

FOODS = {"stream": "foods", "model": "zoo.Food", "fields": ["name", "poisonous"], "capture": "triggers"}
NODES = {"stream": "nodes", "model": "zoo.Node", "fields": ["name"], "capture": "triggers"}

sqlite_only = pytest.mark.skipif(connection.vendor != "sqlite", reason="Only SQLite replaces rows by an insert.")


def told(events: list[Any]) -> list[Any]:
    return [(int(event.pk), event.changes[0][1], event.data.get("name")) for event in events]


@sqlite_only
@pytest.mark.parametrize("is_recursive", [False, True])
def test_replaced_rows_are_deleted_and_the_new_one_is_created(is_recursive: bool) -> None:
    """The new row has another key or the same, or replaces two rows. A row without conflicts is only inserted."""
    hay, nuts, figs = (Food.objects.create(name=name) for name in ("hay", "nuts", "figs"))
    run(f"PRAGMA recursive_triggers = {int(is_recursive)}")
    try:
        with marking(FOODS) as events:
            run("INSERT OR REPLACE INTO zoo_food (id, name, poisonous) VALUES (900, 'hay', 1)")
            run("REPLACE INTO zoo_food (id, name, poisonous) VALUES (%s, 'oats', 0)", nuts.pk)
            run("REPLACE INTO zoo_food (id, name, poisonous) VALUES (%s, 'hay', 0)", figs.pk)
            run("REPLACE INTO zoo_food (id, name, poisonous) VALUES (901, 'new', 0)")
    finally:
        run("PRAGMA recursive_triggers = 0")
    found = told(events)
    assert found[:2] == [(hay.pk, "delete", "hay"), (900, "create", "hay")]
    assert found[-1] == (901, "create", "new")
    state: dict[int, str] = {hay.pk: "hay", nuts.pk: "nuts", figs.pk: "figs"}
    for key, action, name in found:
        if action == "delete":
            del state[key]
        else:
            assert (key in state) == (action == "update")
            state[key] = name
    assert state == dict(Food.objects.values_list("pk", "name"))
    if not is_recursive:
        assert found[2] == (nuts.pk, "update", "oats")


@sqlite_only
def test_rows_that_only_conflict_with_an_insert_stay() -> None:
    """Ignored, refused and updated rows are not replaced."""
    hay = Food.objects.create(name="hay")
    with marking(FOODS) as events:
        run("INSERT OR IGNORE INTO zoo_food (name, poisonous) VALUES ('hay', 1)")
        run(
            "INSERT INTO zoo_food (name, poisonous) VALUES ('hay', 1)"
            " ON CONFLICT (name) DO UPDATE SET poisonous = excluded.poisonous"
        )
        with pytest.raises(IntegrityError):
            run("INSERT INTO zoo_food (name, poisonous) VALUES ('hay', 0)")
        run("INSERT OR IGNORE INTO zoo_food (name, poisonous) VALUES ('hay', 1), ('new', 1)")
        Food.objects.bulk_create([Food(name="hay"), Food(name="newer")], ignore_conflicts=True)
    assert [(action, name) for _, action, name in told(events)] == [
        ("update", "hay"), ("create", "new"), ("create", "newer"),
    ]  # fmt: skip
    assert told(events)[0][0] == hay.pk


@sqlite_only
def test_candidates_do_not_count_towards_the_limit(settings: Settings) -> None:
    """An upsert at the limit is reported row by row."""
    settings.DECLBIND = {"BULK_LIMIT": 3}
    for name in "abc":
        Food.objects.create(name=name)
    with marking(FOODS) as events:
        run(
            "INSERT INTO zoo_food (name, poisonous) SELECT name, 1 FROM zoo_food WHERE true"
            " ON CONFLICT (name) DO UPDATE SET poisonous = 1"
        )
    assert [event.kind for event in events] == ["row"] * 3


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Return a table with a foreign key to itself, whose rows are deleted with the rows they refer to."""

    class Node(models.Model):
        name = models.CharField(max_length=20)
        parent = models.ForeignKey("self", null=True, on_delete=models.DO_NOTHING, db_constraint=False)

        class Meta:
            app_label = "zoo"

    number = "integer PRIMARY KEY AUTOINCREMENT" if connection.vendor == "sqlite" else "bigserial PRIMARY KEY"
    run(
        f"CREATE TABLE zoo_node (id {number}, name varchar(20) NOT NULL,"
        " parent_id bigint NULL REFERENCES zoo_node (id) ON DELETE CASCADE)"
    )
    yield Node
    connection.check_constraints()
    run("DROP TABLE zoo_node")
    del apps.all_models["zoo"]["node"]
    apps.clear_cache()


@pytest.mark.parametrize("by", ["orm", "sql"])
def test_rows_deleted_by_a_foreign_key_to_their_own_table_are_reported(nodes: Any, by: str) -> None:
    """The statement deletes the first row of a chain."""
    above = None
    for name in ("a", "b", "c"):
        above = nodes.objects.create(name=name, parent=above)
    with marking(NODES) as events:
        first = nodes.objects.get(name="a")
        if by == "orm":
            nodes.objects.filter(pk=first.pk).delete()
        else:
            run("DELETE FROM zoo_node WHERE id = %s", first.pk)
    assert sorted(name for _, _, name in told(events)) == ["a", "b", "c"]
    assert {action for _, action, _ in told(events)} == {"delete"}
    assert not nodes.objects.exists()
