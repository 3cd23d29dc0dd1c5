"""The plants of what an operator does not think of: clocks, proxies, receivers, connections that came and went."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_save, pre_save
from django.test import override_settings
from django.utils import timezone

from declbind.live.snapshots import BLOCKED
from declbind.models import Connection, Event, Node, Traffic
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.zoo.models import Tractor, Vehicle

from .plants_of_clients import FEWER
from .world import C, Planted, World, asked, plant

# Clocks --------------------------------------------------------------------------------------------------------------


@plant(without=FEWER)
def clock_of_the_writer_is_ahead(world: World) -> Planted:
    """The event has a time to come; it was sent before the client left."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() + timedelta(minutes=9))
    end = world.settle()
    Connection.objects.update(closed_at=timezone.now(), close_code=1000, offset=end)
    return asked(world, C.CLOCKS, C.SENT)


@plant(without=FEWER)
def clock_of_the_writer_is_behind(world: World) -> Planted:
    """The event seems to be older than the one before it, and than the connection that received it."""
    world.user = make_user()
    world.kind.make(name="before")
    world.prepare()
    Event.objects.filter(pk=Event.objects.latest("pk").pk).update(created_at=timezone.now() - timedelta(minutes=9))
    return asked(world, C.CLOCKS, C.SENT, C.ROLLED_BACK)


@plant(without=FEWER)
def clock_of_a_process_is_ahead(world: World) -> Planted:
    world.prepare()
    Node.objects.update(seen_at=timezone.now() + timedelta(minutes=9))
    return asked(world, C.SENT, C.CLOCKS)


# Writes that wrote nothing, or something else ------------------------------------------------------------------------


