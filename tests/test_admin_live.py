"""The live page: who may watch, what is shown to whom, and that a poll misses nothing."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from admin_ui import export, traffic
from admin_ui.watching import LEASE_SECONDS
from declbind.live.traffic import CAPTURE_FAILED
from declbind.models import Activity, Connection, Event, Head, Node, SavedView, Traffic, Watch
from declbind.registry import override
from declbind.testing import override_bindings
from tests.live import NUMBERS
from tests.test_admin_form import LIST, staff

pytestmark = pytest.mark.django_db
LIVE, ROWS, STOP, SAVED, EXPORT = (f"{LIST}live/{page}" for page in ("", "rows/", "stop/", "views/", "export/"))
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


@pytest.mark.parametrize(
    ("site", "begins"), [("", True), ("none", True), ("same-origin", True), ("cross-site", False), ("same-site", False)]
)
def test_a_page_of_another_site_begins_no_watch(site, begins):
    """A link or a picture there makes the browser ask for the page; its own scripts begin the watch then."""
    client = watcher()
    headers = {"Sec-Fetch-Site": site} if site else {}
    assert client.get(LIVE, headers=headers).status_code == 200
    assert Watch.objects.exists() is begins
    cursor = cursor_of(client)
    Watch.objects.all().delete()
    client.get(ROWS, {"cursor": cursor}, headers=headers)
    assert Watch.objects.exists() is begins


def test_values_are_shown_on_a_rows_page_to_those_who_may_view_the_model():
    """After they ask, which the admin's log tells once; others see the shape, and asking changes nothing."""
    address = f"{LIVE}row/e{add_event().pk}/"
    reader = staff(WATCH, "blog.view_post", name="reader")
    shaped = staff(WATCH, name="watcher")
    for client in (reader, shaped):
        page = client.get(LIVE).content.decode() + client.get(address).content.decode()
        assert "secret words" not in page
        for text in ("text, 12 characters", "number", "list, 2 items", "object, 1 keys", "null", "blog-1", "offset"):
            assert text in page
    assert reader.post(address)["Location"] == address
    assert "secret words" in reader.get(address).content.decode()
    assert "secret words" not in reader.get(LIVE).content.decode()
    shaped.post(address)
    assert "secret words" not in shaped.get(address).content.decode()
    reader.post(address)
    assert LogEntry.objects.filter(change_message__startswith="Revealed values", user__username="reader").count() == 1
    reader.post(address, {"hide": "1"})
    assert "secret words" not in reader.get(address).content.decode()


def test_the_right_to_values_is_asked_for_at_each_look():
    """Whoever revealed them and lost the right reads them no longer."""
    address = f"{LIVE}row/e{add_event().pk}/"
    reader = staff(WATCH, "blog.view_post", name="reader")
    reader.post(address)
    assert "secret words" in reader.get(address).content.decode()
    User.objects.get(username="reader").user_permissions.remove(Permission.objects.get(codename="view_post"))
    assert "secret words" not in reader.get(address).content.decode()


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
    assert watching_notes() == ["Started watching."]
    Watch.objects.update(until=now - timedelta(seconds=LEASE_SECONDS + 1))
    staff(WATCH, name="other").get(LIVE)
    assert Watch.objects.count() == 1


def test_the_end_of_a_watch_is_logged():
    """When the page says so, and when a later one finds that it never did."""
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


def test_a_watch_is_ended_by_its_own_site_only():
    """The page says so with the token against forged requests."""
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
    answer = poll(client, cursor, whole="1")
    assert (len(answer["rows"]), answer["skipped"], answer["count"]) == (5, 9, 14)


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
def test_filters_go_for_page_and_polls(query, kinds):
    """They stand in the address, and the server applies them."""
    client = watcher()
    start = _start(client)
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


def test_requests_are_found_by_their_streams_model():
    """What they name is the stream."""
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
    """However many rows it brings."""
    client = watcher()

    def count():
        cursor = cursor_of(client)
        client.get(ROWS, {"cursor": cursor})
        with CaptureQueriesContext(connection) as queries:
            poll(client, _start(client))
        return len(queries)

    add_event()
    add_traffic()
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


# Much -----------------------------------------------------------------------------------------------------------------


