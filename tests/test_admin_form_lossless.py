"""The form of a binding record is lossless: what it shows and sends back is the stored record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.forms.utils import ErrorDict
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from admin_ui.common import documents
from admin_ui.editor.form import BindingForm
from declbind.core.spec import BindingSpec
from declbind.models import BindingRecord, BindingRevision
from tests.console_forms import LIST, POST, change_url, errors, read_form, save, staff
from tests.json_types import JSONObject

VALID = json.loads((Path(__file__).parent / "data" / "records" / "valid.json").read_text(encoding="utf-8"))

# Lossless -------------------------------------------------------------------------------------------------------------


def through_the_form(document: JSONObject) -> JSONObject:
    """Submit the form of a record untouched; return the record that the form makes of it."""
    record = BindingRecord(pk=1).assign(document)
    shown = BindingForm(instance=record)
    sent: Any = BindingForm(
        read_form(f"<form>{shown.as_div()}</form>", ""), instance=BindingRecord(pk=1).assign(document)
    )
    # Only the checks of the fields themselves: most of these models are not installed, so validation would fail.
    sent._errors, sent.cleaned_data = ErrorDict(), {}
    sent._clean_fields()
    assert not sent._errors
    found: JSONObject = sent.build_document()
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("document", [case["record"] for case in VALID], ids=[case["name"] for case in VALID])
def test_a_valid_record_passes_the_form_unchanged(document):
    """Every record that a file may contain is the same after showing and saving it."""
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
def records(draw: st.DrawFn) -> JSONObject:
    found: JSONObject = {"stream": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True))}
    found["model"] = draw(st.sampled_from(["blog.Post", "BLOG.post", "no.Such"]))
    if draw(st.booleans()):
        found["fields"] = draw(st.one_of(names, st.just("__all__"), st.just(["__all__"])))
    else:
        found["exclude"] = draw(names)
    optional: dict[str, st.SearchStrategy[object]] = {
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
    """The same holds for generated records."""
    assert documents.canonical(through_the_form(document)) == documents.canonical(documents.normalise(document))


@pytest.mark.django_db
def test_saving_an_untouched_form_makes_no_revision(admin_client):
    """Saving without a change is not an edit."""
    record = save({**POST, "fields": ["__all__"], "permissions": "blog.add_post"})
    before = BindingRevision.objects.count()
    data = read_form(admin_client.get(change_url(record)).content.decode())
    assert admin_client.post(change_url(record), data).status_code == 302
    record.refresh_from_db()
    assert (record.fields, record.permissions) == (["__all__"], "blog.add_post")
    assert BindingRevision.objects.count() == before


# Form and JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_unsaved_values_pass_to_the_text_and_back(admin_client):
    """Nothing is stored in between, the note is kept, and an edit by another user is still detected."""
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
    """A record that was never stored passes from text to form and back."""
    page = admin_client.post(f"{LIST}add/json/", {"document": json.dumps(document), "_as_form": "1"}).content.decode()
    text = admin_client.post(f"{LIST}add/", read_form(page) | {"_as_json": "1"}).content.decode()
    # A form has one way to say what a record may write in two; both are one spec.
    assert BindingSpec(**json.loads(read_form(text, "")["document"])) == BindingSpec(**documents.normalise(document))
    assert not BindingRecord.objects.exists()


@pytest.mark.django_db
def test_values_that_the_other_view_cannot_show_stay_in_theirs(admin_client):
    """A `where` that is not JSON stays in the form, and a text that is not a record stays a text."""
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
    """Only editors may change from one view to the other."""
    record = save(POST)
    client = staff("declbind.view_bindingrecord")
    data = {"document": json.dumps(POST), "_as_form": "1"}
    assert client.post(f"{LIST}{record.pk}/json/", data).status_code == 403
    assert client.post(change_url(record), {"_as_json": "1"}).status_code == 403
