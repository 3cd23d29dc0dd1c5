"""The live page: who may watch, what is shown to whom, and that a poll misses nothing."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from admin_ui import traffic
from admin_ui.watching import LEASE_SECONDS
from declbind.live.traffic import CAPTURE_FAILED
from declbind.models import Connection, Event, Head, Traffic, Watch
from declbind.registry import override
from tests.test_admin_form import LIST, staff

pytestmark = pytest.mark.django_db
LIVE, ROWS = f"{LIST}live/", f"{LIST}live/rows/"
WATCH = "declbind.view_traffic"


@pytest.fixture(autouse=True)
def empty_log():
    """Begin with an empty log, in which what a test's users do is no event."""
    Event.objects.all().delete()
    Traffic.objects.all().delete()


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


def cursor_of(client, query=""):
    return str(client.get(LIVE + query).context["page"].cursor)


def poll(client, cursor, **query):
    answer = client.get(ROWS, {"cursor": cursor, **query})
    assert answer.status_code == 200, answer.content
    return answer.json()


# Rights -------------------------------------------------------------------------------------------------------------


def test_only_staff_with_the_right_may_watch():
    """403 for all others, on the page and for its polls; who is not logged in may log in."""
    shaped = staff(WATCH)
    assert shaped.get(LIVE).status_code == 200
    assert shaped.get(ROWS, {"cursor": cursor_of(shaped)}).status_code == 200
    others = [
        staff("declbind.view_bindingrecord", "declbind.change_bindingrecord", name="editor"),
        Client(),
    ]
    outsider = staff(WATCH, name="outsider")
    User.objects.filter(username="outsider").update(is_staff=False)
    for client in (*others, outsider):
        assert client.get(ROWS, {"cursor": "e:0:0"}).status_code == 403
    assert others[0].get(LIVE).status_code == 403
    assert outsider.get(LIVE).status_code == 403
    assert "/login/" in others[1].get(LIVE)["Location"]


def test_nobody_without_the_right_gets_a_watch():
    """A refused look must not make all processes record."""
    staff(name="editor").get(LIVE)
    staff(name="other").get(ROWS, {"cursor": "e:0:0"})
    assert not Watch.objects.exists()


def test_values_are_shown_to_those_who_may_view_the_model():
    """Others see the shape; the first viewer is the control."""
    add_event()
    reader = staff(WATCH, "blog.view_post", name="reader")
    assert "secret words" in reader.get(LIVE).content.decode()
    shaped = staff(WATCH, name="watcher")
    page = shaped.get(LIVE).content.decode()
    assert "secret words" not in page
    for text in ("text, 12 characters", "number", "list, 2 items", "object, 1 keys", "null", "blog-1", "offset"):
        assert text in page
    add_event()
    rows = poll(shaped, _start(shaped))["rows"]
    assert rows
    assert "secret words" not in json.dumps(rows)


def _start(client):
    """Return a cursor before everything that is in the log."""
    return f"{cursor_of(client).split(':', maxsplit=1)[0]}:0:0"


def test_a_search_does_not_tell_values_either():
    """Finding a row by a value would be reading it; who may view the model finds it."""
    add_event()
    query = "?q=secret"
    reader = staff(WATCH, "blog.view_post", name="reader")
    assert len(reader.get(LIVE + query).context["rows"]) == 1
    shaped = staff(WATCH, name="watcher")
    assert len(shaped.get(LIVE + query).context["rows"]) == 0
    assert poll(shaped, _start(shaped), q="secret")["rows"] == []
    assert len(shaped.get(LIVE + "?q=blog-2").context["rows"]) == 1


def test_payloads_made_by_code_are_shown_by_shape_too():
    """Their values are hidden at each level."""
    data = json.dumps({"update": {"action": "update", "data": {"title": "secret words"}}})
    add_event(kind=Event.PAYLOAD, data=data)
    page = staff(WATCH).get(LIVE).content.decode()
    assert "secret" not in page
    assert "object, 1 keys" in page


# Watching -----------------------------------------------------------------------------------------------------------


