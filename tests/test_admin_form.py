"""The form of a binding record: lossless, with each problem on its field, and never over somebody else's change."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.forms.utils import ErrorDict
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from admin_ui import documents
from admin_ui.form import BindingForm
from declbind.core.spec import BindingSpec
from declbind.models import BindingRecord, BindingRevision

VALID = json.loads((Path(__file__).parent / "data" / "records" / "valid.json").read_text(encoding="utf-8"))
LIST = "/admin/declbind/bindingrecord/"
ANIMALS = tuple(f"zoo.{action}_animal" for action in ("view", "add", "change", "delete"))
POST = {
    "stream": "posts",
    "model": "blog.Post",
    "fields": ["title", "body"],
    "groups": ["blog-{blog_id}"],
    "permissions": {"view": True, "create": "blog.add_post", "delete": False},
    "where": {"published": True},
}


class FormReader(HTMLParser):
    """Read what a browser would send for a form: the values of its controls."""

    def __init__(self, form_id: str = "") -> None:
        super().__init__()
        self.form_id = form_id
        self.inside = not form_id
        self.data: dict[str, Any] = {}
        self.area: str | None = None
        self.select: str | None = None
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "form" and self.form_id:
            self.inside = given.get("id") == self.form_id
        name = given.get("name", "")
        if not self.inside or "disabled" in given:
            return
        if tag == "input" and name and given.get("type") not in ("submit", "button"):
            if given.get("type") not in ("radio", "checkbox"):
                self.data[name] = given.get("value", "")
            elif "checked" in given:
                self.data[name] = given.get("value", "on")
        elif tag == "textarea":
            self.area, self.text = name, ""
        elif tag == "select":
            self.select = name
        elif tag == "option" and self.select and ("selected" in given or self.select not in self.data):
            self.data[self.select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self.area is not None:
            # Browsers drop a first line break and send the others as two characters.
            text = self.text.removeprefix("\r\n").removeprefix("\n")
            self.data[self.area] = text.replace("\r\n", "\n").replace("\n", "\r\n")
            self.area = None
        elif tag == "select":
            self.select = None
        elif tag == "form" and self.form_id:
            self.inside = False


def read_form(html: str, form_id: str = "bindingrecord_form") -> dict[str, Any]:
    reader = FormReader(form_id)
    reader.feed(html)
    return reader.data


def tick(html: str) -> dict[str, str]:
    """Return what ticking "I mean it" adds to what is sent; nothing where a page does not ask."""
    found = re.search(r'name="confirm_widening"[^>]* value="([0-9a-f]+)"', html)
    return {"confirm_widening": found[1]} if found else {}


def post_confirmed(client: Client, url: str, data: dict[str, Any]) -> Any:
    """Send a form, and where it asks send it again with the tick."""
    response = client.post(url, data)
    ticked = tick(response.content.decode())
    return client.post(url, data | ticked) if ticked else response


def staff(*codenames: str, name: str = "staff") -> Client:
    """Return the client of a staff user with these permissions (``app_label.codename``)."""
    user = User.objects.create_user(name, password="x", is_staff=True)
    for codename in codenames:
        app_label, _, code = codename.partition(".")
        user.user_permissions.add(*Permission.objects.filter(content_type__app_label=app_label, codename=code))
    client = Client()
    client.force_login(user)
    return client


def save(document: dict[str, Any]) -> BindingRecord:
    record = BindingRecord().assign(document)
    record.save()
    return record


def change_url(record: BindingRecord) -> str:
    return f"{LIST}{record.pk}/change/"


def spoil(record: BindingRecord, **values: Any) -> None:
    """Make a stored record bad, past every judgement, as a migration of its model would."""
    from django.db import models

    models.QuerySet(BindingRecord).filter(pk=record.pk).update(**values)


def errors(response: Any) -> dict[str, list[str]]:
    return {key: [str(text) for text in texts] for key, texts in response.context["adminform"].form.errors.items()}


# Lossless -----------------------------------------------------------------------------------------------------------


def through_the_form(document: dict[str, Any]) -> dict[str, Any]:
    """Show a record in the form and send it untouched; return what the form then says."""
    record = BindingRecord(pk=1).assign(document)
    shown = BindingForm(instance=record)
    sent: Any = BindingForm(
        read_form(f"<form>{shown.as_div()}</form>", ""), instance=BindingRecord(pk=1).assign(document)
    )
    # Only what the fields say of themselves: most of these models are not installed, so the judgement would object.
    sent._errors, sent.cleaned_data = ErrorDict(), {}
    sent._clean_fields()
    assert not sent._errors
    found: dict[str, Any] = sent.build_document()
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("document", [case["record"] for case in VALID], ids=[case["name"] for case in VALID])
def test_a_valid_record_passes_the_form_unchanged(document):
    """Whatever a file may hold, showing it and saving it stores the same."""
    assert documents.canonical(through_the_form(document)) == documents.canonical(documents.normalise(document))


names = st.lists(st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True), unique=True, max_size=4)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)  # fmt: skip
rules = st.one_of(
    st.booleans(),
    st.sampled_from(["authenticated", "staff"]),
    st.from_regex(r"[a-z]{1,5}\.[a-z_-]{1,8}", fullmatch=True),
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"stream": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True))}
    found["model"] = draw(st.sampled_from(["blog.Post", "BLOG.post", "no.Such"]))
    if draw(st.booleans()):
        found["fields"] = draw(st.one_of(names, st.just("__all__"), st.just(["__all__"])))
    else:
        found["exclude"] = draw(names)
    optional: dict[str, st.SearchStrategy[Any]] = {
        "groups": st.lists(st.from_regex(r"[a-z.-]{1,4}\{[a-z]{1,4}\}", fullmatch=True), unique=True, max_size=3),
        "permissions": st.one_of(
            st.dictionaries(st.sampled_from(["view", "create", "update", "delete"]), rules),
            st.sampled_from(["blog.moderate", "staff"]),
        ),
        "direction": st.sampled_from(["both", "outbound", "inbound"]),
        "writable": names,
        "where": st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
            st.one_of(scalars, st.lists(scalars, min_size=1, max_size=3)),
            max_size=3,
        ),
        "scope": st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.just("$user.pk"), max_size=2),
        "relate": st.dictionaries(
            st.from_regex(r"[a-z]{1,5}", fullmatch=True),
            st.just("any") | st.dictionaries(st.just("owner"), st.just("$user.pk"), min_size=1),
            max_size=2,
        ),
        "grow": st.booleans(),
        "auto_subscribe": st.booleans(),
        "retention": st.none() | st.integers(60, 2**31 - 1),
        "sensitive": names,
        "serializer": st.sampled_from(["default", "elsewhere"]),
        "capture": st.sampled_from(["orm", "triggers"]),
        "also": names,
        "enabled": st.booleans(),
        "description": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    }
    for key, strategy in optional.items():
        if draw(st.booleans()):
            found[key] = draw(strategy)
    return found


@pytest.mark.django_db
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records())
def test_any_record_passes_the_form_unchanged(document):
    """The same, for records that nobody thought of."""
    assert documents.canonical(through_the_form(document)) == documents.canonical(documents.normalise(document))


@pytest.mark.django_db
def test_saving_an_untouched_form_makes_no_revision(admin_client):
    """Looking and pressing Save is not an edit."""
    record = save({**POST, "fields": ["__all__"], "permissions": "blog.add_post"})
    before = BindingRevision.objects.count()
    data = read_form(admin_client.get(change_url(record)).content.decode())
    assert admin_client.post(change_url(record), data).status_code == 302
    record.refresh_from_db()
    assert (record.fields, record.permissions) == (["__all__"], "blog.add_post")
    assert BindingRevision.objects.count() == before


# Adding and changing ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_binding_is_added_by_the_form(admin_client, admin_user):
    """Every key of the form reaches the record, with author and note in its revision."""
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
    ("stream", {"stream": "no spaces"}, "stream", "$.stream: Expected 1 to 64 letters"),
    ("model", {"model": "blog.Pots"}, "model", "$.model: Binding 'posts': expected an installed model"),
    ("no model", {"model": ""}, "model", "This field is required."),
    ("field", {"fields_names": "titel"}, "fields", "$.fields[0]: Binding 'posts': field 'titel' does not exist"),
    ("no field", {"fields_names": " "}, "fields", "Choose which fields to send"),
    ("exclude", {"fields_mode": "but", "fields_names": "bodi"}, "fields", "$.exclude[0]: Binding 'posts': field"),
    ("group", {"groups": "a b"}, "groups", "$.groups[0]: Expected ASCII letters"),
    ("placeholder", {"groups": "x-{blok}"}, "groups", "$.groups[0]: Binding 'posts': field 'blok' does not exist"),
    ("where text", {"where": "{'a': 1}"}, "where", "a fault in line 1, column 2"),
    ("where list", {"where": "[1]"}, "where", "Expected a JSON object in this field, got a list"),
    ("where twice", {"where": '{"title": 1, "title": 2}'}, "where", "$.where.title: Expected each key once"),
    ("where field", {"where": '{"nope": 1}'}, "where", "$.where.nope: Binding 'posts': field 'nope'"),
    ("codename", {"permissions_view": "holders", "permissions_view_codename": "blog.nope"}, "permissions",
     "$.permissions.view: Binding 'posts': permission 'blog.nope' does not exist."),
    ("no codename", {"permissions_view": "holders"}, "permissions", "$.permissions.view: Expected a permission"),
    ("lost codename", {"permissions_view": "default", "permissions_view_codename": "blog.add_post"}, "permissions",
     "'blog.add_post' is given, but Django's own permission is chosen"),
    ("writable", {"writable_mode": "these", "writable_names": "blog"}, "writable", "$.writable[0]: "),
    ("scope", {"scope": '{"author": "$user.pk"}'}, "groups", "$.groups: Expected group templates that contain"),
    ("serializer", {"serializer": "nope"}, "serializer", "$.serializer: Binding 'posts': expected a serializer"),
    ("capture", {"capture": "sideways"}, "capture", "Select a valid choice."),
    ("also", {"also": "blog\r\nauthr"}, "also", "$.also[1]: Binding 'posts': blog.Post has no relation 'authr'"),
    ("also with a dot", {"also": "author.groups"}, "also", "Write 'author__groups'."),
    ("direction", {"direction": "sideways"}, "direction", "Select a valid choice."),
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(("change", "field", "text"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_mistake_is_shown_at_its_field(admin_client, change, field, text):
    """Nothing is stored, what was typed is still there, and the message stands where the mistake is."""
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
    """A row never takes a file's stream."""
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
    """The second of two people sees what the first stored; saving again is then a decision."""
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
    """Leaving the version out does not get round the check: the negative control of the test above."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    del data["opened_with"]
    data["description"] = "mine"
    assert admin_client.post(change_url(record), data).status_code == 200
    record.refresh_from_db()
    assert record.description == ""


@pytest.mark.django_db
def test_revisions_show_who_when_why_and_what(admin_client):
    """Below the form stands what changed."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode())
    data |= {"fields_names": "title", "note": "less is more"}
    admin_client.post(change_url(record), data)
    page = admin_client.get(change_url(record)).content.decode()
    assert "less is more" in page
    assert "changed by <b>admin</b>" in page
    assert 'declbind-gone">\N{MINUS SIGN} ' in page


