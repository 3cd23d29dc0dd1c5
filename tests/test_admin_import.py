"""Import with a review, and export: exactly the reviewed changes are made, with the right permissions."""

from __future__ import annotations

import json

import pytest
from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import override_settings
from django.urls import include, path
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from admin_ui.bindings import import_page
from admin_ui.records import BindingRecordAdmin
from declbind import record_validation
from declbind.console import plan
from declbind.console.export import format_export
from declbind.models import BindingRecord, BindingRevision
from declbind.sources.files import load_text
from tests.command_runs import Ran
from tests.console_forms import ANIMALS, LIST, POST, FormReader, save, staff
from tests.json_types import JSONObject

pytestmark = pytest.mark.django_db

IMPORT, EXPORT = f"{LIST}import/", f"{LIST}export/"
USERS = {"stream": "users", "model": "auth.User", "fields": ["username"]}
ALL = tuple(f"declbind.{action}_bindingrecord" for action in ("view", "add", "change", "delete"))


def upload(*documents: object, name: str = "posts.json") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, json.dumps(list(documents)).encode())


def review(client, *documents, base=IMPORT, **more):
    """Upload a file and return the page with the review."""
    response = client.post(base, {"file": upload(*documents), "_review": "1", **more})
    assert response.status_code == 200
    return response


def confirm(client, response, *leave_out, base=IMPORT, **more):
    """Submit the review's page, with all confirmations, by its main button."""
    reader = FormReader()
    page = response.content.decode()
    reader.feed(page[page.index('enctype="multipart') :])
    data = reader.data | {"_apply": "1", "confirm_widening": "1"} | more
    return client.post(base, {key: value for key, value in data.items() if key not in leave_out})


def stored():
    return {record.stream: record.definition() for record in BindingRecord.objects.all()}


def test_an_import_is_reviewed_and_then_applied(admin_client, admin_user):
    """The review shows added, changed and unchanged records; nothing is stored before the confirmation."""
    save({**POST, "description": "old"})
    same, spare = save({**USERS, "stream": "same"}), save({**USERS, "stream": "spare"})
    before = stored()
    response = review(admin_client, {**POST, "description": "new"}, same.definition(), USERS, note="release 3")
    page = response.content.decode()
    assert "1 to add, 1 to change, 0 to remove, 1 unchanged" in page
    assert '<pre class="declbind-gone">&quot;old&quot;</pre>' in page
    assert '<pre class="declbind-new">&quot;new&quot;</pre>' in page
    assert "posts.json[2]" in page
    assert stored() == before
    assert confirm(admin_client, response).status_code == 302
    assert stored() == {**before, "posts": {**POST, "description": "new"}, "users": USERS}
    made = BindingRevision.objects.filter(note="release 3").order_by("stream")
    assert [(item.stream, item.author, item.source) for item in made] == [
        ("posts", admin_user, "posts.json[0]"),
        ("users", admin_user, "posts.json[2]"),
    ]
    assert sorted(LogEntry.objects.values_list("object_repr", "action_flag", "change_message")) == [
        ("posts", CHANGE, "Imported from posts.json, which changed description."),
        ("users", ADDITION, "Imported from posts.json."),
    ]
    assert spare.stream in stored(), "nothing is removed unless it was asked for"


def test_missing_records_are_removed_only_on_request(admin_client):
    """With the option, missing records are shown as removed first, and the log records their removal."""
    save(POST)
    save(USERS)
    response = review(admin_client, POST, prune="1")
    assert "0 to add, 0 to change, 1 to remove, 1 unchanged" in response.content.decode()
    assert set(stored()) == {"posts", "users"}
    assert confirm(admin_client, response).status_code == 302
    assert set(stored()) == {"posts"}
    assert LogEntry.objects.get().action_flag == DELETION


def test_a_text_may_be_pasted(admin_client):
    """One record without brackets is enough."""
    response = admin_client.post(IMPORT, {"text": json.dumps(POST), "_review": "1"})
    assert confirm(admin_client, response).status_code == 302
    assert stored() == {"posts": POST}
    assert BindingRevision.objects.get().source == "pasted text"


