"""The plants of writes: each makes a cause real for which a change was not captured or not sent."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import serializers
from django.db import connection, transaction
from django.db.models import QuerySet, sql
from django.db.models.sql.constants import ROW_COUNT
from django.test import override_settings
from django.utils import timezone

from declbind.models import BindingRecord, Event
from declbind.outbound import log
from declbind.outbound.capture import find_faults
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias, refresh
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.zoo.models import Truck, Vehicle

from .kinds import fails_for
from .world import C, Planted, World, asked, plant

# Writes without an event ---------------------------------------------------------------------------------------------


@plant(without="triggers")
def raw_update(world: World) -> Planted:
    world.prepare()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


@plant(without="file triggers")
def raw_update_after_another_edit(world: World) -> Planted:
    """The version of the configuration has moved, and the definition of this stream has not."""
    world.prepare()
    BindingRecord.objects.create(stream="another", model="blog.Post", fields=["title"])
    refresh()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


@plant("record")
def raw_update_after_a_harmless_edit(world: World) -> Planted:
    world.prepare()
    world.holder.description = "Better words."
    world.holder.save()
    refresh()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


@plant("record")
def raw_update_after_more_fields(world: World) -> Planted:
    world.prepare()
    world.holder.fields = ["value", "name", "id"]
    world.holder.fields = ["value"]
    world.holder.save()
    refresh()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


@plant(without="scope parent child payload triggers")
def raw_update_after_a_bulk_event(world: World) -> Planted:
    world.prepare()
    with override_settings(DECLBIND={**settings.DECLBIND, "BULK_LIMIT": 1}):
        world.kind.make(name=world.row.name)
        world.kind.make(name=world.row.name)
        IntegerValue.objects.exclude(pk=world.row.pk).update(value=50)
        world.settle()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


@plant(without="scope parent child payload triggers")
def one_of_a_bulk(world: World) -> Planted:
    world.prepare()
    with override_settings(DECLBIND={**settings.DECLBIND, "BULK_LIMIT": 1}):
        world.kind.make(name=world.row.name)
        IntegerValue.objects.update(value=50)
        world.settle()
    return asked(world, C.BULK_RESYNC, C.SENT)


@plant(without="payload triggers")
def raw_update_after_the_time_asked(world: World) -> Planted:
    """The change in question was sent; a silent write and another change came later."""
    world.prepare()
    sent_at = timezone.now() - timedelta(minutes=20)
    Event.objects.update(created_at=sent_at)
    world.kind.change(world.row, 8)
    world.settle()
    world.kind.write_silently(world.row, 7)
    return replace(asked(world, C.SENT, at=sent_at), timeless=frozenset({C.NOT_CAPTURED}))


@plant(without="child triggers")
def raw_delete(world: World) -> Planted:
    world.prepare()
    world.kind.delete_silently(world.row)
    return asked(world, C.NOT_CAPTURED)


@plant(without="parent child scope triggers")
def raw_insert(world: World) -> Planted:
    world.prepare()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO example_integervalue (name, value) VALUES ('a', 5)")
    row = IntegerValue.objects.latest("pk")
    return asked(world, C.NOT_CAPTURED, row=row.pk)


@plant(without="payload triggers")
def fixture_while_raw_capture_is_off(world: World) -> Planted:
    world.prepare()
    setattr(world.row, world.kind.column, "8" if world.kind.column in ("plate", "name") else 8)
    parents = [Vehicle.objects.get(pk=world.row.pk)] if "child" in world.kind.traits else []
    text = serializers.serialize("json", [*parents, world.row])
    with override_settings(DECLBIND={**settings.DECLBIND, "CAPTURE_RAW": False}):
        for each in serializers.deserialize("json", text):
            each.save()
    return asked(world, C.NOT_CAPTURED)


@plant(without="file")
def serializer_of_events_differs(world: World) -> Planted:
    """A control of the plants: an ordinary change, which was sent."""
    world.prepare()
    world.kind.change(world.row, 7)
    world.settle()
    return asked(world, C.SENT)


@plant(without="child triggers")
def update_past_a_replaced_hook(world: World) -> Planted:
    """Another package has replaced a method of Django with one that does not call declbind's wrapper."""
    world.prepare()
    column = world.kind.column
    value = "8" if column in ("plate", "name") else 8
    captured = QuerySet.update

    def update(self: Any, **values: Any) -> Any:
        query = self.query.chain(sql.UpdateQuery)
        query.add_update_values(values)
        return query.get_compiler(self.db).execute_sql(ROW_COUNT)

    QuerySet.update = update  # type: ignore[method-assign]
    try:
        type(world.row).objects.filter(pk=world.row.pk).update(**{column: value})
        assert any("was replaced by" in fault.text for fault in find_faults())
    finally:
        QuerySet.update = captured  # type: ignore[method-assign]
    return asked(world, C.NOT_CAPTURED)


@plant("record")
def written_before_more_fields_were_sent(world: World) -> Planted:
    """The definition has changed since, and the row has not."""
    world.prepare()
    world.holder.fields = ["value"]
    world.holder.save()
    refresh()
    return asked(world, C.SENT, C.OLD_VERSION)