# Records that went bad ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "values", [{"fields": ["gone"]}, {"model": "no.Such"}, {"fields": {"a": 1}}, {"permissions": [3]}, {"where": 4}]
)
def test_a_record_that_went_bad_is_shown_and_can_be_disabled_by_the_form(admin_client, values):
    """Its form opens with the problems, and unticking 'enabled' is let through as it is."""
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
def test_a_record_that_went_bad_cannot_be_saved_otherwise(admin_client):
    """The negative control: only switching it off is let through."""
    record = save(POST)
    spoil(record, fields=["gone"])
    data = read_form(admin_client.get(change_url(record)).content.decode())
    data |= {"description": "still bad"}
    del data["enabled"]
    assert admin_client.post(change_url(record), data).status_code == 200
    record.refresh_from_db()
    assert record.description == ""
    assert record.enabled


# Rights -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_sensitive_fields_need_a_right_of_their_own():
    """Who may change bindings may not thereby expose passwords, whatever is sent."""
    codes = ["declbind.add_bindingrecord", "declbind.change_bindingrecord", "declbind.view_bindingrecord", *ANIMALS]
    client = staff(*codes)
    data = read_form(client.get(f"{LIST}add/").content.decode())
    assert "sensitive" not in data
    data |= {"stream": "pets", "model": "zoo.Animal", "fields_mode": "these", "fields_names": "name\nsecret_token"}
    data |= {"sensitive": "secret_token"}
    assert "looks sensitive" in errors(client.post(f"{LIST}add/", data))["fields"][0]
    # The control: with the right the same is stored.
    holder = staff(*codes, "declbind.expose_sensitive", name="holder")
    assert post_confirmed(holder, f"{LIST}add/", data).status_code == 302
    # Nor may others widen it.
    record = BindingRecord.objects.get()
    data = read_form(client.get(change_url(record)).content.decode()) | {"permissions_view": "everyone"}
    assert (
        "(declbind.expose_sensitive) may expose 'secret_token'"
        in errors(client.post(change_url(record), data))["fields"][0]
    )
    # And what has nothing to do with them may be changed.
    data = read_form(client.get(change_url(record)).content.decode()) | {"description": "names"}
    assert client.post(change_url(record), data).status_code == 302
    record.refresh_from_db()
    assert (record.description, record.sensitive) == ("names", ["secret_token"])