def test_every_problem_is_shown_with_its_place_and_nothing_is_stored(admin_client):
    """Unknown fields, a stream of a file, a duplicate stream, no record at all, odd characters."""
    bad = [{**POST, "fields": ["titel"]}, {**POST, "stream": "blog-desk"}, USERS, USERS, 4]
    response = review(admin_client, *bad, {**POST, "stream": "nul", "description": "\x00"},
                      {**POST, "stream": "\ud800", "where": {"\udfff": "\ud800"}})  # fmt: skip
    page = response.content.decode()
    assert "<b>posts.json[0]</b> <code>$.fields[0]</code>" in page
    assert "already defined by blog/bindings/desk.json" in page
    assert "defined again in posts.json[3]" in page
    for number in range(7):
        assert f"<b>posts.json[{number}]</b>" in page
    assert 'name="_apply"' not in page
    assert "0 to add, 0 to change, 0 to remove, 0 unchanged" in page
    assert confirm(admin_client, response).status_code == 200
    assert stored() == {}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "Choose a file, or paste a text."),
        ({"text": "[", "file": upload(POST)}, "Expected a file or a text, got both."),
        ({"text": '[{"stream": "x",}]'}, "The JSON in pasted text has a mistake at line 1, column"),
        ({"text": "4"}, "Expected one binding record or a list of them in pasted text"),
        ({"file": SimpleUploadedFile("a.json", b"\xff\xfe")}, "Expected a JSON file in UTF-8, got a.json"),
        (
            {"file": SimpleUploadedFile("a.json", b" " * (import_page.MAX_BYTES + 1))},
            "Expected a file of at most 1 MiB",
        ),
        ({"text": "é" * import_page.MAX_BYTES}, "Expected a text of at most 1 MiB"),
        ({"text": json.dumps([{}] * (import_page.MAX_RECORDS + 1))}, "Expected at most 2000 records, got 2001"),
    ],
)
def test_unreadable_input_is_reported(admin_client, sent, text):
    """The page shows the problem and the submitted text."""
    response = admin_client.post(IMPORT, {**sent, "_review": "1"})
    assert response.status_code == 200
    assert text in response.content.decode()
    assert 'name="_apply"' not in response.content.decode()


def test_a_file_with_a_byte_order_mark_is_taken(admin_client):
    """Windows editors write such a mark."""
    file = SimpleUploadedFile("a.json", b"\xef\xbb\xbf" + json.dumps(POST).encode())
    assert confirm(admin_client, admin_client.post(IMPORT, {"file": file})).status_code == 302
    assert stored() == {"posts": POST}


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", ["edited", "added", "removed"])
def test_a_plan_is_refused_if_the_configuration_changed(admin_client, moved):
    """The page shows the edits since then, and a new review that can be confirmed."""
    record = save(POST)
    response = review(admin_client, {**POST, "description": "mine"}, USERS)
    if moved == "edited":
        record.description = "theirs"
        record.save()
    elif moved == "added":
        save({**USERS, "stream": "more"})
    else:
        record.delete()
    before = stored()
    refused = confirm(admin_client, response)
    page = refused.content.decode()
    assert "Another user changed the configuration after the review. Nothing was stored." in page
    stream, verb = {"edited": ("posts", "changed"), "added": ("more", "created"), "removed": ("posts", "removed")}[
        moved
    ]
    assert f"<b>{stream}</b> was {verb} by a command or a program at version 2" in page
    assert stored() == before
    assert confirm(admin_client, refused).status_code == 302
    assert stored()["posts"]["description"] == "mine"


def test_a_text_that_was_not_reviewed_is_refused(admin_client):
    """A text edited on the page, or a removal chosen later, is reviewed again first."""
    save(USERS)
    response = review(admin_client, POST)
    for change in ({"text": json.dumps([{**POST, "fields": "__all__"}])}, {"prune": "1"}):
        page = confirm(admin_client, response, **change).content.decode()
        assert "was changed after the review. Nothing was stored." in page
    assert stored() == {"users": USERS}


def test_a_reverted_change_keeps_the_plan_valid(admin_client):
    """A change that was reverted leaves the plan as it was."""
    record = save(POST)
    response = review(admin_client, {**POST, "description": "mine"})
    for text in ("x", ""):
        record.description = text
        record.save()
    assert confirm(admin_client, response).status_code == 302