def test_the_page_and_its_polls_hold_a_watch():
    """Made at once, renewed by polls, written seldom, logged once, and gone when nobody looks."""
    client = staff(WATCH)
    cursor = cursor_of(client)
    watch = Watch.objects.get()
    now = timezone.now()
    assert now + timedelta(seconds=LEASE_SECONDS - 5) < watch.until <= now + timedelta(seconds=LEASE_SECONDS)
    poll(client, cursor)
    assert Watch.objects.get().until == watch.until
    Watch.objects.update(until=now + timedelta(seconds=5))
    poll(client, cursor)
    assert Watch.objects.get().until > now + timedelta(seconds=LEASE_SECONDS - 5)
    client.get(LIVE)
    assert LogEntry.objects.filter(object_repr="Live traffic").count() == 1
    Watch.objects.update(until=now - timedelta(seconds=LEASE_SECONDS + 1))
    staff(WATCH, name="other").get(LIVE)
    assert Watch.objects.count() == 1


# Rows ---------------------------------------------------------------------------------------------------------------


def test_frames_and_requests_are_merged_newest_first():
    """With who, what, where and the outcome."""
    client = watcher()
    start = timezone.now()
    add_event(created_at=start, actor="bob", origin="manage.py shell")
    add_traffic(at=start + timedelta(seconds=1))
    add_traffic(at=start + timedelta(seconds=2), kind=Traffic.REFUSED, outcome="denied", message="You may not.")
    add_event(created_at=start + timedelta(seconds=3), kind=Event.CONTROL, stream="", data='{"type": "config"}')
    response = client.get(LIVE)
    assert [row.kind for row, _ in response.context["rows"]] == ["control", "refused", "request", "out"]
    page = response.content.decode()
    for text in (
        "bob",
        "manage.py shell",
        "ann",
        "denied",
        "You may not.",
        "3.5 ms",
        "config",
        "create</b> <code>blog-2",
    ):
        assert text in page


def test_a_poll_gives_what_is_new_and_nothing_twice():
    """From the cursor of the page on, then from its own."""
    client = watcher()
    add_event()
    cursor = cursor_of(client)
    assert poll(client, cursor)["rows"] == []
    event, request = add_event(), add_traffic()
    answer = poll(client, cursor)
    assert sorted(row["key"] for row in answer["rows"]) == [f"e{event.pk}", f"t{request.pk}"]
    again = poll(client, answer["cursor"])["rows"]
    # Where ids may appear out of order the last rows are read once more; the page knows them by their keys.
    late = {f"t{request.pk}"} if connection.vendor != "sqlite" else set()
    assert {row["key"] for row in again} <= late


def test_events_that_wait_for_their_number_say_so_and_come_again():
    """On PostgreSQL an event is shown before it has an offset, and again when it has: ids tell no order there."""
    client = watcher()
    cursor = cursor_of(client)
    waiting = add_event(number=False)
    later = add_event()
    answer = poll(client, cursor)
    assert {row["key"] for row in answer["rows"]} == {f"e{waiting.pk}", f"e{later.pk}"}
    if connection.vendor == "sqlite":
        return
    assert "not sequenced yet" in next(row["html"] for row in answer["rows"] if row["key"] == f"e{waiting.pk}")
    head = Head.objects.get(pk=1)
    head.seq = waiting.seq = head.seq + 1
    head.save()
    waiting.save()
    # Its id is below that of the event which the cursor has passed; a cursor over ids would lose it here.
    rows = poll(client, answer["cursor"])["rows"]
    assert [row["key"] for row in rows] == [f"e{waiting.pk}"]
    assert "not sequenced yet" not in rows[0]["html"]


def test_the_page_is_bounded_and_tells_what_it_skipped(monkeypatch):
    """No burst makes it long, none passes unseen."""
    monkeypatch.setattr(traffic, "MAX_ROWS", 5)
    client = watcher()
    cursor = cursor_of(client)
    for _ in range(7):
        add_event()
        add_traffic()
    assert len(client.get(LIVE).context["rows"]) == 5
    answer = poll(client, cursor)
    assert (len(answer["rows"]), answer["skipped"]) == (5, 9)


