"""The form of a binding record: errors at their fields, and no change is stored over another one."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry

from declbind.models import BindingRecord, BindingRevision
from tests.console_forms import LIST, POST, change_url, errors, post_confirmed, read_form, save, spoil

# Adding and changing --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_binding_is_added_by_the_form(admin_client, admin_user):
    """Every key of the form is stored in the record, and the revision has the author and the note."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {
        "stream": "posts", "model": "blog.Post", "description": "Live posts", "enabled": "on",
        "fields_mode": "these", "fields_names": "title\r\n body \r\n\r\n", "groups": "blog-{blog_id}\r\n",
        "where": '{"published": true}', "permissions_view": "everyone", "permissions_create": "holders",
        "permissions_create_codename": "blog.add_post", "permissions_update": "nobody",
        "direction": "both", "writable_mode": "these", "writable_names": "title", "note": "first",
    }  # fmt: skip
    response = post_confirmed(admin_client, f"{LIST}add/", data)
    assert response.status_code == 302, errors(response)
    assert BindingRecord.objects.get().definition() == {
        "stream": "posts", "model": "blog.Post", "fields": ["title", "body"], "groups": ["blog-{blog_id}"],
        "permissions": {"view": True, "create": "blog.add_post", "update": False}, "writable": ["title"],
        "where": {"published": True}, "description": "Live posts",
    }  # fmt: skip
    revision = BindingRevision.objects.get()
    assert (revision.author, revision.note) == (admin_user, "first")
    assert LogEntry.objects.count() == 1


FAULTS = [
    ("stream", {"stream": "no spaces"}, "stream", "Expected 1 to 64 letters"),
    ("model", {"model": "blog.Pots"}, "model", "Expected an installed model"),
    ("no model", {"model": ""}, "model", "This field is required."),
    ("field", {"fields_names": "titel"}, "fields", "Line 1: Field 'titel' does not exist"),
    ("no field", {"fields_names": " "}, "fields", "Choose which fields to send"),
    ("exclude", {"fields_mode": "but", "fields_names": "bodi"}, "fields", "Line 1: Field 'bodi'"),
    ("group", {"groups": "a b"}, "groups", "Line 1: Expected ASCII letters"),
    ("placeholder", {"groups": "x-{blok}"}, "groups", "Line 1: Field 'blok' does not exist"),
    ("where text", {"where": "{'a': 1}"}, "where", "a mistake at line 1, column 2"),
    ("where list", {"where": "[1]"}, "where", "Expected a JSON object in this field, got a list"),
    ("where twice", {"where": '{"title": 1, "title": 2}'}, "where", "title: Expected each key once"),
    ("where field", {"where": '{"nope": 1}'}, "where", "nope: Field 'nope'"),
    ("codename", {"permissions_view": "holders", "permissions_view_codename": "blog.nope"}, "permissions",
     "Who may see rows: Permission 'blog.nope' does not exist."),
    ("no codename", {"permissions_view": "holders"}, "permissions", "Who may see the rows: name the permission"),
    ("lost codename", {"permissions_view": "default", "permissions_view_codename": "blog.add_post"}, "permissions",
     "'blog.add_post' is named, but another option is chosen"),
    ("writable", {"writable_mode": "these", "writable_names": "blog"}, "writable", "Line 1: "),
    ("scope", {"scope": '{"author": "$user.pk"}'}, "groups", "Expected group templates that contain"),
    ("serializer", {"serializer": "nope"}, "serializer", "Expected a serializer"),
    ("capture", {"capture": "sideways"}, "capture", "Select a valid choice."),
    ("also", {"also": "blog\r\nauthr"}, "also", "Line 2: blog.Post has no relation 'authr'"),
    ("also with a dot", {"also": "author.groups"}, "also", "Write 'author__groups'."),
    ("direction", {"direction": "sideways"}, "direction", "Select a valid choice."),
]  # fmt: skip


@pytest.mark.django_db
def test_an_empty_form_misses_the_model_and_the_fields(admin_client):
    """The stream is made from the model, so it is not missing."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    assert set(errors(admin_client.post(f"{LIST}add/", data))) == {"model", "fields"}
    assert set(errors(admin_client.post(f"{LIST}add/", {**data, "stream": "a b"}))) == {"model", "fields", "stream"}


@pytest.mark.django_db
@pytest.mark.parametrize(("change", "field", "text"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_mistake_is_shown_at_its_field(admin_client, change, field, text):
    """Nothing is stored, the form keeps the submitted values, and the message is at the field."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"stream": "posts", "model": "blog.Post", "fields_mode": "these", "fields_names": "title", **change}
    response = admin_client.post(f"{LIST}add/", data)
    assert response.status_code == 200
    found = errors(response)
    assert any(text in message for message in found.get(field, [])), found
    assert BindingRecord.objects.count() == 0
    if change.get("where"):
        assert read_form(response.content.decode())["where"] == change["where"]


