"""The live page: rows under load, their recipients, the page of one row, bulk writes and raw SQL."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from admin_ui.traffic import window
from declbind.models import Activity, Event, Node, Traffic
from tests.console_forms import staff
from tests.live_page import EXPORT, LIVE, add_activity, add_event, add_traffic, cursor_of, offset_of, poll, watcher

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_log():
    """Start with an empty log: creating the users of a test adds events."""
    Event.objects.all().delete()
    Traffic.objects.all().delete()


# Many rows ------------------------------------------------------------------------------------------------------------


def test_rows_of_a_burst_are_left_out_and_counted():
    """The limit holds for all processes together. Refusals, errors and marks are never left out."""
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
    assert 20 < len(keys) <= window.ANSWER_ROWS + 3
    assert {f"t{pk}" for pk in refused} < keys
    assert any("declbind-row-control" in row["html"] for row in answer["rows"])
    assert {row["key"] for row in poll(client, cursor)["rows"]} == keys
    whole = poll(client, cursor, whole="1")
    assert (whole["every"], len(whole["rows"])) == (1, 283)
    assert poll(client, cursor, bare="1")["rows"] == []


def shown_streams(client, **query):
    """Return the number of rows of each stream on a page that is opened now."""
    return Counter(row.stream for row, _ in client.get(LIVE, query).context["rows"])


def test_a_busy_stream_leaves_places_for_older_rows_of_others(monkeypatch):
    """A page has as many rows as ever, and those of the busy stream are fewer. Each row is shown on request."""
    monkeypatch.setattr(window, "MAX_ROWS", 8)
    monkeypatch.setattr(window, "FAIR_ROWS", 4)
    client = watcher()
    for _ in range(2):
        add_event(stream="quiet")
    refused = add_traffic(kind=Traffic.REFUSED, stream="refusing")
    for number in range(20):
        add_event(stream="busy", object_pk=str(number))
    assert shown_streams(client) == {"busy": 5, "quiet": 2, "refusing": 1}
    assert shown_streams(client, each="1") == {"busy": 8}
    assert f'data-key="t{refused.pk}"' in client.get(LIVE).content.decode()
    assert client.get(EXPORT).content.decode().count("quiet") == 2


def test_only_busy_streams_are_sampled():
    """The few rows of another stream all arrive, unless there are too many such streams."""
    client = watcher()
    cursor = cursor_of(client)
    for number in range(250):
        add_event(object_pk=str(number), stream="busy")
    quiet = [add_event(stream="quiet", object_pk=str(number)) for number in range(7)]
    answer = poll(client, cursor)
    assert answer["every"] > 1
    assert {f"e{event.pk}" for event in quiet} < {row["key"] for row in answer["rows"]}
    for number in range(100):
        add_event(stream=f"s{number}")
    assert len(poll(client, cursor)["rows"]) <= window.ANSWER_ROWS


def test_skipped_rows_can_be_read_page_by_page(monkeypatch):
    """From any cursor each row is read once, whatever the order of the clocks."""
    monkeypatch.setattr(window, "MAX_ROWS", 4)
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


def test_a_filter_searches_a_bounded_part_of_the_log_and_reports_it(monkeypatch):
    """Only the order of events has an index."""
    client = watcher()
    add_event(stream="old")
    for _ in range(5):
        add_event()
    assert len(client.get(LIVE, {"stream": "old"}).context["rows"]) == 1
    assert "newest 20000 events" not in client.get(LIVE, {"stream": "old"}).content.decode()
    monkeypatch.setattr(window, "WINDOW", 3)
    page = client.get(LIVE, {"stream": "old"})
    assert page.context["rows"] == []
    assert "searches the newest 3 events" in page.content.decode()
    assert len(client.get(LIVE).context["rows"]) == 6


# Recipients -----------------------------------------------------------------------------------------------------------


def test_a_row_shows_its_recipients_in_all_processes():
    """It also shows the longest delay, and "at least" if a process did not record all of its events."""
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


def test_a_later_poll_returns_the_recipients_of_earlier_rows():
    """The number is known about a second after the row is shown."""
    client = watcher()
    event = add_event()
    cursor = cursor_of(client)
    add_activity(node="n1", deliveries=[[offset_of(event), 3, 1.5]], sent=3)
    answer = poll(client, cursor, extras="1")
    assert answer["got"] == {str(offset_of(event)): [3, 1.5]}
    assert "got" not in poll(client, cursor)


def test_the_charts_sum_up_the_processes_and_mark_incidents():
    """They have a description in words too."""
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


# The page of a row ----------------------------------------------------------------------------------------------------


def test_the_page_of_a_row_shows_its_steps():
    """Every kind of row has a page. A row that has been deleted is not found."""
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


def test_the_page_of_a_row_links_only_to_existing_pages(monkeypatch):
    """The site may lack the pages that try a binding or explain a delivery."""
    client = watcher()
    event = add_event()
    _, links = client.get(LIVE).context["rows"][0]
    assert links.row == f"{LIVE}?stream=posts&row=7"
    assert links.open == f"{LIVE}row/e{event.pk}/"
    monkeypatch.setattr("admin_ui.traffic.links.find_page", lambda admin, page: f"/{page}/")
    _, links = client.get(LIVE).context["rows"][0]
    assert links.try_it == "/try/?stream=posts&row=7&action=delete"
    assert links.why == f"/why/?stream=posts&row=7&offset={offset_of(event)}"
    monkeypatch.setattr("admin_ui.traffic.links.find_page", lambda admin, page: "")
    _row, links = client.get(LIVE).context["rows"][0]
    assert (links.try_it, links.why) == ("", "")


# Bulk writes and raw SQL ----------------------------------------------------------------------------------------------


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
def test_a_bulk_write_is_shown_as_one_row(groups, words):
    """It belongs to no single row, so neither the list, its page nor an export links to one."""
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
    """A bulk write for every group is found by any group."""
    client = watcher()
    named, every = add_bulk("blog-1", "blog-2"), add_bulk("*")
    add_event()

    def keys(query):
        return {row.key for row, _ in client.get(LIVE + query).context["rows"]}

    assert keys("?action=resync") == {f"e{named.pk}", f"e{every.pk}"}
    assert keys("?action=resync&group=blog-1") == {f"e{named.pk}", f"e{every.pk}"}
    assert keys("?action=resync&group=blog-3") == {f"e{every.pk}"}
    assert keys("?action=create&group=blog-3") == set()


def test_marks_of_triggers_are_not_shown():
    """No page, poll or address shows them. If ids are offsets, nothing after a mark is shown either."""
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
    """A user of the database is not a user of the site."""
    client = watcher()
    event = add_event(actor="etl", origin="SQL psql")
    page = client.get(LIVE).content.decode()
    assert "database user etl" in page
    assert "SQL, by psql" in page
    own = client.get(f"{LIVE}row/e{event.pk}/").content.decode()
    assert "Written by database user etl in SQL, by psql under configuration" in own