def test_another_history_resets_the_page():
    """A log with another epoch, or one that ends before the cursor, is not compared with."""
    client = watcher()
    add_event()
    epoch, offset, last = cursor_of(client).split(":")
    assert poll(client, f"other:{offset}:{last}")["reset"]
    assert poll(client, f"{epoch}:{int(offset) + 1}:{last}")["reset"]
    assert not poll(client, f"{epoch}:{offset}:{last}")["reset"]


@pytest.mark.parametrize("cursor", ["", "x", "e:1", "e:-1:0", "e:1:x", "e:9999999999999999999999:0"])
def test_a_bad_cursor_is_refused(cursor):
    """With 400, never an exception."""
    assert staff(WATCH).get(ROWS, {"cursor": cursor}).status_code == 400


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"stream": "posts"}, {"out", "request", "refused"}),
        ({"only": "problems"}, {"refused", "error"}),
        ({"q": "ann"}, {"request", "refused", "error"}),
        ({"q": "config"}, {"control"}),
        ({"q": "Traceback"}, {"error"}),
        ({"stream": "other"}, {"error"}),
        ({"stream": "none"}, set()),
    ],
)
def test_filters_go_for_page_and_polls(query, kinds):
    """They stand in the address, and the server applies them."""
    client = watcher()
    start = _start(client)
    add_event()
    add_event(kind=Event.CONTROL, stream="", data='{"type": "config"}')
    add_traffic()
    add_traffic(kind=Traffic.REFUSED, outcome="denied")
    add_traffic(kind=Traffic.ERROR, stream="other", message="Traceback")
    page = client.get(LIVE, query)
    assert {row.kind for row, _ in page.context["rows"]} == kinds
    keys = {row.key for row, _ in page.context["rows"]}
    assert {row["key"] for row in poll(client, start, **query)["rows"]} == keys


def test_a_poll_costs_a_constant_number_of_queries():
    """However many rows it brings."""
    client = watcher()

    def count():
        cursor = cursor_of(client)
        client.get(ROWS, {"cursor": cursor})
        with CaptureQueriesContext(connection) as queries:
            poll(client, _start(client))
        return len(queries)

    add_event()
    few = count()
    for _ in range(20):
        add_event()
        add_traffic()
    assert count() == few


def test_what_clients_send_is_escaped():
    """The page shows markup, it does not run it."""
    bad = "<script>alert(1)</script>"
    client = watcher("blog.view_post")
    start = cursor_of(client)
    add_event(bad, stream="s", object_pk=json.dumps(bad), changes=json.dumps([[bad, "create"]]))
    add_traffic(action="<b>", username=bad, message=bad, outcome="<i>", groups=[bad])
    assert bad not in client.get(LIVE).content.decode()
    rows = poll(client, start)["rows"]
    assert len(rows) == 2
    assert all(bad not in row["html"] for row in rows)


def test_what_an_exception_said_of_a_row_is_for_those_who_may_view_the_model():
    """Neither the page nor a search tells it to others; the reader is the control."""
    with override({"stream": "posts", "model": "blog.Post", "fields": ["title"], "permissions": {"view": True}}):
        client = watcher()
        row = add_traffic(
            kind=Traffic.ERROR, outcome="ValueError", message=f"{CAPTURE_FAILED}: bad title 'secret words'"
        )
        ask = {"only": "errors"}
        for address in (LIVE, f"{LIVE}export/", f"{LIVE}row/t{row.pk}/"):
            assert "secret words" not in client.get(address, ask).content.decode()
        assert not client.get(LIVE, {**ask, "q": "secret words"}).context["rows"]
        reader = staff(WATCH, "blog.view_post", name="reader")
        assert "secret words" in reader.get(LIVE, ask).content.decode()
        assert len(reader.get(LIVE, {**ask, "q": "secret words"}).context["rows"]) == 1


def test_where_a_client_comes_from_is_for_those_who_may_see_connections():
    """The page of a row names its address to no other watcher."""
    Connection.objects.create(id="c1", node="n", address="192.0.2.0/24", client="Browser/1.0", opened_at=timezone.now())
    page = f"{LIVE}row/t{add_traffic(connection='c1').pk}/"
    assert "192.0.2.0" not in watcher().get(page).content.decode()
    assert "192.0.2.0" in staff(WATCH, "declbind.view_connection", name="other").get(page).content.decode()