def test_widening_needs_a_confirmation(admin_client):
    """Without the confirmation nothing is stored. A change of a description, or a mere restriction, needs none."""
    save(POST)
    response = review(admin_client, {**POST, "permissions": {"view": True}})
    refused = confirm(admin_client, response, "confirm_widening")
    assert "Confirm that it gives more access than before" in refused.content.decode()
    assert stored() == {"posts": POST}
    assert confirm(admin_client, refused).status_code == 302
    for change in ({"description": "x"}, {"enabled": False}):
        response = review(admin_client, {**POST, "permissions": {"view": True}, **change})
        assert "confirm_widening" not in response.content.decode()
        assert confirm(admin_client, response, "confirm_widening").status_code == 302


PETS = {"stream": "pets", "model": "zoo.Animal", "fields": ["name"]}
PLANS = [
    ("add", [POST, PETS], {}, "You may not add bindings."),
    ("change", [{**POST, "description": "new"}], {}, "You may not change this binding."),
    ("delete", [], {"prune": "1"}, "You may not remove this binding."),
]


@pytest.mark.parametrize(("right", "documents", "more", "text"), PLANS, ids=[row[0] for row in PLANS])
def test_a_plan_needs_exactly_the_permissions_of_its_changes(right, documents, more, text):
    """A user without the permission sees why and can store nothing; a user with only that permission can."""
    save(POST)
    needed = f"declbind.{right}_bindingrecord"
    before = stored()
    without = staff(*(name for name in ALL if name != needed), *ANIMALS)
    response = review(without, *documents, **more)
    assert text in response.content.decode()
    assert 'name="_apply"' not in response.content.decode()
    assert confirm(without, response).status_code == 200
    assert stored() == before
    holder = staff(needed, "declbind.view_bindingrecord", *ANIMALS, name="holder")
    assert confirm(holder, review(holder, *documents, **more)).status_code == 302
    assert stored() != before


def test_secrets_need_a_permission_of_their_own():
    """Only holders of its permission can import a record that exposes a password-like field."""
    document = {**PETS, "fields": ["name", "secret_token"], "sensitive": ["secret_token"]}
    without = staff(*ALL, *ANIMALS)
    response = review(without, document)
    assert "(declbind.expose_sensitive) may expose" in response.content.decode()
    confirm(without, response)
    assert stored() == {}
    holder = staff(*ALL, *ANIMALS, "declbind.expose_sensitive", name="holder")
    assert confirm(holder, review(holder, document)).status_code == 302
    assert stored() == {"pets": document}


def test_only_those_who_may_edit_reach_the_page(client):
    """Viewers are refused and see no link; users who may add but not view are refused too.

    A review shows what is stored. Anonymous users are asked to log in.
    """
    viewer = staff("declbind.view_bindingrecord")
    assert viewer.get(IMPORT).status_code == 403
    assert viewer.post(IMPORT, {"text": json.dumps(POST), "_apply": "1"}).status_code == 403
    assert "/import/" not in viewer.get(LIST).content.decode()
    adder = staff("declbind.add_bindingrecord", "declbind.delete_bindingrecord", name="adder")
    assert adder.post(IMPORT, {"text": json.dumps(POST), "prune": "1"}).status_code == 403
    assert client.get(IMPORT).status_code == 302
    assert client.get(EXPORT).status_code == 302
    assert staff("declbind.view_traffic", name="watcher").get(EXPORT).status_code == 403


def test_an_edit_between_reading_and_writing_undoes_the_import(admin_client, monkeypatch):
    """The import is all or nothing: stored records and log entries are rolled back."""
    response = review(admin_client, POST, USERS)
    store = plan._store

    def meddle(change, using):
        store(change, using)
        if change.stream == "users":
            save({**USERS, "stream": "meddler"})

    monkeypatch.setattr(plan, "_store", meddle)
    page = confirm(admin_client, response).content.decode()
    assert "Another user edited the configuration at the same time." in page
    assert stored() == {}
    assert not LogEntry.objects.exists()


# Export -------------------------------------------------------------------------------------------------------------


def test_page_action_and_command_write_the_same_bytes(admin_client):
    """Records are sorted by stream, with keys in the order of the published table, whatever the selection."""
    two, one = save({**POST, "stream": "two", "where": {"title": "ü", "id": 1}}), save({**USERS, "stream": "one"})
    page = admin_client.get(EXPORT)
    assert page["Content-Disposition"] == 'attachment; filename="bindings.json"'
    chosen = {"action": "export", "_selected_action": [two.pk, one.pk]}
    assert page.content == admin_client.post(LIST, chosen).content
    assert page.content.decode() == Ran("export").out == Ran("export", "--format", "json").out
    assert page.content.decode() == Ran("export", "two", "one").out
    assert [list(record) for record in json.loads(page.content)] == [
        ["stream", "model", "fields"],
        ["stream", "model", "fields", "groups", "permissions", "where"],
    ]