def test_a_burst_is_thinned_out_and_said():
    """One rule for all processes; refusals, errors and marks are never left out, and everything is counted."""
    client = watcher()
    cursor = cursor_of(client)
    for number in range(250):
        add_event(object_pk=str(number))
    add_event(kind=Event.CONTROL, stream="", data='{"type": "config"}')
    for _ in range(30):
        add_traffic()
    refused = [add_traffic(kind=kind).pk for kind in (Traffic.REFUSED, Traffic.ERROR)]
    answer = poll(client, cursor)
    keys = {row["key"] for row in answer["rows"]}
    assert answer["every"] == 4
    assert answer["count"] == 250 + 1 + 30 + 2
    assert answer["skipped"] == 0
    assert 20 < len(keys) <= traffic.ANSWER_ROWS + 3
    assert {f"t{pk}" for pk in refused} < keys
    assert any("declbind-row-control" in row["html"] for row in answer["rows"])
    assert {row["key"] for row in poll(client, cursor)["rows"]} == keys
    whole = poll(client, cursor, whole="1")
    assert (whole["every"], len(whole["rows"])) == (1, 283)
    assert poll(client, cursor, bare="1")["rows"] == []


def test_what_was_skipped_is_read_page_by_page(monkeypatch):
    """From any cursor on, each row once and none passed over, whatever the order of the clocks."""
    monkeypatch.setattr(traffic, "MAX_ROWS", 4)
    client = watcher()
    now = timezone.now()
    cursor = cursor_of(client)
    # The clock of the second writer is behind.
    wanted = {f"e{add_event(created_at=now - timedelta(seconds=number % 2 * 5)).pk}" for number in range(7)}
    wanted |= {f"t{add_traffic(at=now + timedelta(seconds=number)).pk}" for number in range(6)}
    seen = []
    for _ in range(10):
        context = client.get(LIVE, {"cursor": cursor}).context
        seen += [row.key for row, _ in context["rows"]]
        cursor = str(context["page"].cursor)
        if not context["page"].has_more:
            break
    assert sorted(seen) == sorted(wanted)
    assert context["is_live"]


def test_a_filter_looks_through_a_bounded_stretch_and_says_so(monkeypatch):
    """Nothing but the order of events has an index."""
    client = watcher()
    add_event(stream="old")
    for _ in range(5):
        add_event()
    assert len(client.get(LIVE, {"stream": "old"}).context["rows"]) == 1
    assert "newest 20000 events" not in client.get(LIVE, {"stream": "old"}).content.decode()
    monkeypatch.setattr(traffic, "WINDOW", 3)
    page = client.get(LIVE, {"stream": "old"})
    assert page.context["rows"] == []
    assert "looks through the newest 3 events" in page.content.decode()
    assert len(client.get(LIVE).context["rows"]) == 6


# Who got it -----------------------------------------------------------------------------------------------------------


def test_a_row_says_how_many_got_it_of_all_processes():
    """With the longest time that it took; "at least" where a process did not note all of its events."""
    client = watcher()
    event, nobody = add_event(), add_event(object_pk="8")
    at = timezone.now().replace(microsecond=0)
    add_activity(node="n1", deliveries=[[offset_of(event), 3, 1.5]], sent=3, at=at)
    add_activity(node="n2", deliveries=[[offset_of(event), 2, 9.5]], sent=2, at=at)
    add_activity(node="n2", sent=0, at=at + timedelta(seconds=2))
    rows = {row.key: row for row, _ in client.get(LIVE).context["rows"]}
    assert (str(rows[f"e{event.pk}"].delivery), rows[f"e{event.pk}"].latency) == ("5", 9.5)
    assert str(rows[f"e{nobody.pk}"].delivery) == "0"
    Activity.objects.filter(node="n2").update(sent=50)
    rows = {row.key: row for row, _ in client.get(LIVE).context["rows"]}
    assert str(rows[f"e{event.pk}"].delivery) == "≥ 5"
    assert rows[f"e{nobody.pk}"].delivery is None


def test_an_answer_tells_who_got_what_was_shown_before():
    """It is known a second later than the row is shown."""
    client = watcher()
    event = add_event()
    cursor = cursor_of(client)
    add_activity(node="n1", deliveries=[[offset_of(event), 3, 1.5]], sent=3)
    answer = poll(client, cursor, extras="1")
    assert answer["got"] == {str(offset_of(event)): [3, 1.5]}
    assert "got" not in poll(client, cursor)


def test_the_charts_add_up_the_processes_and_mark_what_happened():
    """In words too, for those who do not see them."""
    client = watcher()
    at = timezone.now().replace(microsecond=0) - timedelta(seconds=10)
    for node in ("n1", "n2"):
        add_activity(node=node, at=at, sent=7, received=2, refused=1, p50=2.0, p99=8.0)
    add_event(kind=Event.CONTROL, stream="", data='{"type": "config"}')
    add_event(kind=Event.CONTROL, stream="", data='{"type": "kick"}')
    now = timezone.now()
    Node.objects.create(id="n1", host="web", pid=4, started_at=now, seen_at=now)
    page = client.get(LIVE).content.decode()
    for text in ("at most 14", "at most 4", "at most 8 ms", "configuration changed", "disconnected by an operator",
                 "process web:4 started", '<th scope="row">'):  # fmt: skip
        assert text in page, text


