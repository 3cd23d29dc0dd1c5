"""Shared steps of the tests of the live page: events, traffic, watchers and polls."""

from __future__ import annotations

import json

from django.db import connection
from django.utils import timezone

from declbind.models import Activity, Event, Head, Traffic
from tests.console_forms import LIST, staff

LIVE, ROWS, STOP, SAVED, EXPORT = (f"{LIST}live/{page}" for page in ("", "rows/", "stop/", "views/", "export/"))
WATCH = "declbind.view_traffic"


def watcher(*codenames):
    """Return the client of a watcher, with an empty log: giving rights to a new user is a control event."""
    client = staff(WATCH, *codenames)
    Event.objects.all().delete()
    return client


def add_event(title="secret words", *, number=True, **values):
    """Append an event as capture would, and number it as the relay would."""
    event = Event.objects.create(
        **{
            "stream": "posts",
            "model": "blog.post",
            "object_pk": "7",
            "changes": '[["blog-1","delete"],["blog-2","create"]]',
            "data": json.dumps({"title": title, "blog": 2, "tags": [1, 2], "extra": {"a": 1}, "none": None}),
            "created_at": timezone.now(),
            **values,
        }
    )
    if number and connection.vendor != "sqlite":
        head, _ = Head.objects.get_or_create(pk=1, defaults={"epoch": "e"})
        head.seq += 1
        head.save()
        event.seq = head.seq
        event.save()
    return event


def add_traffic(**values):
    return Traffic.objects.create(
        **{"at": timezone.now(), "kind": Traffic.REQUEST, "connection": "c1", "username": "ann", "user_pk": "5",
           "stream": "posts", "action": "update", "object_pk": "7", "groups": ["blog-2"], "outcome": "ok",
           "milliseconds": 3.5, **values}
    )  # fmt: skip


def offset_of(event):
    return event.pk if connection.vendor == "sqlite" else event.seq


def add_activity(**values):
    return Activity.objects.create(
        **{"node": "n1", "at": timezone.now().replace(microsecond=0), "seconds": 1, "sent": 1, **values}
    )


def cursor_of(client, query=""):
    return str(client.get(LIVE + query).context["page"].cursor)


def poll(client, cursor, **query):
    answer = client.get(ROWS, {"cursor": cursor, **query})
    assert answer.status_code == 200, answer.content
    return answer.json()


def first_cursor(client):
    """Return a cursor before everything that is in the log."""
    return f"{cursor_of(client).split(':', maxsplit=1)[0]}:0:0"
