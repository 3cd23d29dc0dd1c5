"""Rows as columns: events hold the stored values, whatever a model does between a row and its instance."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.models.signals import post_init
from django.utils import timezone, translation

from declbind import WebsocketBinding
from declbind.live.snapshots import read_snapshot
from declbind.outbound import drafts
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.zoo import guests

pytestmark = pytest.mark.django_db

MODELS = [guests.Remembering, guests.Locked, guests.Speaking, guests.Counted, guests.Versioned, guests.Kept]


def record(model: Any, stream: str = "notes", **keys: Any) -> dict[str, Any]:
    return {"stream": stream, "model": model._meta.label, "fields": "__all__", "groups": ["room-{room}"], **keys}


def stored(model: Any, pk: Any) -> dict[str, Any]:
    """Return the stored row, bypassing Django."""
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    names = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    table, key = map(connection.ops.quote_name, (model._meta.db_table, model._meta.pk.column))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {names} FROM {table} WHERE {key} = %s", [pk])
        values = cursor.fetchone()
    return {
        field.name: bool(value) if isinstance(field, models.BooleanField) else value
        for field, value in zip(fields, values, strict=True)
    }


def make(model: Any, **values: Any) -> Any:
    """Insert a row and return an instance of it that was not loaded."""
    row = model(**values)
    row.save()
    return row


def save(row: Any) -> None:
    row.save()


def save_one(row: Any) -> None:
    row.save(update_fields=["text"])


def update(row: Any) -> None:
    models.QuerySet(type(row)).filter(pk=row.pk).update(text=row.text, room=row.room)


def bulk_update(row: Any) -> None:
    models.QuerySet(type(row)).bulk_update([row], ["text", "room"])


WRITES = [save, save_one, update, bulk_update]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("model", MODELS)
def test_an_update_is_what_was_stored(model: Any, write: Any) -> None:
    """The data and the groups are those of the stored row, for each kind of update."""
    row = make(model, text="one", room=1)
    row.text, row.room = "two", 2
    with override_bindings(record(model)), capture_events() as events, translation.override("de"):
        write(row)
    now = stored(model, row.pk)
    moved = [("room-1", "delete"), (f"room-{now['room']}", "create")] if now["room"] != 1 else [("room-1", "update")]
    assert [(event.kind, event.changes, event.data) for event in events] == [("row", moved, now)]


@pytest.mark.parametrize("model", MODELS)
def test_a_new_row_is_what_was_stored(model: Any) -> None:
    """The data and the groups are those of the stored row, for each kind of insert."""
    with override_bindings(record(model)), capture_events() as events, translation.override("de"):
        pk = make(model, text="one").pk
        models.QuerySet(model).bulk_create([model(text="two")])
    other = models.QuerySet(model).order_by("-pk").values_list("pk", flat=True)[0]
    assert [(event.pk, event.data) for event in events] == [(pk, stored(model, pk)), (other, stored(model, other))]


@pytest.mark.parametrize("model", MODELS)
def test_a_deleted_row_is_what_was_stored(model: Any) -> None:
    """The data and the groups are those of the stored row, for each kind of delete."""
    row = make(model, text="one")
    pk, last = row.pk, stored(model, row.pk)
    with override_bindings(record(model)), capture_events() as events, translation.override("de"):
        row.delete()
    assert [(event.kind, event.pk, event.data) for event in events] == [("gone", pk, last)]


@pytest.mark.parametrize("model", MODELS)
def test_a_snapshot_is_what_was_stored(model: Any) -> None:
    """The snapshot finds the row by its stored values."""
    row = make(model, text="one")
    with override_bindings(record(model)), translation.override("de"):
        binding = get_registry().by_stream["notes"]
        bound = binding(using="default")
        pages = read_snapshot(bound, "room-1", {"room": 1}, "default").pages
    assert [pk for page in pages for pk, _ in page] == [str(row.pk)]


@pytest.mark.parametrize("model", MODELS)
def test_no_instance_is_made(model: Any) -> None:
    """Neither a write nor a snapshot makes an instance. Control: a class whose instances are made is detected."""
    row = make(model, text="one")
    made: list[Any] = []
    with override_bindings(record(model), record(model, "where", where={"room": [1, 2]})):
        post_init.connect(lambda **kwargs: made.append(kwargs["instance"]), sender=model, weak=False, dispatch_uid="t")
        try:
            for write in WRITES:
                write(row)
            read_snapshot(get_registry().by_stream["notes"](using="default"), "room-1", {"room": 1}, "default")
            row.delete()
        finally:
            post_init.disconnect(sender=model, dispatch_uid="t")
    assert made == []


def test_moments_do_not_depend_on_the_zone_of_the_thread() -> None:
    """The same write in another time zone is the same event."""
    told = []
    for zone in ("UTC", "Asia/Kathmandu"):
        with override_bindings(record(guests.Kept)), capture_events() as events, timezone.override(zone):
            make(guests.Kept, text="x")
        told.append([(event.changes, event.data) for event in events])
    assert told[0] == told[1]


class ByCode(WebsocketBinding):
    model = guests.Locked
    stream = "by-code"
    fields = ["text"]

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        return {"text": instance.text}


class Beside(WebsocketBinding):
    model = guests.Locked
    stream = "beside"
    fields = ["text"]


def check_that_an_instance_that_cannot_be_made_costs_one_binding() -> None:
    row = make(guests.Locked, text="one")
    with override_bindings(ByCode, Beside), capture_events() as events, transaction.atomic():
        row.save()
        assert guests.Locked.objects.filter(pk=row.pk).update(text="two") == 1
    told = [(event.stream, event.kind) for event in events]
    assert sorted(told) == [("beside", "row")] * 2 + [("by-code", "bulk")] * 2


def test_an_instance_that_cannot_be_made_affects_one_binding() -> None:
    """Code of the project gets whole instances, which are made inside the guard."""
    check_that_an_instance_that_cannot_be_made_costs_one_binding()


def test_an_instance_made_outside_of_the_guard_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the error reaches the writer."""
    original = drafts.groups_of

    def eager(plan, row, *args):
        return original(plan, row.make_instance(plan.model), *args)

    for module in ("batch", "saved_rows", "written_rows"):
        monkeypatch.setattr(f"declbind.outbound.{module}.groups_of", eager)
    with pytest.raises((AssertionError, PermissionError)):
        check_that_an_instance_that_cannot_be_made_costs_one_binding()


