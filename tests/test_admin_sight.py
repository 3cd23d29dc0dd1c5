"""The writes that a binding does not capture: on its page, in the list, and in the commands."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from declbind.models import BindingRecord, UnseenWrite
from declbind.outbound.triggers import upkeep
from declbind.registry import refresh
from tests.console_forms import LIST, POST, change_url, read_form, save, staff, tick

pytestmark = pytest.mark.django_db
WATCHING = {**POST, "capture": "triggers"}


@pytest.fixture
def installed():
    """Remove the triggers that a test installs."""
    yield lambda: upkeep.install("default")
    upkeep.remove("default")


def page_of(client, record):
    refresh()
    return " ".join(client.get(f"{LIST}{record.pk}/overview/").content.decode().split())


def run(*words):
    out = io.StringIO()
    call_command("declbind", *words, stdout=out)
    return out.getvalue()


def test_the_page_shows_which_writes_are_not_captured(admin_client):
    """Without triggers raw SQL is not captured. This is shown as a fact, not as a fault."""
    page = page_of(admin_client, save(POST))
    assert "Raw SQL and other programs." in page
    assert "declbind.touch(queryset)" in page
    assert "meant to be heard" not in page


@pytest.mark.needs_triggers
def test_missing_triggers_are_a_fault_until_they_are_installed(admin_client, installed):
    """The page shows the state of each table and the command that installs them."""
    record = save(WATCHING)
    page = page_of(admin_client, record)
    assert "Some writes that should be captured are not." in page
    assert "Run <code>manage.py declbind triggers --install</code>." in page
    assert "<code>blog_post</code>" in page
    assert '<span class="declbind-chip declbind-invalid">missing</span>' in page
    installed()
    page = page_of(admin_client, record)
    assert "meant to be heard" not in page
    assert '<span class="declbind-chip declbind-active">installed</span>' in page


def test_saving_the_form_installs_no_trigger(admin_client):
    """Nothing on the page changes a table."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"capture": "triggers"}
    response = admin_client.post(change_url(record), data)
    assert response.status_code == 302
    record.refresh_from_db()
    assert record.capture == "triggers"
    refresh()
    assert [state.state for state in upkeep.load_states("default")] == ["missing"]


def test_viewers_see_it_too():
    """The page names the keys in words."""
    record = save({**WATCHING, "also": ["author"]})
    page = page_of(staff("declbind.view_bindingrecord"), record)
    assert "Changes that it does not notice" in page
    assert "what Django writes, raw SQL and other programs, by triggers" in page
    assert "<code>author</code>" in page


def test_a_binding_of_a_file_shows_it_on_its_page(admin_client):
    """A binding that is not in force or sends nothing does not show it."""
    page = admin_client.get(f"{LIST}defined/blog/bindings/posts.json[0]/").content.decode()
    assert "Changes that it does not notice" in page
    for part in ({"enabled": False}, {"direction": "inbound"}):
        record = save({**POST, "stream": next(iter(part)), **part})
        assert "Changes that it does not notice" not in page_of(admin_client, record)


@pytest.mark.needs_triggers
def test_the_list_marks_a_binding_that_misses_writes(admin_client, installed):
    """The headline counts such bindings. With the triggers there is no mark. It takes at most one query more."""
    save(POST)
    save({**WATCHING, "stream": "watching"})
    refresh()
    page = admin_client.get(LIST).content.decode()
    assert page.count(">misses writes<") == 1
    assert "1 binding misses writes" in page
    assert f'href="{LIST}doctor/"' in page
    installed()
    with CaptureQueriesContext(connection) as queries:
        page = admin_client.get(LIST).content.decode()
    assert "misses writes" not in page
    assert len(queries) <= 12


@pytest.mark.needs_triggers
def test_the_states_are_loaded_once_for_all_bindings(admin_client, installed):
    """Thirty bindings of several tables take as many queries as one, with triggers or without."""
    save({**WATCHING, "stream": "one"})
    counts, marks = [], []
    for step in ("one missing", "many missing", "many installed"):
        if step == "many missing":
            for number in range(15):
                save({**WATCHING, "stream": f"posts-{number}", "also": ["author", "blog"]})
                save({"stream": f"blogs-{number}", "model": "blog.Blog", "fields": ["title"], "capture": "triggers"})
        refresh()
        if step == "many installed":
            installed()
        admin_client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(LIST).content.decode()
        counts.append(len(queries))
        marks.append(page.count(">misses writes<"))
    assert marks == [1, 31, 0]
    assert counts[0] == counts[1] == counts[2] <= 12


@pytest.mark.needs_triggers
def test_the_commands_report_it_too(installed):
    """`check` warns without a change of its exit status, since the record is valid. `list` and `show` report it."""
    save({**WATCHING, "stream": "watching"})
    refresh()
    found = run("check")
    assert "Binding 'watching' does not capture: Raw SQL and other programs that insert, update, delete" in found
    assert "on, misses writes" in run("list")
    listed = {item["stream"]: item for item in json.loads(run("list", "--format", "json"))}
    assert [gap["fault"] for gap in listed["watching"]["misses"]] == [True]
    assert "triggers --install" in run("show", "watching")
    installed()
    assert "does not see" not in run("check")
    assert "misses writes" not in run("list")


def test_relations_of_related_models_are_offered_too(admin_client):
    """The page contains them without its script, and the script requests those of another model."""
    page = admin_client.get(f"{LIST}add/?model=blog.Post").content.decode()
    assert '<li data-path="author" data-begin="">' in page
    assert '<li data-path="author__groups" data-begin="author" hidden>' in page
    found = admin_client.get(f"{LIST}model-fields/?model=blog.Blog").json()["relations"]
    assert {"path": "posts", "begin": "", "kind": "\N{RIGHTWARDS ARROW} several blog.Post"} in found
    # Straight back to where one came from: that would be all posts of the blog, for each post.
    assert "posts__blog" not in {note["path"] for note in found}
    assert admin_client.get(f"{LIST}model-fields/?model=no.Such").json()["relations"] == []


def test_every_relation_that_is_offered_is_valid(admin_client):
    """The validation of the form accepts each of them."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    found = admin_client.get(f"{LIST}model-fields/?model=blog.Post").json()["relations"]
    data["also"] = "\r\n".join(note["path"] for note in found)
    page = admin_client.post(change_url(record), data)
    data |= tick(page.content.decode())
    assert admin_client.post(change_url(record), data).status_code == 302
    assert BindingRecord.objects.get().also == [note["path"] for note in found]


@pytest.mark.needs_triggers
def test_missed_writes_are_faults_with_their_place(admin_client, installed):
    """The page and the list show them until triggers report the table."""
    record = save(POST)
    now = timezone.now()
    UnseenWrite.objects.create(
        table="blog_post", verb="UPDATE", location="blog/views.py:31 in sync", count=4, first_at=now, last_at=now
    )
    page = page_of(admin_client, record)
    assert "Some writes that should be captured are not." in page
    assert "UPDATE of table blog_post at blog/views.py:31 in sync: 4 times" in page
    assert admin_client.get(LIST).content.decode().count(">misses writes<") > 0
    record.capture = "triggers"
    record.save()
    refresh()
    installed()
    assert "meant to be heard" not in page_of(admin_client, record)