# A row's page ---------------------------------------------------------------------------------------------------------


def test_a_rows_page_tells_its_steps():
    """Each kind of row has one; what is not kept any more is not found."""
    client = watcher()
    event = add_event(actor="bob", origin="manage.py shell")
    add_activity(deliveries=[[offset_of(event), 1, 2.5]], sent=1)
    page = client.get(f"{LIVE}row/e{event.pk}/").content.decode()
    for text in (
        "Written by bob in manage.py shell",
        "Delete for group blog-1.",
        "Sent to 1 connection, the last after",
    ):
        assert text in page, text
    refused = add_traffic(
        kind=Traffic.REFUSED, outcome="denied", message="You may not.", detail='{"sent": {"data": {"title": "text"}}}'
    )
    page = client.get(f"{LIVE}row/t{refused.pk}/").content.decode()
    for text in (
        "Requested by ann: stream posts to update row 7.",
        "Refused as denied: You may not.",
        "&quot;title&quot;",
    ):
        assert text in page, text
    for row in (
        add_event(changes="[]"), add_event(kind=Event.CONTROL, stream="", data='{"type": "config"}'), add_traffic(),
        add_traffic(kind=Traffic.CONNECTION, stream="", outcome="closed 4408", message="Too slow."),
    ):  # fmt: skip
        letter = "e" if isinstance(row, Event) else "t"
        assert client.get(f"{LIVE}row/{letter}{row.pk}/").status_code == 200
    for key in ("e999999", "x1", "e", "t-1", "e99999999999999999999"):
        assert client.get(f"{LIVE}row/{key}/").status_code == 404
    assert staff(name="editor").get(f"{LIVE}row/e{event.pk}/").status_code == 403


def test_a_rows_links_keep_to_pages_that_there_are(monkeypatch):
    """Those of the tries and reasons are left out where the site has no such page."""
    client = watcher()
    event = add_event()
    _, links = client.get(LIVE).context["rows"][0]
    assert links.row == f"{LIVE}?stream=posts&row=7"
    assert links.open == f"{LIVE}row/e{event.pk}/"
    monkeypatch.setattr("admin_ui.links.find_page", lambda admin, page: f"/{page}/")
    _, links = client.get(LIVE).context["rows"][0]
    assert links.try_it == "/try/?stream=posts&row=7&action=delete"
    assert links.why == f"/why/?stream=posts&row=7&offset={offset_of(event)}"
    monkeypatch.setattr("admin_ui.links.find_page", lambda admin, page: "")
    _row, links = client.get(LIVE).context["rows"][0]
    assert (links.try_it, links.why) == ("", "")


# Saved views and export -----------------------------------------------------------------------------------------------


def test_filters_are_kept_under_a_name():
    """For their user alone, with nothing in them but filters; and forgotten by name."""
    client = watcher()
    answer = client.post(SAVED, {"name": "Mine", "query": "stream=posts&user=ann&cursor=1&evil=2"})
    assert answer["Location"] == f"{LIVE}?stream=posts&user=ann"
    assert SavedView.objects.get().query == "stream=posts&user=ann"
    client.post(SAVED, {"name": "Mine", "query": "only=refused"})
    assert SavedView.objects.get().query == "only=refused"
    assert "Mine" in client.get(LIVE).content.decode()
    other = staff(WATCH, name="other")
    assert "Mine" not in other.get(LIVE).content.decode()
    other.post(SAVED, {"delete": "Mine", "query": ""})
    assert SavedView.objects.exists()
    client.post(SAVED, {"delete": "Mine", "query": ""})
    assert not SavedView.objects.exists()
    client.post(SAVED, {"name": " ", "query": "only=refused"})
    assert not SavedView.objects.exists()
    assert client.get(SAVED).status_code == 405


def test_what_is_shown_can_be_exported():
    """By the same filters and rights; values after they were revealed."""
    client = watcher("blog.view_post")
    event = add_event()
    add_traffic()
    lines = [json.loads(line) for line in client.get(EXPORT).content.decode().splitlines()]
    assert [line["direction"] for line in lines] == ["in", "out"]
    assert lines[1]["payload"]["title"] == "text, 12 characters"
    assert lines[1]["groups"] == [{"group": "blog-1", "action": "delete"}, {"group": "blog-2", "action": "create"}]
    client.post(f"{LIVE}row/e{event.pk}/")
    line = json.loads(client.get(EXPORT, {"user": "", "action": "create"}).content.decode())
    assert (line["payload"]["title"], line["values"]) == ("secret words", True)