@pytest.mark.django_db
def test_viewers_see_all_and_change_nothing():
    """A viewer gets the record in words and as JSON, no form; a sent form is refused."""
    record = save(POST)
    client = staff("declbind.view_bindingrecord")
    page = client.get(change_url(record)).content.decode()
    assert "fields_mode" not in page
    assert "blog-{blog_id}" in page
    assert "<b>view</b> everyone" in page
    assert client.post(change_url(record), {"stream": "x"}).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{record.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.django_db
def test_staff_without_rights_see_nothing():
    """Every page of bindings is closed."""
    record = save(POST)
    client = staff()
    pages = ["", "add/", "add/json/", f"{record.pk}/change/", f"{record.pk}/json/", "live/", "live/rows/",
             "model-fields/?model=blog.Post", "defined/example_site.example.bindings.IntegerValueBinding/"]  # fmt: skip
    assert {page: client.get(f"{LIST}{page}").status_code for page in pages} == dict.fromkeys(pages, 403)


@pytest.mark.django_db
def test_deleting_notes_who_did(admin_client, admin_user):
    """The revision of a removal has its author."""
    record = save(POST)
    admin_client.post(f"{LIST}{record.pk}/delete/", {"post": "yes"})
    revision = BindingRevision.objects.first()
    assert revision is not None
    assert (revision.definition, revision.author) == (None, admin_user)


@pytest.mark.django_db
def test_the_fields_of_a_model_are_told_to_editors_only():
    """The form's script asks for them."""
    url = reverse("admin:declbind_bindingrecord_model_fields")
    client = staff("declbind.add_bindingrecord")
    fields = client.get(url, {"model": "auth.User"}).json()["fields"]
    assert {"name": "password", "is_sensitive": True}.items() <= next(
        field for field in fields if field["name"] == "password"
    ).items()
    assert staff(name="other").get(url, {"model": "auth.User"}).status_code == 403


# What opens something -----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_change_that_opens_something_wants_the_tick(admin_client):
    """Without it nothing is stored, and the page shows the words with the tick."""
    record = save({**POST, "fields": ["title"]})
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"fields_names": "title\r\nbody"}
    page = admin_client.post(change_url(record), data).content.decode()
    assert "Nothing is saved yet" in page
    assert "also sends body" in page
    record.refresh_from_db()
    assert record.fields == ["title"]
    assert admin_client.post(change_url(record), data | tick(page)).status_code == 302
    record.refresh_from_db()
    assert record.fields == ["title", "body"]


