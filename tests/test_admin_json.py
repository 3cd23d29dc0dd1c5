"""The JSON page: the whole record as text, without loss, with errors shown at their place."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from hypothesis import given
from hypothesis import strategies as st

from admin_ui.editor.places import find_paths
from declbind.core.wording import join_path
from declbind.models import BindingRecord, BindingRevision
from tests.console_forms import ANIMALS, LIST, POST, FormReader, post_confirmed, save, spoil, staff, tick

pytestmark = pytest.mark.django_db


def read(client, record):
    """Return what a browser would send for the page of a record."""
    reader = FormReader()
    reader.feed(client.get(f"{LIST}{record.pk}/json/").content.decode())
    return {key: reader.data[key] for key in ("document", "opened_with")}


def send(client, record, document, **more):
    data = read(client, record) | {"document": document if isinstance(document, str) else json.dumps(document)} | more
    return post_confirmed(client, f"{LIST}{record.pk}/json/", data)


def test_the_text_of_a_record_is_lossless(admin_client):
    """Saving it unchanged stores nothing, and adding it elsewhere makes the same record."""
    record = save({**POST, "where": {"published": True, "title": "ümlaut <b>", "id": [1, 2.5, None]}})
    before = BindingRevision.objects.count()
    text = read(admin_client, record)["document"]
    assert json.loads(text) == record.definition()
    assert send(admin_client, record, text).status_code == 302
    assert BindingRevision.objects.count() == before
    record.delete()
    assert post_confirmed(admin_client, f"{LIST}add/json/", {"document": text}).status_code == 302
    assert BindingRecord.objects.get().definition() == json.loads(text)


def test_a_record_is_changed_with_note_and_log(admin_client, admin_user):
    """Omitted keys get their defaults."""
    record = save(POST)
    document = {"$schema": "x", "stream": "posts", "model": "blog.Post", "exclude": ["body"]}
    assert send(admin_client, record, document, note="why").status_code == 302
    record.refresh_from_db()
    assert record.definition() == {"stream": "posts", "model": "blog.Post", "exclude": ["body"]}
    revision = BindingRevision.objects.first()
    assert revision is not None
    assert (revision.author, revision.note) == (admin_user, "why")
    assert LogEntry.objects.get().object_repr == "posts"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"stream": "posts",\n "model": }', "a mistake at line 2, column 11"),
        ("", "a mistake at line 1, column 1"),
        ("[]", "Expected one binding record in this text, got a list"),
        ('"x"', "Expected one binding record"),
        ({"stream": "posts", "model": "blog.Post", "feilds": []}, "$.feilds"),
        ({"stream": "posts", "model": "blog.Post", "fields": None, "exclude": []}, "$.fields"),
        ({"stream": "posts", "model": "blog.Post", "fields": ["titel"]}, "$.fields[0]"),
        ('{"stream": "posts", "stream": "posts", "model": "blog.Post", "fields": []}', "got &#x27;stream&#x27; more"),
        ({"stream": "blog-desk", "model": "blog.Post", "fields": []}, "already defined by blog/bindings/desk.json"),
        (
            {"stream": "posts", "model": "blog.Post", "fields": [], "enabled": False, "where": {"nope": 1}},
            "$.where.nope",
        ),
    ],
)
def test_a_mistake_is_shown_at_its_place(admin_client, text, message):
    """The message gives line and column, or the path; the text and the record stay unchanged."""
    record = save(POST)
    response = send(admin_client, record, text)
    page = response.content.decode()
    assert response.status_code == 200
    assert message in page.replace("</code></a>", "").replace("<code>", "")
    reader = FormReader()
    reader.feed(page)
    typed = text if isinstance(text, str) else json.dumps(text)
    assert reader.data["document"].replace("\r\n", "\n") == typed
    record.refresh_from_db()
    assert record.definition() == POST


def test_a_save_over_a_newer_version_shows_both(admin_client):
    """The next submission, whose page shows both versions, is accepted."""
    record = save(POST)
    data = read(admin_client, record) | {"document": json.dumps({**POST, "description": "mine"})}
    record.description = "theirs"
    record.save()
    url = f"{LIST}{record.pk}/json/"
    page = admin_client.post(url, data).content.decode()
    assert "Another user changed this binding" in page
    assert "theirs" in page
    record.refresh_from_db()
    assert record.description == "theirs"
    reader = FormReader()
    reader.feed(page)
    assert admin_client.post(url, reader.data).status_code == 302
    record.refresh_from_db()
    assert record.description == "mine"


def test_a_record_that_went_bad_shows_why_and_can_be_disabled(admin_client):
    """Disabling is the only edit that is accepted with the problems left."""
    record = save(POST)
    spoil(record, fields=["nope"])
    bad = {**POST, "fields": ["nope"]}
    assert "Field &#x27;nope&#x27; does not exist" in admin_client.get(f"{LIST}{record.pk}/json/").content.decode()
    assert send(admin_client, record, {**bad, "enabled": False, "description": "x"}).status_code == 200
    assert send(admin_client, record, {**bad, "enabled": False}).status_code == 302
    record.refresh_from_db()
    assert not record.enabled


def test_viewers_read_and_cannot_store():
    """Permission to add does not allow changes, nor the other way round."""
    record = save(POST)
    viewer = staff("declbind.view_bindingrecord")
    page = viewer.get(f"{LIST}{record.pk}/json/").content.decode()
    assert "readonly" in page
    assert "Save" not in page
    data = {"document": json.dumps({**POST, "enabled": False}), "opened_with": read(viewer, record)["opened_with"]}
    assert viewer.post(f"{LIST}{record.pk}/json/", data).status_code == 403
    changer = staff("declbind.change_bindingrecord", name="changer")
    assert changer.get(f"{LIST}add/json/").status_code == 403
    assert changer.post(f"{LIST}{record.pk}/json/", data).status_code == 302
    adder = staff("declbind.add_bindingrecord", name="adder")
    assert adder.get(f"{LIST}{record.pk}/json/").status_code == 403
    assert adder.get(f"{LIST}add/json/").status_code == 200


def test_sensitive_fields_need_their_permission_here_too():
    """The text does not bypass the form's rule; with the permission the same text is stored."""
    text = {"stream": "pets", "model": "zoo.Animal", "fields": ["secret_token"], "sensitive": ["secret_token"]}
    codes = ["declbind.add_bindingrecord", *ANIMALS]
    response = staff(*codes).post(f"{LIST}add/json/", {"document": json.dumps(text)})
    assert "(declbind.expose_sensitive) may expose" in response.content.decode()
    assert not BindingRecord.objects.exists()
    holder = staff(*codes, "declbind.expose_sensitive", name="holder")
    assert post_confirmed(holder, f"{LIST}add/json/", {"document": json.dumps(text)}).status_code == 302
    assert BindingRecord.objects.exists()