@contextlib.contextmanager
def receiving(signal: Any, sender: Any) -> Iterator[None]:
    """Let a receiver of the project fail."""

    def fail(**kwargs: Any) -> None:
        raise ZeroDivisionError

    signal.connect(fail, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(fail, sender=sender)


@plant(without="parent child payload triggers code")
def receiver_that_fails_before_the_write(world: World) -> Planted:
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    with receiving(pre_save, IntegerValue), contextlib.suppress(ZeroDivisionError):
        world.kind.change(world.row, 9)
    return asked(world, C.ROLLED_BACK)


@plant(without="parent child payload triggers code")
def receiver_that_fails_after_the_write(world: World) -> Planted:
    """As in a request with ``ATOMIC_REQUESTS``."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    with receiving(post_save, IntegerValue), contextlib.suppress(ZeroDivisionError), transaction.atomic():
        world.kind.change(world.row, 9)
    return asked(world, C.ROLLED_BACK)


@plant(without="payload triggers")
def rolled_back_savepoint(world: World) -> Planted:
    """The transaction around it was committed with another row."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    with transaction.atomic():
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            world.kind.change(world.row, 9)
            raise ZeroDivisionError
        world.kind.make(name="other")
    world.settle()
    return asked(world, C.ROLLED_BACK)


@plant("parent")
def saved_through_a_proxy(world: World) -> Planted:
    world.prepare()
    row = Tractor.objects.get(pk=world.row.pk)
    row.plate = "9"
    row.save()
    world.settle()
    return asked(world, C.SENT)


@plant(without="parent child scope payload triggers")
def bulk_create_that_ignores_conflicts(world: World) -> Planted:
    """Some databases tell which rows were inserted; on the others, the groups are asked to take a snapshot."""
    world.prepare()
    made = IntegerValue(pk=world.row.pk + 5, name=world.row.name, value=5)
    IntegerValue.objects.bulk_create([made], ignore_conflicts=True)
    world.settle()
    is_bulk = Event.objects.latest("pk").kind == Event.BULK
    return asked(world, C.BULK_RESYNC if is_bulk else C.SENT, C.SENT, row=made.pk)


@plant("parent")
def columns_of_the_child_only(world: World) -> Planted:
    """A control: the parent's columns were written as well."""
    world.prepare()
    Vehicle.objects.filter(pk=world.row.pk).update(plate="8")
    world.settle()
    return asked(world, C.SENT)


@plant(without="payload triggers")
def deleted_and_made_again(world: World) -> Planted:
    """The row has its key again, and its last event is the second creation."""
    world.prepare()
    pk = world.row.pk
    world.row.delete()
    world.row.pk = pk
    if "child" in world.kind.traits:
        world.row.id = pk
    world.row.save(force_insert=True)
    world.settle()
    return asked(world, C.SENT, row=pk)


@plant("nullable")
def null_field_of_the_group(world: World) -> Planted:
    world.prepare()
    offset = world.settle()
    world.row = world.kind.make(text=None)
    world.attend("text-a", after=offset)
    return asked(world, C.NO_GROUP)


@plant("nullable")
def field_of_the_group_was_emptied(world: World) -> Planted:
    """Clients were sent a ``delete``, and nothing of the writes after it."""
    world.prepare()
    world.row.text = None
    world.row.save()
    world.settle()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    world.row.count = 7
    world.row.save()
    return asked(world, C.NO_GROUP)


@plant("nullable")
def fields_that_are_not_sent(world: World) -> Planted:
    """Only a column was written that the binding does not send."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    world.row.note = "not sent"
    world.row.save(update_fields=["note"])
    world.settle()
    return asked(world, C.SENT, C.ROLLED_BACK)


# Connections ---------------------------------------------------------------------------------------------------------


@plant(without=FEWER)
def dropped_upgrade(world: World) -> Planted:
    """A proxy drops the upgrade, so that no handshake of anybody has ever come."""
    world.prepare(is_subscribed=False)
    return asked(world, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def resumed(world: World) -> Planted:
    """The connection was lost, and the next one asked for what it had missed."""
    world.prepare(is_subscribed=False)
    event = Event.objects.latest("pk")
    Event.objects.filter(pk=event.pk).update(created_at=timezone.now() - timedelta(minutes=2))
    end = world.settle()
    world.attend(
        world.kind.group(world.row), after=end - 1, opened_at=timezone.now() - timedelta(minutes=1), offset=end
    )
    return replace(asked(world, C.SENT, at=timezone.now() - timedelta(minutes=2)), timeless=frozenset())


@plant(without=FEWER)
def tab_asleep(world: World) -> Planted:
    world.prepare()
    end = world.settle()
    Connection.objects.update(
        closed_at=timezone.now() + timedelta(seconds=1), close_code=4408, close_reason="Too slow.", offset=end - 1
    )
    return asked(world, C.TOO_SLOW, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def expired_token(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    closed = timezone.now() - timedelta(minutes=1)
    world.attend("", closed_at=closed, close_code=4401, close_reason="The token has expired.")
    return asked(world, C.REVOKED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def tenant_of_somebody_else(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, outcome="tenant", message="No tenant has this host.",
        user_pk=str(world.user.pk), username=world.user.username,
    )  # fmt: skip
    return asked(world, C.REFUSED, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def right_connection_of_another_user(world: World) -> Planted:
    """The frame arrived at somebody else, whose page the operator looks at."""
    world.prepare()
    world.user = make_user()
    facts = (C.NOT_THEIRS,) if "scope" in world.kind.traits else ()
    return asked(world, C.NOT_CONNECTED, *facts)


@plant(without=FEWER)
def unsubscribed_by_the_client(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    end = world.settle()
    world.attend(world.kind.group(world.row), after=0, until=end - 1, reason="client")
    facts = (C.NOT_THEIRS,) if "scope" in world.kind.traits else ()
    return asked(world, C.NOT_SUBSCRIBED, C.NOBODY_SUBSCRIBED, *facts)


@plant(without=f"scope {FEWER}")
def snapshot_too_large(world: World) -> Planted:
    """The subscription was refused, because its group has too many rows."""
    world.prepare(is_subscribed=False)
    world.attend("")
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, connection="c0", stream="s", action="subscribe", outcome="too_large",
        message="Expected at most 2 rows in a snapshot, this group has more.",
    )  # fmt: skip
    return asked(world, C.OVER_LIMIT, C.NOBODY_SUBSCRIBED, C.NOT_SUBSCRIBED)


@plant(without=f"scope {FEWER}")
def snapshot_while_the_log_was_locked(world: World) -> Planted:
    """The client was told to try again, and did not."""
    world.prepare(is_subscribed=False)
    world.attend("")
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, connection="c0", stream="s", action="subscribe", outcome="internal",
        message=BLOCKED,
    )  # fmt: skip
    return asked(world, C.NUMBERING_BLOCKED, C.NOBODY_SUBSCRIBED, C.NOT_SUBSCRIBED)


@plant(without=f"scope {FEWER}")
def subscription_that_failed(world: World) -> Planted:
    """Code of the project raised an exception while the request was carried out."""
    world.prepare(is_subscribed=False)
    world.attend("")
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.ERROR, connection="c0", stream="s", action="subscribe", outcome="internal",
        message="The server failed.",
    )  # fmt: skip
    return asked(world, C.BINDING_FAILED, C.NOBODY_SUBSCRIBED, C.NOT_SUBSCRIBED)


# Other places --------------------------------------------------------------------------------------------------------


@plant("elsewhere")
def row_of_another_database(world: World) -> Planted:
    """A ``using()`` or a router has sent the write elsewhere."""
    world.prepare()
    made = IntegerValue(pk=world.row.pk + 7, name="a", value=5)
    made.save(using="elsewhere", force_insert=True)
    return asked(world, C.OTHER_DATABASE, row=made.pk)


@plant("elsewhere")
def row_changed_in_another_database(world: World) -> Planted:
    """Both databases have the row, and the program has changed the one without a log."""
    world.prepare()
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=9))
    copy = IntegerValue(pk=world.row.pk, name=world.row.name, value=9)
    copy.save(using="elsewhere", force_insert=True)
    return asked(world, C.OTHER_DATABASE)


@plant(without="payload triggers scope parent child")
def many_rows_of_a_call_over_the_limit(world: World) -> Planted:
    """The row is a new one, and it is asked for by its own key."""
    world.prepare()
    with override_settings(DECLBIND={**settings.DECLBIND, "BULK_LIMIT": 2}):
        rows = IntegerValue.objects.bulk_create([IntegerValue(name=world.row.name, value=5) for _ in range(4)])
        world.settle()
    return asked(world, C.BULK_RESYNC, C.SENT, row=rows[0].pk)