@plant("record")
def harmless_edit_before_a_rollback(world: World) -> Planted:
    """An edit that shows nothing more asks nobody for a snapshot."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=30))
    world.holder.description = "Better words."
    world.holder.save()
    refresh()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        world.kind.change(world.row, 9)
        raise ZeroDivisionError
    return asked(world, C.ROLLED_BACK)


@plant("triggers")
def raw_update_with_triggers(world: World) -> Planted:
    """The triggers have reported it, and it was sent."""
    world.prepare()
    world.kind.write_silently(world.row, 7)
    world.settle()
    return asked(world, C.SENT)


@plant("triggers")
def raw_update_whose_mark_waits(world: World) -> Planted:
    world.prepare()
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_SEQUENCED)


@plant("triggers")
def raw_update_while_triggers_are_missing(world: World) -> Planted:
    world.prepare()
    upkeep.remove(database_alias())
    world.kind.write_silently(world.row, 7)
    return asked(world, C.NOT_CAPTURED)


# Nothing committed ---------------------------------------------------------------------------------------------------


@plant()
def rolled_back_update(world: World) -> Planted:
    world.prepare()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        world.kind.change(world.row, 9)
        raise ZeroDivisionError
    return asked(world, C.ROLLED_BACK)


@plant()
def rolled_back_create(world: World) -> Planted:
    world.prepare()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        made = world.kind.make(name="b")
        pk = made.pk
        raise ZeroDivisionError
    return asked(world, C.ROLLED_BACK, row=pk)


@plant()
def rolled_back_long_after_a_change(world: World) -> Planted:
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(seconds=50))
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        world.kind.change(world.row, 9)
        raise ZeroDivisionError
    return asked(world, C.ROLLED_BACK)


@plant(without="payload triggers")
def overwritten_later(world: World) -> Planted:
    """The silent write is not stored any more, so only its possibility can be told."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=10))
    world.kind.write_silently(world.row, 7)
    at = timezone.now() - timedelta(minutes=5)
    world.row.refresh_from_db()
    world.kind.change(world.row, 8)
    world.settle()
    return asked(world, C.UNEXPLAINED, C.NOT_CAPTURED, at=at)


@plant()
def mistyped_key(world: World) -> Planted:
    world.prepare()
    return asked(world, C.WRONG_KEY, row=world.row.pk + 5000)


@plant()
def text_as_key(world: World) -> Planted:
    world.prepare()
    return asked(world, C.WRONG_KEY, row="Number one")


@plant("parent")
def child_of_the_parent(world: World) -> Planted:
    world.user = make_user()
    offset = world.settle()
    world.row = Truck.objects.create(plate="t")
    world.attend("s", after=offset)
    Truck.objects.filter(pk=world.row.pk).update(load=5)
    world.settle()
    return asked(world, C.OTHER_MODEL)


@plant("child")
def parent_asked_as_child(world: World) -> Planted:
    world.prepare()
    other = Vehicle.objects.create(plate="other")
    return asked(world, C.OTHER_MODEL, row=other.pk)


# The binding then ----------------------------------------------------------------------------------------------------


@plant("record")
def disabled_then(world: World) -> Planted:
    world.prepare()
    world.holder.enabled = False
    world.holder.save()
    refresh()
    world.kind.change(world.row, 7)
    at = timezone.now()
    world.holder.enabled = True
    world.holder.save()
    refresh()
    return asked(world, C.NOT_IN_FORCE, C.NOT_CAPTURED, at=at)


@plant("record")
def disabled_now(world: World) -> Planted:
    world.prepare()
    world.holder.enabled = False
    world.holder.save()
    refresh()
    world.kind.change(world.row, 7)
    return asked(world, C.NOT_IN_FORCE)


@plant("record")
def removed(world: World) -> Planted:
    world.prepare()
    world.holder.delete()
    refresh()
    world.kind.change(world.row, 7)
    return asked(world, C.NO_BINDING, C.NOT_IN_FORCE)


@plant()
def mistyped_stream(world: World) -> Planted:
    world.prepare()
    return asked(world, C.NO_BINDING, stream="strem")


@plant()
def expired(world: World) -> Planted:
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(days=90))
    at = timezone.now() - timedelta(days=90)
    with override_settings(DECLBIND={**settings.DECLBIND, "RETENTION_SECONDS": 3600}):
        while log.trim(database_alias()):
            pass
    return asked(world, C.EXPIRED, at=at)


@plant("where")
def outside_where(world: World) -> Planted:
    world.prepare(value=500)
    return asked(world, C.OUTSIDE_WHERE)


@plant("where")
def outside_where_then(world: World) -> Planted:
    world.prepare()
    world.kind.change(world.row, 500)
    world.settle()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=30))
    world.kind.change(world.row, 600)
    at = timezone.now() - timedelta(minutes=10)
    world.kind.change(world.row, 5)
    world.settle()
    return asked(world, C.OUTSIDE_WHERE, at=at)


@plant("code")
def failing_code(world: World) -> Planted:
    world.prepare()
    fails_for.add("a")
    world.kind.change(world.row, 7)
    fails_for.clear()
    world.settle()
    return asked(world, C.BINDING_FAILED, C.NOT_CAPTURED)


@plant("payload")
def empty_payload(world: World) -> Planted:
    world.prepare(name="nothing")
    return asked(world, C.NOTHING_MADE)
