"""The panel beside the form: a frame of the edited binding, its effects and problems. It stores nothing."""

from __future__ import annotations

import json

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from declbind import Binding
from declbind.console.audience import subscription_mark
from declbind.models import BindingRecord, BindingRevision, Connection, Node
from example_site.blog.models import Blog, Post
from tests.console_forms import ANIMALS, LIST, POST, change_url, read_form, save, staff
from tests.factories import AnimalFactory

pytestmark = pytest.mark.django_db

PANEL = f"{LIST}panel/"
EDITOR = ("declbind.view_bindingrecord", "declbind.change_bindingrecord", "declbind.add_bindingrecord")


@pytest.fixture
def post():
    blog = Blog.objects.create(title="Cats", slug="cats")
    return Post.objects.create(blog=blog, title="Purr", body="On purring")


def form_of(client, record=None):
    return read_form(client.get(change_url(record) if record else f"{LIST}add/").content.decode())


def ask(client, record, **changes: object) -> str:
    """Return the panel's HTML as the script gets it for a form with these changes."""
    data = form_of(client, record) | changes | {"object_id": record.pk if record else ""}
    response = client.post(PANEL, data)
    assert response.status_code == 200, response
    html: str = response.json()["html"]
    return html.replace("&quot;", '"').replace("&#x27;", "'")


def connect(name: str, stream: str, group: str, username: str = "ann", *, ended: bool = False) -> None:
    """Store an open connection that is subscribed to a group, or was."""
    now = timezone.now()
    Node.objects.update_or_create(id="n", defaults={"host": "h", "pid": 1, "started_at": now, "seen_at": now})
    until = 5 if ended else None
    Connection.objects.create(
        id=name, node="n", username=username, opened_at=now,
        subscriptions=json.dumps([[stream, group, until, 0, ""]], separators=(",", ":")),
    )  # fmt: skip


def test_the_frame_is_that_of_the_edited_binding(admin_client, post):
    """The panel uses the values of the form instead of the stored ones, and stores nothing."""
    record = save(POST)
    html = ask(admin_client, record, fields_names="title", groups="b-{blog_id}")
    assert '"title": "Purr"' in html
    assert "On purring" not in html
    assert f"<code>b-{post.blog_id}</code>" in html
    assert "everyone" in html
    record.refresh_from_db()
    assert record.definition() == POST
    assert BindingRevision.objects.count() == 1


def test_a_row_is_found_by_key_and_by_text(admin_client, post):
    """At most ten rows are listed, and a chosen row stays chosen."""
    for number in range(12):
        Post.objects.create(blog=post.blog, title=f"Post {number}", body="x")
    record = save(POST)
    assert ask(admin_client, record).count('name="look_pk"') == 10
    assert f"checked> <b>{post.pk}</b> Purr" in ask(admin_client, record, look_q=str(post.pk))
    found = ask(admin_client, record, look_q="purr")
    assert found.count('name="look_pk"') == 1
    assert f'"pk": {post.pk}' in found
    assert f'"pk": {post.pk}' in ask(admin_client, record, look_pk=str(post.pk))
    assert "No row matches" in ask(admin_client, record, look_q="nothing like it")


def test_rows_need_the_permission_to_view_their_model(post):
    """An editor of bindings sees values only with that permission."""
    record = save(POST)
    html = ask(staff(*EDITOR), record)
    assert "Purr" not in html
    assert "Rows are shown only to users who may view posts." in html
    assert "Purr" in ask(staff(*EDITOR, "blog.view_post", name="reader"), record)


def test_rows_that_the_model_s_own_page_hides_are_hidden(post, monkeypatch):
    """The admin page of a model may show an editor some of the rows only."""
    record = save(POST)
    client = staff(*EDITOR, "blog.view_post")
    assert "Purr" in ask(client, record, look_pk=str(post.pk))
    registered = admin.site._registry[Post]
    monkeypatch.setattr(registered, "get_queryset", lambda request: Post.objects.none())
    assert "Purr" not in ask(client, record, look_pk=str(post.pk))


def test_a_search_does_not_match_secrets():
    """Otherwise a password's hash could be guessed letter by letter."""
    from admin_ui.editor.panel import _contains

    asked = str(_contains(User, "x"))
    assert "username__icontains" in asked
    assert "password" not in asked


def test_secrets_need_the_permission_to_expose_them(admin_user):
    """Neither naming the field nor naming it as sensitive is enough: the panel validates like a save."""
    AnimalFactory.create(secret_token="sesame")
    client = staff(*EDITOR, *ANIMALS)
    change = {"stream": "pets", "model": "zoo.Animal", "fields_mode": "these", "fields_names": "secret_token",
              "sensitive": "secret_token"}  # fmt: skip
    html = ask(client, None, **change)
    assert "looks sensitive" in html
    assert "sesame" not in html
    holder = staff(*EDITOR, *ANIMALS, "declbind.expose_sensitive", name="holder")
    assert "sesame" in ask(holder, None, **change)


def test_problems_link_to_their_fields(admin_client, post):
    """As long as there are problems, no frame is shown."""
    html = ask(admin_client, save(POST), fields_names="titel")
    assert '<a href="#id_fields_mode_0" data-field="fields">What is sent</a>: Line 1' in html
    assert "Did you mean 'title'?" in html
    assert "Fix the problems above first" in html


