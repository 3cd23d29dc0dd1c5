"""The page of one binding, its tabs and history, and the list and menu that lead to it."""

from __future__ import annotations

import pytest

from admin_ui.records import BindingRecordAdmin
from tests.console_forms import LIST, POST, save, staff
from tests.test_admin_list import act, get
from tests.test_admin_panel import connect

pytestmark = pytest.mark.django_db


def test_all_sources_are_in_one_table_in_one_order(admin_client):
    """Bindings of files stand between those of the database, on each page, and cannot be selected."""
    for number in range(3):
        save({**POST, "stream": f"a-{number}"})
        save({**POST, "stream": f"z-{number}"})
    listed = admin_client.get(LIST).context["cl"]
    streams = [record.stream for record in listed.result_list]
    assert streams == sorted(streams)
    assert streams[3:-3] == ["blog-desk", "blog-posts", "intval"]
    assert [record.stream for record in admin_client.get(LIST, {"o": "-2"}).context["cl"].result_list] == streams[::-1]
    page = get(admin_client)
    assert page.count('name="_selected_action"') == 6
    assert "0 of 6 selected" in page
    assert "9 bindings" in page


def test_a_page_of_the_list_holds_both_sources(admin_client, monkeypatch):
    """The pages follow each other without a gap or a repetition."""
    monkeypatch.setattr(BindingRecordAdmin, "list_per_page", 3)
    for number in range(3):
        save({**POST, "stream": f"a-{number}"})
        save({**POST, "stream": f"z-{number}"})
    found = [
        [record.stream for record in admin_client.get(LIST, {"p": page}).context["cl"].result_list]
        for page in (1, 2, 3)
    ]
    assert found == [["a-0", "a-1", "a-2"], ["blog-desk", "blog-posts", "intval"], ["z-0", "z-1", "z-2"]]
    assert "0 of 0 selected" in get(admin_client, "?p=2")


# The page of one binding --------------------------------------------------------------------------------------------


def test_the_overview_says_what_is_in_force_and_leads_to_all_else(admin_client):
    """It has the settings in words, the subscribers, the last change and how to subscribe."""
    record = save(POST)
    page = admin_client.get(f"{LIST}{record.pk}/overview/").content.decode()
    for text in ("blog-{blog_id}", "0 connections are subscribed now", "Created by", "How to subscribe"):
        assert text in page
    for address in (f"{record.pk}/change/", "try/?stream=posts", "why/?stream=posts", "live/?stream=posts",
                    f"{record.pk}/history/"):  # fmt: skip
        assert f'{LIST}{address}"' in page
    # The tabs are on the pages that ask about the stream too.
    for address in ("try/", "why/", "live/"):
        assert f'{LIST}{record.pk}/overview/"' in get(admin_client, f"{address}?stream=posts")
        assert "declbind-nav declbind-binding" not in get(admin_client, f"{address}?stream=other")


def test_viewers_see_the_overview_and_the_history_without_buttons():
    """A rollback takes the permission to change; others get nothing at all."""
    record = save(POST)
    record.description = "new"
    record.save()
    client = staff("declbind.view_bindingrecord")
    for page in ("overview", "history"):
        response = client.get(f"{LIST}{record.pk}/{page}/")
        assert response.status_code == 200
        assert "Roll back" not in response.content.decode()
        assert staff(name=page).get(f"{LIST}{record.pk}/{page}/").status_code == 403
        assert client.get(f"{LIST}999/{page}/").status_code == 404


def test_deleting_says_who_is_subscribed(admin_client):
    """The confirmation counts the connections and names their users, for one binding and for several."""
    record = save(POST)
    connect("a", "posts", "blog-1", "ann")
    assert "1 connection is subscribed to <b>posts</b> now. Users: ann<" in get(admin_client, f"{record.pk}/delete/")
    page = staff("declbind.view_bindingrecord", "declbind.delete_bindingrecord").get(f"{LIST}{record.pk}/delete/")
    assert "1 connection is subscribed to <b>posts</b> now.<" in page.content.decode()
    page = act(admin_client, "delete_selected", record).content.decode()
    assert "1 connection is subscribed to <b>posts</b>" in page
    other = save({**POST, "stream": "quiet"})
    assert "Nobody is subscribed now" in get(admin_client, f"{other.pk}/delete/")


def test_the_pages_of_the_console_are_in_the_admin_s_menu(admin_client):
    """On the index and beside each page; each user has those that they may open."""
    index = admin_client.get("/admin/").content.decode()
    for page in ("live", "why", "connections", "processes", "doctor"):
        assert f'href="{LIST}{page}/"' in index
    assert ">Nodes<" not in index
    index = staff("declbind.view_bindingrecord").get("/admin/").content.decode()
    assert f'href="{LIST}try/"' in index
    assert f'href="{LIST}live/"' not in index


def test_the_bindings_come_first_in_the_menu_and_the_revisions_last(admin_client):
    """The pages are between them, in the order of the tabs."""
    apps = admin_client.get("/admin/").context["app_list"]
    [names] = [[str(model["name"]) for model in app["models"]] for app in apps if app["app_label"] == "declbind"]
    assert names == [
        "Bindings", "Live traffic", "Why?", "Try it", "Connections", "Processes", "Doctor", "Binding revisions",
    ]  # fmt: skip


def test_the_list_leads_to_the_overview(admin_client):
    """Those of files have one too; the way back keeps the filters."""
    record = save(POST)
    page = get(admin_client, "?state=active")
    assert f'href="{LIST}{record.pk}/overview/?_changelist_filters=state%3Dactive"' in page
    assert f'href="{LIST}{record.pk}/change/' not in page
    assert f'href="{LIST}defined/blog/bindings/posts.json%5B0%5D/"' in page


def test_the_tabs_of_a_binding_have_its_name_as_their_title(admin_client):
    """The form does not have the title of Django's forms."""
    record = save(POST)
    for page in ("overview", "change"):
        assert "<h1>posts</h1>" in get(admin_client, f"{record.pk}/{page}/")
