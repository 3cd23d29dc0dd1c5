"""Two models on one table: what is written by the one that is not bound is reported to the bindings of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import models
from django.db.migrations.state import ProjectState

from declbind.testing import capture_events, override_bindings
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db

BY_NAME = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"], "groups": ["n-{name}"]}


@pytest.fixture
def second() -> Iterator[Any]:
    """Another model on the table of keepers, which calls a column by another name and lacks one."""

    class Second(models.Model):
        title = models.CharField(max_length=40, db_column="name")
        retired = models.BooleanField(default=False)

        class Meta:
            app_label = "zoo"
            db_table = "zoo_keeper"
            managed = False

    yield Second
    del apps.all_models["zoo"]["second"]
    apps.clear_cache()


def save(row: Any) -> None:
    row.title = "b"
    row.save()


def bulk_update(row: Any) -> None:
    row.title = "b"
    type(row).objects.bulk_update([row], ["title"])


WRITES: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "create": (lambda row: type(row).objects.create(title="n"), [[("n-n", "create")]]),
    "save": (save, [[("n-a", "delete"), ("n-b", "create")]]),
    "update": (lambda row: type(row).objects.update(title="b"), [[("n-a", "delete"), ("n-b", "create")]]),
    "bulk_update": (bulk_update, [[("n-a", "delete"), ("n-b", "create")]]),
    "bulk_create": (lambda row: type(row).objects.bulk_create([type(row)(title="n")]), [[("n-n", "create")]]),
    "ignored": (
        lambda row: type(row).objects.bulk_create([type(row)(pk=row.pk, title="x")], ignore_conflicts=True), [],
    ),
    "delete": (lambda row: row.delete(), [[("n-a", "delete")]]),
    "delete of all": (lambda row: type(row).objects.all().delete(), [[("n-a", "delete")]]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_writes_by_the_model_that_is_not_bound_are_reported(second: Any, name: str) -> None:
    """By the names and with the values of the bound one."""
    write, expected = WRITES[name]
    with override_bindings():
        row = second.objects.create(title="a")
    with override_bindings(BY_NAME), capture_events() as events:
        write(row)
    assert [event.changes for event in events] == expected
    for event in events:
        assert set(event.data) == {"name", "retired"}


def test_models_of_migrations_are_left_alone(second: Any) -> None:
    """Their table may lack what the present model has."""
    historical: Any = ProjectState.from_apps(apps).apps.get_model("zoo", "Keeper")
    with override_bindings(BY_NAME), capture_events() as events:
        historical.objects.create(name="a")
    assert events == []


def test_a_model_with_another_key_is_left_alone() -> None:
    """Its keys name no rows of the bound one."""

    class Third(models.Model):
        name = models.CharField(max_length=40, primary_key=True)
        retired = models.BooleanField(default=False)

        class Meta:
            app_label = "zoo"
            db_table = "zoo_keeper"
            managed = False

    try:
        Keeper.objects.create(name="a")
        with override_bindings(BY_NAME), capture_events() as events:
            third: Any = Third
            third.objects.filter(pk="a").update(retired=True)
        assert events == []
    finally:
        del apps.all_models["zoo"]["third"]
        apps.clear_cache()