def test_the_panel_describes_the_change_and_counts_the_affected_subscribers(admin_client, post):
    """Only present subscribers of the stream count."""
    record = save({**POST, "fields": ["title"]})
    connect("a", "posts", f"blog-{post.blog_id}")
    connect("b", "posts", f"blog-{post.blog_id}", ended=True)
    connect("c", "other", "posts")
    html = ask(admin_client, record, fields_names="title\r\nbody")
    assert "also sends body" in html
    assert "gives more access" in html
    assert "1 connection will be informed" in html
    assert "Nothing has been changed" in ask(admin_client, record)


def test_recipients_of_the_row_are_counted_and_named_by_permission(admin_client, post):
    """Names need the permission to view connections."""
    group = f"blog-{post.blog_id}"
    assert subscription_mark("posts", group)
    connect("a", "posts", group)
    connect("b", "posts", "blog-999", "bob")
    record = save(POST)
    html = ask(admin_client, record)
    assert "1 connection: ann" in html
    assert "bob" not in html
    plain = ask(staff(*EDITOR, "blog.view_post"), record)
    assert "1 connection" in plain
    assert "ann" not in plain


def test_a_confirmation_is_kept_only_beside_its_own_text(admin_client):
    """If the text grows, the confirmation must be given again."""
    record = save({**POST, "fields": ["title"]})
    html = ask(admin_client, record, fields_names="title\r\nbody")
    ticked = html.split('id="id_confirm_widening" value="')[1].split('"')[0]
    same = ask(admin_client, record, fields_names="title\r\nbody", confirm_widening=ticked)
    assert f'value="{ticked}" checked' in same
    more = ask(admin_client, record, fields_names="title\r\nbody\r\nauthor", confirm_widening=ticked)
    assert "checked> It opens" not in more


def test_a_faulty_serializer_is_reported_in_the_panel(admin_client, post, settings):
    """The panel exists to find such faults."""
    settings.DECLBIND = {"SERIALIZERS": {"broken": "tests.test_admin_panel.break_down"}}
    html = ask(admin_client, save(POST), serializer="broken")
    assert "ZeroDivisionError" in html


def break_down(instance: Model, binding: type[Binding]) -> dict[str, object]:
    return {"a": 1 / 0}


def test_the_panel_works_without_scripts_and_stores_nothing(admin_client, post):
    """The button submits the form, and the page keeps the submitted values."""
    record = save(POST)
    data = form_of(admin_client, record) | {"fields_names": "title", "description": "new", "_look": "1"}
    response = admin_client.post(change_url(record), data)
    page = response.content.decode()
    assert response.status_code == 200
    assert "&quot;title&quot;: &quot;Purr&quot;" in page
    assert "no longer sends body" in page
    assert "Please correct" not in page
    assert read_form(page)["description"] == "new"
    record.refresh_from_db()
    assert record.definition() == POST
    new = form_of(admin_client) | {"stream": "x", "model": "blog.Post", "fields_names": "title", "_look": "1"}
    assert admin_client.post(f"{LIST}add/", new).status_code == 200
    assert BindingRecord.objects.count() == 1


def test_the_panel_does_not_accept_a_newer_version(admin_client):
    """A preview after an edit by another user does not let the next save overwrite it."""
    record = save(POST)
    data = form_of(admin_client, record) | {"description": "mine"}
    record.description = "theirs"
    record.save()
    looked = read_form(admin_client.post(change_url(record), data | {"_look": "1"}).content.decode())
    assert "Another user changed" in admin_client.post(change_url(record), looked).content.decode()


def test_the_panel_is_for_editors_only():
    """Viewers get no preview of edited bindings, and a GET request is refused."""
    record = save(POST)
    viewer = staff("declbind.view_bindingrecord", "blog.view_post")
    assert viewer.post(PANEL, {"object_id": record.pk}).status_code == 403
    assert viewer.post(PANEL, {}).status_code == 403
    adder = staff("declbind.add_bindingrecord", name="adder")
    assert adder.post(PANEL, {"object_id": record.pk}).status_code == 403
    editor = staff(*EDITOR, name="editor")
    assert editor.get(PANEL).status_code == 405
    assert editor.post(PANEL, {"object_id": 999}).status_code == 404
    assert editor.post(PANEL, {}).status_code == 200


def test_opening_the_form_reads_no_row(admin_client, post):
    """Rows are read only for a preview."""
    record = save(POST)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(change_url(record))
    assert not [query for query in queries.captured_queries if "blog_post" in query["sql"]]


def test_the_overview_shows_how_to_subscribe(admin_client):
    """It shows the params of each group template, filled in."""
    record = save({**POST, "groups": ["blog-{blog_id}", "by-{author}-{published}"]})
    page = admin_client.get(f"{LIST}{record.pk}/overview/")
    html = page.content.decode().replace("&quot;", '"').replace("&#x27;", "'")
    assert 'stream.subscribe({"blog_id": 1}' in html
    assert '{"author": 1, "published": true}' in html
    assert '{"stream": "posts", "payload": {"action": "subscribe", "params": {"blog_id": 1}' in html
    assert 'client.request("posts", "subscribe", params={"blog_id": 1})' in html
