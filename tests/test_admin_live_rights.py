"""The live page: who may watch, and what is shown to whom, on the page and in an export."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from admin_ui.traffic import export
from declbind.live.traffic import CAPTURE_FAILED
from declbind.models import Connection, Event, SavedView, Traffic, Watch
from declbind.registry import override
from tests.console_forms import staff
from tests.live_page import (
    EXPORT,
    LIVE,
    ROWS,
    SAVED,
    WATCH,
    add_event,
    add_traffic,
    cursor_of,
    first_cursor,
    poll,
    watcher,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_log():
    """Start with an empty log: creating the users of a test adds events."""
    Event.objects.all().delete()
    Traffic.objects.all().delete()


# Permissions ----------------------------------------------------------------------------------------------------------


def test_watching_needs_the_permission():
    """The page and its polls answer 403 without it. Anonymous users are redirected to the login page."""
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


def test_a_refused_request_starts_no_watch():
    """A watch makes all processes record traffic."""
    staff(name="editor").get(LIVE)
    staff(name="other").get(ROWS, {"cursor": "e:0:0"})
    assert not Watch.objects.exists()


@pytest.mark.parametrize(
    ("site", "begins"), [("", True), ("none", True), ("same-origin", True), ("cross-site", False), ("same-site", False)]
)
def test_a_request_from_another_site_starts_no_watch(site, begins):
    """A link or an image makes the browser request the page. Only the page's own script starts the watch then."""
    client = watcher()
    headers = {"Sec-Fetch-Site": site} if site else {}
    assert client.get(LIVE, headers=headers).status_code == 200
    assert Watch.objects.exists() is begins
    cursor = cursor_of(client)
    Watch.objects.all().delete()
    client.get(ROWS, {"cursor": cursor}, headers=headers)
    assert Watch.objects.exists() is begins


def test_values_of_a_row_need_the_permission_to_view_its_model():
    """They are shown on request, which is logged once. Other users see the types only, whatever they request."""
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


def test_the_permission_for_values_is_checked_at_each_request():
    """A user who loses the permission can no longer read the values."""
    address = f"{LIVE}row/e{add_event().pk}/"
    reader = staff(WATCH, "blog.view_post", name="reader")
    reader.post(address)
    assert "secret words" in reader.get(address).content.decode()
    User.objects.get(username="reader").user_permissions.remove(Permission.objects.get(codename="view_post"))
    assert "secret words" not in reader.get(address).content.decode()


def test_a_search_does_not_disclose_values():
    """A row is found by its values only for users who may view the model."""
    add_event()
    query = "?q=secret"
    reader = staff(WATCH, "blog.view_post", name="reader")
    assert len(reader.get(LIVE + query).context["rows"]) == 1
    shaped = staff(WATCH, name="watcher")
    assert len(shaped.get(LIVE + query).context["rows"]) == 0
    assert poll(shaped, first_cursor(shaped), q="secret")["rows"] == []
    assert len(shaped.get(LIVE + "?q=blog-2").context["rows"]) == 1


def test_payloads_of_code_are_shown_without_values():
    """Their values are hidden at each level."""
    data = json.dumps({"update": {"action": "update", "data": {"title": "secret words"}}})
    add_event(kind=Event.PAYLOAD, data=data)
    page = staff(WATCH).get(LIVE).content.decode()
    assert "secret" not in page
    assert "object, 1 keys" in page


# Saved views and export -----------------------------------------------------------------------------------------------


def test_filters_can_be_saved_under_a_name():
    """They belong to their user, contain nothing but filters, and can be deleted."""
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


def test_an_export_contains_the_rows_of_the_page():
    """The same filters and permissions apply, and values are included once they were requested."""
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


def test_a_spreadsheet_evaluates_no_input_of_a_client():
    """Cells that would be formulas are exported as text."""
    client = watcher()
    for name in ("=1+1", "+1", "-1", "@x", "\t=1", "plain"):
        add_traffic(username=name)
    table = list(csv.DictReader(io.StringIO(client.get(EXPORT, {"format": "csv"}).content.decode())))
    assert [row["by"] for row in table] == ["plain", "'\t=1", "'@x", "'-1", "'+1", "'=1+1"]
    assert set(table[0]) == set(export.COLUMNS)


def test_the_page_works_without_scripts_and_under_a_strict_policy():
    """Everything is a link or a form, and nothing is inline."""
    client = watcher()
    add_event()
    page = client.get(LIVE).content.decode()
    assert "onclick" not in page
    assert " style=" not in page
    assert "<script>" not in page
    assert f'href="?cursor={client.get(LIVE).context["page"].cursor}"' in page


def test_messages_of_exceptions_need_the_permission_to_view_the_model():
    """Neither the page nor a search shows them to others. A user with the permission is the control."""
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


def test_addresses_of_clients_need_the_permission_to_view_connections():
    """The page of a row hides the address from other watchers."""
    Connection.objects.create(id="c1", node="n", address="192.0.2.0/24", client="Browser/1.0", opened_at=timezone.now())
    page = f"{LIVE}row/t{add_traffic(connection='c1').pk}/"
    assert "192.0.2.0" not in watcher().get(page).content.decode()
    assert "192.0.2.0" in staff(WATCH, "declbind.view_connection", name="other").get(page).content.decode()