def test_an_address_without_a_record_is_not_found(admin_client):
    """An address without a valid key is not found."""
    for key in ("999", "abc", "a/b"):
        assert admin_client.get(f"{LIST}{key}/json/").status_code == 404


def test_a_text_that_opens_something_needs_a_confirmation(admin_client):
    """Nothing is stored without the confirmation, which is shown beside the words."""
    record = save({**POST, "fields": ["title"]})
    url = f"{LIST}{record.pk}/json/"
    data = read(admin_client, record) | {"document": json.dumps(POST)}
    page = admin_client.post(url, data).content.decode()
    assert "also sends body" in page
    assert admin_client.post(url, data | {"confirm_widening": "on"}).status_code == 200
    record.refresh_from_db()
    assert record.fields == ["title"]
    assert admin_client.post(url, data | tick(page)).status_code == 302
    record.refresh_from_db()
    assert record.fields == ["title", "body"]
    assert "also sends body" in LogEntry.objects.get().change_message


PLACES = [
    ('{"stream": "posts",\n "model": }', 2, 11),
    ('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": [\n    "title",\n    "titel"\n  ]\n}', 6, 5),
    ('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "feilds": []\n}', 4, 3),
    ('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": [],\n  "where": {"nope": 1}\n}', 5, 13),
    ('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": [],\n  "fields": ["title"]\n}', 5, 3),
    ('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": ["title"],\n  "permissions": "blog.nope"\n}', 5, 3),
    ('\n{"stream": "posts", "model": "blog.Post"}', 2, 1),
]


@pytest.mark.parametrize(("text", "line", "column"), PLACES)
def test_a_mistake_is_shown_at_its_line(admin_client, text, line, column):
    """Lines are counted from 1 and shown with context; a missing key is reported where its object begins."""
    page = send(admin_client, save(POST), text).content.decode()
    assert f">line {line}, column {column}</a>" in page
    meant = [part.split("</span>")[0] for part in page.split("declbind-meant")[1:]]
    assert f'"><span class="declbind-number">{line}' in meant


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


def paths_of(value, path="$", begins=None):
    """Yield each path with the text at its place: the key of a member, or an item itself."""
    yield path, begins
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        is_item = isinstance(key, int)
        yield from paths_of(item, f"{path}[{key}]" if is_item else join_path(path, str(key)), item if is_item else key)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4), st.sampled_from([None, 1, 2]))
def test_each_path_is_found_where_it_begins(value, indent):
    """In any JSON, compact or not, the text at the place is the key, or the item itself."""
    text = json.dumps(value, indent=indent)
    found = find_paths(text)
    wanted = dict(paths_of(value, begins=value))
    assert {path: json.JSONDecoder().raw_decode(text, at)[0] for path, at in found.items()} == wanted