@pytest.mark.django_db
def test_a_stream_that_a_file_has_is_refused_at_its_field(admin_client):
    """A row cannot take the stream of a file."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"stream": "blog-posts", "model": "blog.Post", "fields_mode": "all"}
    found = errors(admin_client.post(f"{LIST}add/", data))
    assert "already defined by blog/bindings/posts.json[0]" in found["stream"][0]


@pytest.mark.django_db
def test_a_second_record_of_a_stream_is_refused_at_its_field(admin_client):
    """Streams are unique."""
    save(POST)
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"stream": "posts", "model": "blog.Post", "fields_mode": "all"}
    assert "already exists" in errors(admin_client.post(f"{LIST}add/", data))["stream"][0]


@pytest.mark.django_db
def test_a_save_over_a_newer_version_is_refused_and_shows_both(admin_client):
    """The second user sees what the first one stored, and may then save again."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    record.description = "by somebody else"
    record.save()
    data["description"] = "mine"
    response = admin_client.post(change_url(record), data)
    page = response.content.decode()
    assert response.status_code == 200
    assert "Another user changed this binding" in page
    assert "by somebody else" in page
    assert "&quot;mine&quot;" in page
    record.refresh_from_db()
    assert record.description == "by somebody else"
    again = read_form(page)
    assert again["description"] == "mine"
    assert admin_client.post(change_url(record), again).status_code == 302
    record.refresh_from_db()
    assert record.description == "mine"


@pytest.mark.django_db
def test_a_form_without_its_version_is_refused(admin_client):
    """Negative control of the previous test: omitting the version does not bypass the comparison."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    del data["opened_with"]
    data["description"] = "mine"
    assert admin_client.post(change_url(record), data).status_code == 200
    record.refresh_from_db()
    assert record.description == ""


@pytest.mark.django_db
def test_revisions_show_author_time_note_and_changes(admin_client):
    """The history lists them."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    data |= {"fields_names": "title", "note": "less is more"}
    admin_client.post(change_url(record), data)
    page = admin_client.get(f"{LIST}{record.pk}/history/").content.decode()
    assert "less is more" in page
    assert "Changed by <b>admin</b>" in page
    assert 'declbind-gone">\N{MINUS SIGN} ' in page


# Invalid records ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "values", [{"fields": ["gone"]}, {"model": "no.Such"}, {"fields": {"a": 1}}, {"permissions": [3]}, {"where": 4}]
)
def test_an_invalid_record_is_shown_and_can_be_disabled_by_the_form(admin_client, values):
    """The form shows the problems, and accepts the record unchanged if it is disabled."""
    record = save(POST)
    spoil(record, **values)
    page = admin_client.get(change_url(record)).content.decode()
    assert "Invalid, and therefore not in force" in page
    data = read_form(page)
    if "where" not in values and "permissions" not in values and not isinstance(values.get("fields"), dict):
        del data["enabled"]
        assert admin_client.post(change_url(record), data).status_code == 302
        record.refresh_from_db()
        assert not record.enabled


@pytest.mark.django_db
def test_an_invalid_record_can_only_be_disabled(admin_client):
    """Negative control: any other change is refused."""
    record = save(POST)
    spoil(record, fields=["gone"])
    data = read_form(admin_client.get(change_url(record)).content.decode())
    data |= {"description": "still bad"}
    del data["enabled"]
    assert admin_client.post(change_url(record), data).status_code == 200
    record.refresh_from_db()
    assert record.description == ""
    assert record.enabled


# Short first --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_stream_that_is_left_empty_is_named_for_the_model(admin_client):
    """The name is free, and an existing binding never loses its own."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"model": "blog.Post", "fields_mode": "these", "fields_names": "title"}
    for _ in range(3):
        assert admin_client.post(f"{LIST}add/", data).status_code == 302
    record = BindingRecord.objects.get(stream="posts")
    assert set(BindingRecord.objects.values_list("stream", flat=True)) == {"posts", "posts-2", "posts-3"}
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"stream": ""}
    assert "stream" in errors(admin_client.post(change_url(record), data))


@pytest.mark.django_db
def test_folded_sections_show_what_they_hold_and_open_at_a_mistake(admin_client):
    """Everything but the model, the stream, the fields and the viewers is folded."""
    record = save({**POST, "scope": {}, "auto_subscribe": False})
    page = admin_client.get(change_url(record)).content.decode()
    headings = dict(re.findall(r"<summary><b>([^<]*):</b> <span data-value>([^<]*)</span>", page))
    assert headings["Groups"] == "blog-{blog_id}"
    assert headings["Rows"] == "published is true"
    assert headings["Description and note"] == "none"
    assert "declbind-fold" in page
    assert " open><summary><b>" not in page
    data = read_form(page) | {"where": "{"}
    assert 'data-section="Rows" open>' in admin_client.post(change_url(record), data).content.decode()


@pytest.mark.django_db
def test_a_mistake_in_a_client_s_right_is_shown_at_its_own_input(admin_client):
    """The four actions of one key are spread over two inputs."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"model": "blog.Post", "fields_names": "title", "permissions_update": "holders"}
    data |= {"permissions_update_codename": "blog.nope"}
    found = errors(admin_client.post(f"{LIST}add/", data))
    assert list(found) == ["writers"]
    assert found["writers"][0].startswith("Who may change rows: Permission 'blog.nope'")