def test_code_sees_a_whole_instance_of_its_model() -> None:
    """The instance has all columns, and counts as loaded."""
    seen: list[Any] = []

    class Looking(WebsocketBinding):
        model = guests.Remembering
        stream = "looking"
        fields = ["text"]

        @classmethod
        def group_names(cls, instance):
            seen.append((type(instance), instance.get_deferred_fields(), instance._state.adding, instance.was))
            return ["all"]

    row = make(guests.Remembering, text="one", room=3)
    with override_bindings(Looking):
        row.save()
    assert seen == [(guests.Remembering, set(), False, ("one", 3))] * 2


def test_a_key_is_sent_as_it_is_stored() -> None:
    """`bulk_create` and a snapshot send the same: a decimal number with all its places."""
    with override_bindings(record(guests.Rounded)), capture_events() as events:
        guests.Rounded.objects.bulk_create([guests.Rounded(id=2, text="x")])
        guests.Rounded(id="3.5", text="y").save()
    bound = record(guests.Rounded)
    with override_bindings(bound):
        read = read_snapshot(get_registry().by_stream["notes"](using="default"), "room-1", {"room": 1}, "default")
    assert [event.pk for event in events] == ["2.000", "3.500"]
    assert [pk for page in read.pages for pk, _ in page] == ['"2.000"', '"3.500"']
