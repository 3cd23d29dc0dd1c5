"""The plants of clients: each makes a cause real for which a sent change did not arrive."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from declbind.models import Connection, Event, Node, Traffic
from tests.factories import make_user

from .world import C, Planted, World, asked, plant, present_version

#: What becomes of a client does not depend on how the row was made, so these plants take fewer kinds of bindings.
FEWER = "where file payload parent code triggers"

# Clients -------------------------------------------------------------------------------------------------------------


@plant(without=FEWER)
def sent(world: World) -> Planted:
    world.prepare()
    return asked(world, C.SENT)


@plant(without=FEWER)
def nobody(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    return asked(world, C.NOBODY_SUBSCRIBED, C.NOT_CONNECTED, user="")


@plant(without=FEWER)
def not_connected(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    return asked(world, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def not_connected_while_another_was_refused(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    Traffic.objects.create(at=timezone.now(), kind=Traffic.REFUSED, outcome="origin", message="https://evil.example")
    return asked(world, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def refused_origin(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, outcome="origin", message="https://evil.example",
        user_pk=str(world.user.pk), username=world.user.username,
    )  # fmt: skip
    return asked(world, C.ORIGIN, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def too_many_connections(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, outcome="connections", message="Expected fewer open sockets",
        user_pk=str(world.user.pk), username=world.user.username,
    )  # fmt: skip
    return asked(world, C.OVER_LIMIT, C.NOT_CONNECTED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def disconnected(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    closed = timezone.now() - timedelta(minutes=1)
    world.attend("", closed_at=closed, close_code=4403, close_reason="Bye.")
    return asked(world, C.KICKED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def unknown_user(world: World) -> Planted:
    world.prepare()
    return asked(world, C.UNKNOWN_USER, user="nobdy")


@plant(without=FEWER)
def other_group(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    world.attend("another-group")
    facts = (C.NOT_THEIRS,) if "scope" in world.kind.traits else ()
    return asked(world, C.NOT_SUBSCRIBED, C.NOBODY_SUBSCRIBED, *facts)


@plant("scope")
def somebody_elses_row(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    owner, world.user = world.user, make_user()
    world.attend(f"of-{world.user.pk}")
    assert owner.pk == world.row.value
    return asked(world, C.NOT_THEIRS, C.NOBODY_SUBSCRIBED, C.NOT_SUBSCRIBED)


@plant(without=f"scope {FEWER}")
def refused_subscription(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    world.attend("")
    Traffic.objects.create(
        at=timezone.now(), kind=Traffic.REFUSED, connection="c0", stream="s", action="subscribe", outcome="denied",
        message="Not allowed.",
    )  # fmt: skip
    return asked(world, C.REFUSED, C.NOBODY_SUBSCRIBED, C.NOT_SUBSCRIBED)


@plant(without=FEWER)
def revoked(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    end = world.settle()
    world.attend(world.kind.group(world.row), after=0, until=end - 1, reason="permission")
    return asked(world, C.REVOKED, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def lost_process(world: World) -> Planted:
    world.prepare()
    offset = Event.objects.latest("pk").pk
    Node.objects.update(seen_at=timezone.now() - timedelta(hours=1), offset=0)
    Event.objects.filter(pk=offset).update(created_at=timezone.now())
    return asked(world, C.PROCESS_LOST, C.NOBODY_SUBSCRIBED)


@plant(without=FEWER)
def process_with_other_bindings(world: World) -> Planted:
    world.prepare(is_subscribed=False)
    world.attend("")
    now = timezone.now()
    Node.objects.create(
        **{**present_version(), "digest": "old"}, id="old", host="old", pid=8, started_at=now, seen_at=now
    )
    Node.objects.create(**present_version(), id="third", host="third", pid=9, started_at=now, seen_at=now)
    Connection.objects.update(node="old")
    return asked(world, C.OLD_CODE, C.NOT_SUBSCRIBED, C.NOBODY_SUBSCRIBED)