numbers = st.one_of(st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
rules = st.one_of(st.booleans(), st.sampled_from(["blog.add_post", "auth.view_user"]))
names = st.lists(st.sampled_from(["title", "body", "published", "blog"]), unique=True, max_size=4)


@st.composite
def valid_records(draw: st.DrawFn) -> JSONObject:
    """Draw valid records of blog.Post, with numbers and texts of every kind in them."""
    optional: dict[str, st.SearchStrategy[object]] = {
        "groups": st.sampled_from([[], ["all"], ["blog-{blog_id}"], ["blog-{blog_id}", "t.{title}"]]),
        "permissions": st.one_of(
            st.dictionaries(st.sampled_from(["view", "create", "update", "delete"]), rules), st.just("blog.change_post")
        ),
        "direction": st.sampled_from(["both", "outbound", "inbound"]),
        "where": st.fixed_dictionaries(
            {},
            optional={
                "published": st.booleans(),
                "title": st.one_of(texts, st.lists(texts, min_size=1, max_size=3, unique=True)),
                "id": st.one_of(numbers, st.lists(numbers, min_size=1, max_size=3, unique=True)),
                "author": st.none(),
            },
        ),
        "auto_subscribe": st.booleans(),
        "retention": st.none() | st.integers(60, 2**31 - 1),
        "enabled": st.booleans(),
        "description": texts,
    }
    document: JSONObject = {
        "stream": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
        "model": draw(st.sampled_from(["blog.Post", "BLOG.post"])),
    }
    document |= draw(
        st.one_of(
            st.fixed_dictionaries({"fields": st.one_of(names, st.just("__all__"), st.just(["__all__"]))}),
            st.fixed_dictionaries({"exclude": names}),
        )
    )
    for key, strategy in optional.items():
        if draw(st.booleans()):
            document[key] = draw(strategy)
    assume(not record_validation.validate_document(document)[1])
    return document


@hypothesis_settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(valid_records(), max_size=3, unique_by=lambda document: document["stream"]))
def test_importing_an_export_changes_nothing(documents):
    """Importing an export changes nothing, and records stored from it are exported as the same text."""
    with transaction.atomic():
        for document in documents:
            save(document)
        text = format_export(stored().values())
        made = plan.plan_items(load_text(text, "text"), "default", prune=True)
        assert (made.faults, made.edits) == ((), ())
        BindingRecord.objects.all().delete()
        made = plan.plan_items(load_text(text, "text"), "default", prune=True)
        plan.carry_out(made, "default")
        assert format_export(stored().values()) == text
        transaction.set_rollback(True)


def test_true_is_not_one(admin_client):
    """A value of another type is a change although Python considers it equal; another spelling of a number is not."""
    save({**POST, "where": {"published": True, "id": 1}})
    for where, verdict in (({"published": 1, "id": 1}, "1 to change"), ({"published": True, "id": 1.0}, "1 unchanged")):
        assert verdict in review(admin_client, {**POST, "where": where}).content.decode()


# Another site -------------------------------------------------------------------------------------------------------


other = admin.AdminSite(name="backstage")
other.register(BindingRecord, BindingRecordAdmin)
urlpatterns = [path("backstage/", other.urls), path("", include("example_site.urls"))]


@override_settings(ROOT_URLCONF="tests.test_admin_import")
def test_import_and_export_stay_on_their_site(admin_client):
    """Under a site of another name and address, every link and redirect stays on it."""
    save(USERS)
    base = "/backstage/declbind/bindingrecord/"
    for page in ("", "import/", "doctor/", "processes/"):
        response = admin_client.get(base + page)
        assert response.status_code == 200
        assert '"/admin/' not in response.content.decode()
    assert json.loads(admin_client.get(f"{base}export/").content) == [USERS]
    response = review(admin_client, POST, base=f"{base}import/")
    assert '"/admin/' not in response.content.decode()
    assert confirm(admin_client, response, base=f"{base}import/").url == base
    assert set(stored()) == {"posts", "users"}
