"""Questions for *Why?*, and the rows, events and connections that its answers depend on."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from declbind.console import why
from declbind.console.why import events
from declbind.console.why.causes import Cause
from declbind.models import Connection, Event, Node
from declbind.outbound import history
from declbind.outbound.batch import Batch
from declbind.outbound.index import current_index
from declbind.registry import database_alias
from example_site.example.models import IntegerValue


def ask(row: Any, stream: str = "numbers", **values: Any) -> why.Explanation:
    return why.explain(why.Question(stream, str(row), **values), database_alias())


def cause_of(row: object, stream: str = "numbers", **values: object) -> Cause:
    """Return the cause that is named first."""
    return ask(row, stream, **values).answers[0].cause


def stored(**values: Any) -> IntegerValue:
    return IntegerValue.objects.create(**{"name": "a", "value": 1, **values})


def run(sql: str, *params: Any) -> None:
    """Write without the ORM."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def declare_lost(model: Any) -> None:
    """Make capture report that the written rows of a model are unknown."""
    plan = current_index().plan_for(model)
    assert plan is not None
    batch = Batch(database_alias())
    batch.lose_track(plan)
    batch.append()


def last_event() -> Event:
    """Return the last event, numbered as the relay would number it."""
    from declbind.outbound import relay

    if history.needs_sequencer(database_alias()):
        relay.run_once(database_alias())
    return Event.objects.exclude(kind=Event.CONTROL).latest("pk")


def last_offset() -> int:
    offset = events.offset_of(last_event())
    assert offset is not None
    return offset


def attend(user: Any = None, heard: list[list[Any]] | None = None, name: str = "c", **values: Any) -> Connection:
    """Store a connection of a live process that has read the whole log."""
    now = timezone.now()
    Node.objects.update_or_create(
        id="n", defaults={"host": "web", "pid": 7, "started_at": now, "seen_at": now, "offset": 10**9}
    )
    opened = {"opened_at": now - timedelta(minutes=5), "node": "n", **values}
    who = {"user_pk": str(user.pk), "username": user.username} if user else {}
    return Connection.objects.create(
        id=name, subscriptions=json.dumps(heard or [], separators=(",", ":")), **who, **opened
    )