@pytest.mark.django_db
def test_a_tick_counts_for_the_words_that_it_stood_beside(admin_client):
    """What is opened after it was set wants another look; so does any value that is no tick of these words."""
    record = save({**POST, "fields": ["title"]})
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"fields_names": "title\r\nbody"}
    ticked = tick(admin_client.post(change_url(record), data).content.decode())
    more = data | {"permissions_delete": "everyone"}
    for answer in (ticked, {"confirm_widening": "on"}):
        assert admin_client.post(change_url(record), more | answer).status_code == 200
    record.refresh_from_db()
    assert record.fields == ["title"]


@pytest.mark.django_db
def test_a_change_that_opens_nothing_goes_through_at_once(admin_client):
    """Its words are in the message and in the admin's log."""
    record = save(POST)
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"fields_names": "title"}
    response = admin_client.post(change_url(record), data, follow=True)
    assert "posts: no longer sends body; no longer accepts body." in [
        str(text) for text in response.context["messages"]
    ]
    assert "no longer sends body" in LogEntry.objects.get().change_message
    record.refresh_from_db()
    assert record.fields == ["title"]


@pytest.mark.django_db
def test_a_record_whose_stream_a_file_took_comes_into_force_with_a_tick_only(admin_client):
    """Renaming it is no small thing: it was out of force."""
    record = save(POST)
    spoil(record, stream="blog-posts")
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"stream": "mine"}
    page = admin_client.post(change_url(record), data).content.decode()
    assert "comes into force" in page
    assert admin_client.post(change_url(record), data | tick(page)).status_code == 302


