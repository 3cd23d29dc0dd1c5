"""Two models on one table: writes by one are reported to the bindings of the other too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations.state import ProjectState

import declbind
from declbind.outbound import index, sequencer
from declbind.outbound.triggers import marks, upkeep
from declbind.outbound.triggers.tables import captured_tables
from declbind.testing import capture_events, override_bindings
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db

BY_NAME = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"], "groups": ["n-{name}"]}


@pytest.fixture
def second() -> Iterator[Any]:
    """Return another model on the table of keepers, with another name for one column and without another."""

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
    """The events have the names and values of the bound model."""
    write, expected = WRITES[name]
    with override_bindings():
        row = second.objects.create(title="a")
    with override_bindings(BY_NAME), capture_events() as events:
        write(row)
    assert [event.changes for event in events] == expected
    for event in events:
        assert set(event.data) == {"name", "retired"}


def test_models_of_migrations_are_not_reported(second: object) -> None:
    """Their table may lack columns that the present model has."""
    historical: Any = ProjectState.from_apps(apps).apps.get_model("zoo", "Keeper")
    with override_bindings(BY_NAME), capture_events() as events:
        historical.objects.create(name="a")
    assert events == []


def test_writes_of_a_model_with_another_key_are_not_reported() -> None:
    """Its keys do not identify rows of the bound model."""

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


# Two bound models ----------------------------------------------------------------------------------------------------

BY_TITLE = {"stream": "seconds", "model": "zoo.Second", "fields": ["title"], "groups": ["t-{title}"]}


def events_of_both(events: Any) -> list[Any]:
    """Return the events of each model: the stream, the changes without the prefix of a group, and the title."""
    return sorted(
        (event.stream, [(group[2:], action) for group, action in event.changes], event.data.get("title", "-"))
        for event in events
    )


def of_both(changes: Any) -> list[Any]:
    """Return the events of both models, given the changes of one."""
    last = changes[-1][0][2:]
    bare = [(group[2:], action) for group, action in changes]
    return [("keepers", bare, "-"), ("seconds", bare, last)]


def save_name(row: Any) -> None:
    row.name = "b"
    row.save()


def bulk_update_names(row: Any) -> None:
    row.name = "b"
    Keeper.objects.bulk_update([row], ["name"])


def upsert_names(row: Any) -> None:
    new = Keeper(pk=row.pk, name="b")
    Keeper.objects.bulk_create([new], update_conflicts=True, unique_fields=["pk"], update_fields=["name"])


MOVED: list[Any] = [[("n-a", "delete"), ("n-b", "create")]]
BY_THE_FIRST: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "create": (lambda row: Keeper.objects.create(name="n"), [[("n-n", "create")]]),
    "save": (save_name, MOVED),
    "update": (lambda row: Keeper.objects.update(name="b"), MOVED),
    "bulk_update": (bulk_update_names, MOVED),
    "bulk_create": (lambda row: Keeper.objects.bulk_create([Keeper(name="n")]), [[("n-n", "create")]]),
    "ignored": (lambda row: Keeper.objects.bulk_create([Keeper(pk=row.pk, name="x")], ignore_conflicts=True), []),
    "delete": (lambda row: row.delete(), [[("n-a", "delete")]]),
    "delete of all": (lambda row: Keeper.objects.all().delete(), [[("n-a", "delete")]]),
    "raw delete": (lambda row: Keeper.objects.all()._raw_delete("default"), [[("n-a", "delete")]]),
    "touch": (lambda row: declbind.touch([row]), [[("n-a", "update")]]),
}
if connection.vendor != "mysql":  # where an upsert has no target
    BY_THE_FIRST["upsert"] = (upsert_names, MOVED)
EACH_WAY = [*((name, "second") for name in WRITES), *((name, "first") for name in BY_THE_FIRST)]


def check_that_both_are_told(second: Any, name: str, writer: str, **keys: object) -> None:
    write, expected = (WRITES if writer == "second" else BY_THE_FIRST)[name]
    with override_bindings():
        row = second.objects.create(title="a")
        sequencer.settle("default")
    with override_bindings({**BY_NAME, **keys}, {**BY_TITLE, **keys}), capture_events() as events:
        write(row if writer == "second" else Keeper(pk=row.pk, name=row.title, retired=row.retired))
    assert events_of_both(events) == (of_both(expected[0]) if expected else [])


@pytest.mark.parametrize(("name", "writer"), EACH_WAY)
def test_a_write_of_one_of_two_bound_models_is_reported_for_both(second: object, name: str, writer: str) -> None:
    """Each has its own names, whichever of the two was written."""
    check_that_both_are_told(second, name, writer)


@pytest.mark.parametrize(("name", "writer"), [("save", "first"), ("delete", "second"), ("create", "first")])
def test_reporting_one_of_them_is_detected(
    second: object, name: str, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a variant without the other model."""
    monkeypatch.setattr(index, "_are_twins", lambda one, other: False)
    with pytest.raises(AssertionError):
        check_that_both_are_told(second, name, writer)


@pytest.fixture
def marked(second: object) -> Iterator[object]:
    """Return the second model, with triggers for bindings of both."""
    with override_bindings({**BY_NAME, "capture": "triggers"}, {**BY_TITLE, "capture": "triggers"}):
        upkeep.install("default")
        try:
            yield second
        finally:
            upkeep.remove("default")


RAW: dict[str, tuple[str, object]] = {
    "insert": ("INSERT INTO zoo_keeper (name, retired) VALUES ('n', '0')", [("n-n", "create")]),
    "update": ("UPDATE zoo_keeper SET name = 'b'", MOVED[0]),
    "delete": ("DELETE FROM zoo_keeper", [("n-a", "delete")]),
}


def check_that_raw_sql_is_told_of_both(name: str) -> None:
    statement, expected = RAW[name]
    with override_bindings():
        if name != "insert":
            Keeper.objects.create(name="a")
        sequencer.settle("default")
    keys = {"capture": "triggers"}
    with override_bindings({**BY_NAME, **keys}, {**BY_TITLE, **keys}), capture_events() as events:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        sequencer.settle("default")
    assert events_of_both(events) == of_both(expected)


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", RAW)
def test_raw_sql_is_reported_for_both_bound_models(marked: object, name: str) -> None:
    """The names and values are those of each model."""
    check_that_raw_sql_is_told_of_both(name)


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", RAW)
def test_marks_of_one_model_would_be_caught(marked: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that reads a mark as a row of the first model only."""
    monkeypatch.setattr(
        marks, "captured_tables", lambda now: {name: one[:1] for name, one in captured_tables(now).items()}
    )
    with pytest.raises(AssertionError):
        check_that_raw_sql_is_told_of_both(name)


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "writer"), [(name, writer) for name, writer in EACH_WAY if name != "touch"])
def test_triggers_report_both_bound_models(marked: object, name: str, writer: str) -> None:
    """Each is reported once: the hooks stand down for both."""
    check_that_both_are_told(marked, name, writer, capture="triggers")


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("writer", ["first", "second"])
def test_each_binding_has_its_own_way_of_capture(second: Any, writer: str) -> None:
    """The triggers report to one binding, and the hooks to the other."""
    bindings = {**BY_NAME, "capture": "triggers"}, BY_TITLE
    with override_bindings(*bindings):
        upkeep.install("default")
        try:
            with override_bindings(*bindings), capture_events() as events:
                if writer == "first":
                    Keeper.objects.create(name="n")
                else:
                    second.objects.create(title="n")
        finally:
            upkeep.remove("default")
    assert events_of_both(events) == of_both([("n-n", "create")])
