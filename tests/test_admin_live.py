"""The live page: watches, the rows that a poll returns, and filters."""

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

from admin_ui.traffic import window
from admin_ui.traffic.watching import LEASE_SECONDS
from declbind.models import Event, Head, Traffic, Watch
from declbind.testing import override_bindings
from tests.console_forms import staff
from tests.live import NUMBERS
from tests.live_page import (
    LIVE,
    ROWS,
    STOP,
    WATCH,
    add_activity,
    add_event,
    add_traffic,
    cursor_of,
    first_cursor,
    offset_of,
    poll,
    watcher,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_log():
    """Start with an empty log: creating the users of a test adds events."""
    Event.objects.all().delete()
    Traffic.objects.all().delete()


# Watching -------------------------------------------------------------------------------------------------------------


def test_the_page_and_its_polls_keep_a_watch():
    """The page starts the watch and polls renew it, with few writes and one log entry. Without polls it ends."""
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
    assert watching_notes() == ["Started watching."]
    Watch.objects.update(until=now - timedelta(seconds=LEASE_SECONDS + 1))
    staff(WATCH, name="other").get(LIVE)
    assert Watch.objects.count() == 1


def test_the_end_of_a_watch_is_logged():
    """It is logged when the page reports it, or when a later page finds that the watch has ended."""
    client = staff(WATCH)
    cursor = cursor_of(client)
    assert client.get(STOP).status_code == 405
    assert client.post(STOP).status_code == 204
    assert not Watch.objects.exists()
    client.post(STOP)
    poll(client, cursor)
    # The lease lapses, and the sweep of some process takes its row away.
    Watch.objects.all().delete()
    client.get(LIVE)
    assert watching_notes() == [
        "Started watching.",
        "Stopped watching.",
        "Started watching.",
        "Stopped watching: the page sent no more requests.",
        "Started watching.",
    ]


def test_only_the_own_site_can_end_a_watch():
    """The page sends the CSRF token with the request."""
    staff(WATCH)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())
    client.get(LIVE)
    assert client.post(STOP).status_code == 403
    assert client.post(STOP, {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}).status_code == 204


def watching_notes():
    return list(
        LogEntry.objects.filter(object_repr="Live traffic").order_by("pk").values_list("change_message", flat=True)
    )


# Rows -----------------------------------------------------------------------------------------------------------------


def test_frames_and_requests_are_merged_newest_first():
    """Each row shows user, action, place and outcome."""
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


def test_a_poll_returns_each_new_row_once():
    """The first poll starts from the cursor of the page, and later ones from that of the poll before."""
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


def test_an_event_without_a_number_is_shown_again_when_it_has_one():
    """On PostgreSQL ids do not give the order, so the event has no offset at first."""
    client = watcher()
    cursor = cursor_of(client)
    waiting = add_event(number=False)
    later = add_event()
    answer = poll(client, cursor)
    assert {row["key"] for row in answer["rows"]} == {f"e{waiting.pk}", f"e{later.pk}"}
    if connection.vendor == "sqlite":
        return
    assert "waits for its offset" in next(row["html"] for row in answer["rows"] if row["key"] == f"e{waiting.pk}")
    head = Head.objects.get(pk=1)
    head.seq = waiting.seq = head.seq + 1
    head.save()
    waiting.save()
    # Its id is below that of the event which the cursor has passed; a cursor over ids would lose it here.
    rows = poll(client, answer["cursor"])["rows"]
    assert [row["key"] for row in rows] == [f"e{waiting.pk}"]
    assert "waits for its offset" not in rows[0]["html"]


def test_the_page_is_bounded_and_reports_skipped_rows(monkeypatch):
    """However many rows there are, the page has a maximal length and reports how many it left out."""
    monkeypatch.setattr(window, "MAX_ROWS", 5)
    client = watcher()
    cursor = cursor_of(client)
    for _ in range(7):
        add_event()
        add_traffic()
    assert len(client.get(LIVE).context["rows"]) == 5
    answer = poll(client, cursor, whole="1")
    assert (len(answer["rows"]), answer["skipped"], answer["count"]) == (5, 9, 14)


def test_another_history_resets_the_page():
    """If the epoch has changed or the log ends before the cursor, the page starts again."""
    client = watcher()
    add_event()
    epoch, offset, last = cursor_of(client).split(":")
    assert poll(client, f"other:{offset}:{last}")["reset"]
    assert poll(client, f"{epoch}:{int(offset) + 1}:{last}")["reset"]
    assert not poll(client, f"{epoch}:{offset}:{last}")["reset"]