# Form and JSON are two views ----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_is_not_saved_goes_over_to_the_text_and_back(admin_client):
    """Nothing is stored on the way, the note comes along, and a change by somebody else is still noticed."""
    record = save(POST)
    url = change_url(record)
    data = read_form(admin_client.get(url).content.decode())
    data |= {"fields_names": "body", "note": "why", "description": "mine", "where": "", "_as_json": "1"}
    text = admin_client.post(url, data).content.decode()
    sent = read_form(text, "")
    assert json.loads(sent["document"])["fields"] == ["body"]
    assert (sent["note"], sent["opened_with"]) == ("why", data["opened_with"])
    document = json.loads(sent["document"]) | {"description": "ours"}
    sent |= {"document": json.dumps(document), "_as_form": "1"}
    page = admin_client.post(f"{LIST}{record.pk}/json/", sent).content.decode()
    assert f'action="{url}"' in page
    assert "no longer sends title" in page
    again = read_form(page)
    assert (again["fields_names"], again["description"], again["note"]) == ("body", "ours", "why")
    record.refresh_from_db()
    assert record.definition() == POST
    record.description = "theirs"
    record.save()
    assert "Another user changed this binding" in admin_client.post(url, again).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("document", [case["record"] for case in VALID], ids=[case["name"] for case in VALID])
def test_a_valid_record_passes_both_views_unchanged(admin_client, document):
    """Text to form to text, of a record that was never stored."""
    page = admin_client.post(f"{LIST}add/json/", {"document": json.dumps(document), "_as_form": "1"}).content.decode()
    text = admin_client.post(f"{LIST}add/", read_form(page) | {"_as_json": "1"}).content.decode()
    # A form has one way to say what a record may write in two; both are one spec.
    assert BindingSpec(**json.loads(read_form(text, "")["document"])) == BindingSpec(**documents.normalise(document))
    assert not BindingRecord.objects.exists()


@pytest.mark.django_db
def test_what_the_other_view_cannot_hold_stays_where_it_is(admin_client):
    """A where that is no JSON stays in the form, a text that is no record stays a text."""
    data = read_form(admin_client.get(f"{LIST}add/").content.decode())
    data |= {"stream": "x", "model": "blog.Post", "fields_names": "title", "where": "{oops", "_as_json": "1"}
    response = admin_client.post(f"{LIST}add/", data)
    assert read_form(response.content.decode())["where"] == "{oops"
    assert "where" in errors(response)
    for text in ("{", '{"stream": 3}', '{"stream": "a", "stream": "b"}'):
        page = admin_client.post(f"{LIST}add/json/", {"document": text, "_as_form": "1"}).content.decode()
        assert read_form(page, "")["document"] == text


@pytest.mark.django_db
def test_viewers_cannot_change_the_view():
    """It is a part of editing."""
    record = save(POST)
    client = staff("declbind.view_bindingrecord")
    data = {"document": json.dumps(POST), "_as_form": "1"}
    assert client.post(f"{LIST}{record.pk}/json/", data).status_code == 403
    assert client.post(change_url(record), {"_as_json": "1"}).status_code == 403
