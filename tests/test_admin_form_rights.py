"""The permissions that the form of a binding record asks for, and the confirmation of what a change opens."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from declbind.models import BindingRecord, BindingRevision
from tests.console_forms import (
    ANIMALS,
    LIST,
    POST,
    change_url,
    errors,
    post_confirmed,
    read_form,
    save,
    spoil,
    staff,
    tick,
)

# Permissions ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_sensitive_fields_need_a_permission_of_their_own():
    """The permission to change bindings does not allow exposing passwords, whatever is submitted."""
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
def test_viewers_cannot_change_a_record():
    """A viewer sees the record in words and as JSON, without a form. A submitted form is refused."""
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
def test_staff_without_permissions_see_nothing():
    """Every page of bindings is refused."""
    record = save(POST)
    client = staff()
    pages = ["", "add/", "add/json/", f"{record.pk}/change/", f"{record.pk}/json/", "live/", "live/rows/",
             "model-fields/?model=blog.Post", "defined/example_site.example.bindings.IntegerValueBinding/"]  # fmt: skip
    assert {page: client.get(f"{LIST}{page}").status_code for page in pages} == dict.fromkeys(pages, 403)


@pytest.mark.django_db
def test_a_deletion_records_its_author(admin_client, admin_user):
    """The revision of a removal has its author."""
    record = save(POST)
    admin_client.post(f"{LIST}{record.pk}/delete/", {"post": "yes"})
    revision = BindingRevision.objects.first()
    assert revision is not None
    assert (revision.definition, revision.author) == (None, admin_user)


@pytest.mark.django_db
def test_only_editors_can_request_the_fields_of_a_model():
    """The form's script requests them."""
    url = reverse("admin:declbind_bindingrecord_model_fields")
    client = staff("declbind.add_bindingrecord")
    fields = client.get(url, {"model": "auth.User"}).json()["fields"]
    assert {"name": "password", "is_sensitive": True}.items() <= next(
        field for field in fields if field["name"] == "password"
    ).items()
    assert staff(name="other").get(url, {"model": "auth.User"}).status_code == 403


# Confirmations --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_change_that_opens_something_needs_a_confirmation(admin_client):
    """Without the tick nothing is stored, and the page shows what the change opens."""
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
def test_a_confirmation_counts_only_for_the_text_beside_it(admin_client):
    """If the change opens more by then, the page asks again. Any other value counts as no confirmation."""
    record = save({**POST, "fields": ["title"]})
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"fields_names": "title\r\nbody"}
    ticked = tick(admin_client.post(change_url(record), data).content.decode())
    more = data | {"permissions_delete": "everyone"}
    for answer in (ticked, {"confirm_widening": "on"}):
        assert admin_client.post(change_url(record), more | answer).status_code == 200
    record.refresh_from_db()
    assert record.fields == ["title"]


@pytest.mark.django_db
def test_a_change_that_opens_nothing_needs_no_confirmation(admin_client):
    """Its description is in the message and in the admin's log."""
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
def test_renaming_a_record_into_force_needs_a_confirmation(admin_client):
    """A file took its stream, so the record was not in force. Renaming it puts it in force."""
    record = save(POST)
    spoil(record, stream="blog-posts")
    data = read_form(admin_client.get(change_url(record)).content.decode()) | {"stream": "mine"}
    page = admin_client.post(change_url(record), data).content.decode()
    assert "comes into force" in page
    assert admin_client.post(change_url(record), data | tick(page)).status_code == 302