def test_a_spreadsheet_does_not_run_what_a_client_sent():
    """Cells that would be formulas are text."""
    client = watcher()
    for name in ("=1+1", "+1", "-1", "@x", "\t=1", "plain"):
        add_traffic(username=name)
    table = list(csv.DictReader(io.StringIO(client.get(EXPORT, {"format": "csv"}).content.decode())))
    assert [row["by"] for row in table] == ["plain", "'\t=1", "'@x", "'-1", "'+1", "'=1+1"]
    assert set(table[0]) == set(export.COLUMNS)


def test_the_page_works_without_scripts_and_under_a_strict_policy():
    """Everything is a link or a form; nothing is inline."""
    client = watcher()
    add_event()
    page = client.get(LIVE).content.decode()
    assert "onclick" not in page
    assert " style=" not in page
    assert "<script>" not in page
    assert f'href="?cursor={client.get(LIVE).context["page"].cursor}"' in page


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


# Bulk writes and raw SQL --------------------------------------------------------------------------------------------


def add_bulk(*groups, **values):
    changes = json.dumps([[group, "resync"] for group in groups], separators=(",", ":"))
    return add_event(kind=Event.BULK, object_pk="null", changes=changes, data="{}", **values)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (("*",), "every group asked to take a snapshot"),
        (("blog-1",), "1 group asked to take a snapshot: more than 1\N{NO-BREAK SPACE}000 rows were written at once"),
        ([f"blog-{number}" for number in range(12)], "12 groups asked to take a snapshot"),
    ],
)
def test_a_bulk_write_reads_as_one(groups, words):
    """On the list, on its page and in the exports; it is of no row, so nothing leads to one."""
    client = watcher("blog.view_post")
    event = add_bulk(*groups)
    response = client.get(LIVE)
    ((row, links),) = response.context["rows"]
    page = response.content.decode()
    assert words in page
    assert "None" not in page
    assert (row.pk, links.row, links.try_it) == ("", "", "")
    assert links.why.endswith(f"stream=posts&offset={offset_of(event)}")
    assert links.like.endswith("stream=posts&action=resync")
    own = client.get(f"{LIVE}row/e{event.pk}/").content.decode()
    assert words[1:] in own
    assert "None" not in own
    assert ("every group" in own) == (groups == ("*",))
    (line,) = client.get(EXPORT).content.decode().splitlines()
    assert (json.loads(line)["row"], len(json.loads(line)["groups"])) == ("", min(len(groups), 6))
    assert client.get(EXPORT + "?format=csv").status_code == 200


def test_a_bulk_write_is_found_by_its_action_and_each_of_its_groups():
    """One for every group is for the group that is asked for, too."""
    client = watcher()
    named, every = add_bulk("blog-1", "blog-2"), add_bulk("*")
    add_event()

    def keys(query):
        return {row.key for row, _ in client.get(LIVE + query).context["rows"]}

    assert keys("?action=resync") == {f"e{named.pk}", f"e{every.pk}"}
    assert keys("?action=resync&group=blog-1") == {f"e{named.pk}", f"e{every.pk}"}
    assert keys("?action=resync&group=blog-3") == {f"e{every.pk}"}
    assert keys("?action=create&group=blog-3") == set()


def test_what_a_trigger_noted_is_no_traffic():
    """Neither on the page, in a poll, nor by its address; where ids are numbers nothing after it is shown either."""
    client = watcher()
    before = add_event()
    cursor = cursor_of(client)
    mark = Event.objects.create(
        kind=Event.MARK,
        data='{"table": "blog_post", "op": "DELETE"}',
        changes="[]",
        origin="SQL",
        created_at=timezone.now(),
    )
    after = add_event()
    shown = {f"e{before.pk}", f"e{after.pk}"} if connection.vendor != "sqlite" else {f"e{before.pk}"}
    assert {row.key for row, _ in client.get(LIVE).context["rows"]} == shown
    assert {row["key"] for row in poll(client, cursor)["rows"]} == shown - {f"e{before.pk}"}
    assert client.get(f"{LIVE}row/e{mark.pk}/").status_code == 404
    mark.delete()
    assert {row.key for row, _ in client.get(LIVE).context["rows"]} == {f"e{before.pk}", f"e{after.pk}"}


def test_raw_sql_is_shown_with_the_database_user_and_the_program():
    """A user of the database is none of the site."""
    client = watcher()
    event = add_event(actor="etl", origin="SQL psql")
    page = client.get(LIVE).content.decode()
    assert "database user etl" in page
    assert "SQL, by psql" in page
    own = client.get(f"{LIVE}row/e{event.pk}/").content.decode()
    assert "Written by database user etl in SQL, by psql under configuration" in own