@pytest.mark.parametrize("cursor", ["", "x", "e:1", "e:-1:0", "e:1:x", "e:9999999999999999999999:0"])
def test_a_bad_cursor_is_refused(cursor):
    """The answer is 400."""
    assert staff(WATCH).get(ROWS, {"cursor": cursor}).status_code == 400


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"stream": "posts"}, {"out", "request", "refused"}),
        ({"only": "problems"}, {"refused", "error"}),
        ({"only": "refused"}, {"refused"}),
        ({"only": "errors"}, {"error"}),
        ({"only": "nonsense"}, {"out", "control", "request", "refused", "error"}),
        ({"model": "blog.Post"}, {"out"}),
        ({"model": "blog.blog"}, set()),
        ({"row": "7"}, {"out", "request", "refused", "error"}),
        ({"row": "70"}, set()),
        ({"group": "blog-1"}, {"out"}),
        ({"group": "blog-2"}, {"out", "request", "refused", "error"}),
        ({"group": "Blog-2"}, set()),
        ({"group": "blog"}, set()),
        ({"user": "ann"}, {"request", "refused", "error"}),
        ({"user": "5"}, {"request", "refused", "error"}),
        ({"user": "bob"}, {"out"}),
        ({"user": "an"}, set()),
        ({"action": "create"}, {"out"}),
        ({"action": "update"}, {"request", "refused", "error"}),
        ({"action": "config"}, {"control"}),
        ({"outcome": "denied"}, {"refused"}),
        ({"node": "n1"}, {"out", "refused"}),
        ({"stream": "posts", "user": "ann", "outcome": "ok"}, {"request"}),
        ({"q": "ann"}, {"request", "refused", "error"}),
        ({"q": "config"}, {"control"}),
        ({"q": "Traceback"}, {"error"}),
        ({"stream": "other"}, {"error"}),
        ({"stream": "none"}, set()),
    ],
)
def test_filters_apply_to_the_page_and_to_polls(query, kinds):
    """The filters are in the address, and the server applies them."""
    client = watcher()
    start = first_cursor(client)
    event = add_event(actor="bob")
    add_event(kind=Event.CONTROL, stream="", model="", object_pk="", changes="[]", data='{"type": "config"}')
    add_traffic()
    add_traffic(kind=Traffic.REFUSED, outcome="denied", node="n1")
    add_traffic(kind=Traffic.ERROR, stream="other", message="Traceback")
    add_activity(node="n1", deliveries=[[offset_of(event), 3, 1.5]], sent=3)
    page = client.get(LIVE, query)
    assert {row.kind for row, _ in page.context["rows"]} == kinds
    keys = {row.key for row, _ in page.context["rows"]}
    assert {row["key"] for row in poll(client, start, **query)["rows"]} == keys


def test_requests_are_found_by_the_model_of_their_stream():
    """A request names its stream, not its model."""
    client = watcher()
    add_event(stream="numbers", model="example.integervalue")
    add_traffic(stream="numbers")
    add_traffic(stream="posts")
    with override_bindings(NUMBERS):
        rows = [row for row, _ in client.get(LIVE, {"model": "example.IntegerValue"}).context["rows"]]
    assert [(row.kind, row.model) for row in rows] == [
        ("request", "example.integervalue"),
        ("out", "example.integervalue"),
    ]


def test_a_poll_costs_a_constant_number_of_queries():
    """The number of rows does not matter."""
    client = watcher()

    def count():
        cursor = cursor_of(client)
        client.get(ROWS, {"cursor": cursor})
        with CaptureQueriesContext(connection) as queries:
            poll(client, first_cursor(client))
        return len(queries)

    add_event()
    add_traffic()
    few = count()
    for _ in range(20):
        add_event()
        add_traffic()
    assert count() == few


def test_what_clients_send_is_escaped():
    """The page shows markup in a client's input as text."""
    bad = "<script>alert(1)</script>"
    client = watcher("blog.view_post")
    start = cursor_of(client)
    add_event(bad, stream="s", object_pk=json.dumps(bad), changes=json.dumps([[bad, "create"]]))
    add_traffic(action="<b>", username=bad, message=bad, outcome="<i>", groups=[bad])
    assert bad not in client.get(LIVE).content.decode()
    rows = poll(client, start)["rows"]
    assert len(rows) == 2
    assert all(bad not in row["html"] for row in rows)


def test_a_busy_stream_does_not_hide_the_others(admin_client):
    """Equal rows are counted after the newest three; with a filter by stream, or on request, each row is shown."""
    for number in range(8):
        Traffic.objects.create(
            at=timezone.now(), kind=Traffic.REQUEST, node="n", stream="busy", action="update", object_pk=str(number),
            outcome="ok",
        )  # fmt: skip
    Traffic.objects.create(
        at=timezone.now() - timedelta(seconds=9), kind=Traffic.REFUSED, node="n", stream="quiet", action="update",
        object_pk="1", outcome="denied",
    )  # fmt: skip
    shown = [links.more for row, links in admin_client.get(LIVE).context["rows"]]
    assert shown == [0, 0, 5, *[-1] * 5, 0]
    page = admin_client.get(LIVE).content.decode()
    assert "5 more like it" in page
    assert page.count('tabindex="-1" hidden') == 5
    for query in ({"stream": "busy"}, {"each": "1"}):
        assert {links.more for row, links in admin_client.get(LIVE, query).context["rows"]} == {0}
