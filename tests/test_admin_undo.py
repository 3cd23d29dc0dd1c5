"""Rollback: a revision is restored by a new edit, validated, confirmed and logged like any other."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import override_settings

from declbind.models import BindingRecord, BindingRevision
from tests.console_forms import LIST, POST, change_url, read_form, save, spoil, staff, tick

pytestmark = pytest.mark.django_db


def edit(record: BindingRecord, **values: object) -> BindingRevision:
    """Store a change and return the revision before it."""
    before = BindingRevision.objects.filter(stream=record.stream).first()
    assert before is not None
    for key, value in values.items():
        setattr(record, key, value)
    record.save()
    return before


def url_of(revision: BindingRevision) -> str:
    return f"{LIST}rollback/{revision.pk}/"


def roll_back(client, revision, *, confirm: bool = True, **data: str):
    page = client.get(url_of(revision)).content.decode()
    sent = {"opened_with": read_form(page, "")["opened_with"], **(tick(page) if confirm else {}), **data}
    return client.post(url_of(revision), sent)


def test_a_rollback_is_a_new_revision_with_note_author_and_log(admin_client, admin_user):
    """The old revisions stay, and the log describes the edit."""
    record = save({**POST, "fields": ["title"]})
    old = edit(record, fields=["title", "body"])
    page = admin_client.get(f"{LIST}{record.pk}/history/").content.decode()
    assert f'action="{url_of(old)}"' in page
    shown = admin_client.get(url_of(old)).content.decode()
    assert "no longer sends body" in shown
    assert tick(shown) == {}
    response = roll_back(admin_client, old)
    assert (response.status_code, response.url) == (302, change_url(record))
    record.refresh_from_db()
    assert record.fields == ["title"]
    new = BindingRevision.objects.first()
    assert new is not None
    assert (new.note, new.author) == (f"Rolled back to version {old.version}", admin_user)
    assert BindingRevision.objects.count() == 3
    assert "no longer sends body" in LogEntry.objects.get().change_message


def test_a_rollback_that_opens_something_needs_a_confirmation(admin_client):
    """Without the confirmation nothing is stored, and the page asks for it."""
    record = save({**POST, "fields": ["title", "body"]})
    old = edit(record, fields=["title"])
    response = roll_back(admin_client, old, confirm=False)
    assert response.status_code == 200
    assert "Nothing is saved yet" in response.content.decode()
    assert roll_back(admin_client, old, confirm=False, confirm_widening="on").status_code == 200
    record.refresh_from_db()
    assert record.fields == ["title"]
    assert roll_back(admin_client, old).status_code == 302
    record.refresh_from_db()
    assert record.fields == ["title", "body"]


def test_a_rollback_from_an_outdated_page_is_refused(admin_client):
    """The record was changed after the page was made; a request without the page's version is refused too."""
    record = save(POST)
    old = edit(record, description="second")
    fingerprint = read_form(admin_client.get(url_of(old)).content.decode(), "")["opened_with"]
    edit(record, description="third")
    for data in ({"opened_with": fingerprint}, {}):
        response = admin_client.post(url_of(old), data)
        assert "changed since this page was made" in response.content.decode()
    record.refresh_from_db()
    assert record.description == "third"


def test_a_definition_that_is_no_longer_valid_is_refused_with_its_problems(admin_client):
    """A migration has removed the field."""
    record = save(POST)
    old = edit(record, fields=["title"])
    BindingRevision.objects.filter(pk=old.pk).update(definition={**POST, "fields": ["gone"]})
    page = admin_client.get(url_of(old)).content.decode()
    assert "Field &#x27;gone&#x27; does not exist" in page
    assert 'value="Roll back' not in page
    assert roll_back(admin_client, old).status_code == 200
    record.refresh_from_db()
    assert record.fields == ["title"]


def test_an_invalid_record_can_be_rolled_back(admin_client):
    """The rollback puts it in force, so it needs the confirmation."""
    record = save(POST)
    old = edit(record, description="x")
    spoil(record, fields=["gone"])
    page = admin_client.get(url_of(old)).content.decode()
    assert "comes into force" in page
    assert roll_back(admin_client, old).status_code == 302
    record.refresh_from_db()
    assert record.definition() == POST


def test_a_removed_binding_is_restored_from_its_revision(admin_client, admin_user):
    """The page of the removal leads to the removed record."""
    record = save(POST)
    kept = BindingRevision.objects.get()
    record.delete()
    removal = BindingRevision.objects.first()
    assert removal is not None
    page = admin_client.get(f"/admin/declbind/bindingrevision/{removal.pk}/change/").content.decode()
    assert f'<a href="{url_of(kept)}">Restore to version {kept.version}</a>' in page
    assert roll_back(admin_client, kept).status_code == 302
    assert BindingRecord.objects.get().definition() == POST
    assert LogEntry.objects.get().user == admin_user
    assert admin_client.get(url_of(removal)).status_code == 404


def test_a_stream_that_a_file_took_meanwhile_is_refused(admin_client):
    """Two bindings cannot share a stream."""
    record = save(POST)
    record.delete()
    kept = BindingRevision.objects.order_by("pk").first()
    assert kept is not None
    BindingRevision.objects.filter(pk=kept.pk).update(stream="blog-posts", definition={**POST, "stream": "blog-posts"})
    page = admin_client.get(url_of(kept)).content.decode()
    assert "already defined by blog/bindings/posts.json[0]" in page
    roll_back(admin_client, kept)
    assert not BindingRecord.objects.exists()


def test_a_rollback_to_the_present_version_stores_nothing(admin_client):
    """Such a rollback is not an edit."""
    record = save(POST)
    revision = BindingRevision.objects.get()
    assert roll_back(admin_client, revision).status_code == 302
    assert BindingRevision.objects.count() == 1
    record.refresh_from_db()
    assert record.definition() == POST


def test_rolling_back_needs_the_permission_to_change():
    """Restoring needs the permission to add, and sensitive fields need their own permission."""
    record = save(POST)
    old = edit(record, description="x")
    viewer = staff("declbind.view_bindingrecord", "declbind.view_bindingrevision")
    assert viewer.get(url_of(old)).status_code == 403
    assert viewer.post(url_of(old), {}).status_code == 403
    assert "Roll back" not in viewer.get(f"{LIST}{record.pk}/history/").content.decode()
    assert "Roll back" not in viewer.get(f"/admin/declbind/bindingrevision/{old.pk}/change/").content.decode()
    changer = staff("declbind.change_bindingrecord", name="changer")
    assert changer.get(url_of(old)).status_code == 200
    record.delete()
    assert changer.get(url_of(old)).status_code == 403
    adder = staff("declbind.add_bindingrecord", name="adder")
    assert adder.get(url_of(old)).status_code == 200
    secret = {"stream": "posts", "model": "zoo.Animal", "fields": ["secret_token"], "sensitive": ["secret_token"]}
    BindingRevision.objects.filter(pk=old.pk).update(definition=secret)
    assert "(declbind.expose_sensitive) may expose" in adder.get(url_of(old)).content.decode()
    roll_back(adder, old)
    assert not BindingRecord.objects.exists()


def test_enabling_needs_a_confirmation_of_what_it_opens(admin_client):
    """Without the confirmation nothing is enabled, and a confirmation of another text does not count."""
    record = save({**POST, "enabled": False})
    data = {"action": "enable", "_selected_action": [record.pk]}
    page = admin_client.post(LIST, data).content.decode()
    assert "anyone may subscribe" in page
    assert admin_client.post(LIST, data | {"confirm_widening": "on", "asked": "yes"}).status_code == 200
    record.refresh_from_db()
    assert not record.enabled
    record.fields = ["title"]
    record.save()
    admin_client.post(LIST, data | tick(page))
    assert not BindingRecord.objects.get(pk=record.pk).enabled
    assert admin_client.post(LIST, data | tick(admin_client.post(LIST, data).content.decode())).status_code == 302
    assert BindingRecord.objects.get(pk=record.pk).enabled
    assert "comes into force (it was disabled); sends title" in LogEntry.objects.get().change_message


@override_settings(ROOT_URLCONF="tests.test_admin_list")
def test_the_pages_stay_on_their_own_admin_site(admin_client):
    """They have no inline scripts or styles, so that they work under a strict Content-Security-Policy."""
    record = save(POST)
    old = edit(record, fields=["title"])
    base = "/backstage/declbind/bindingrecord/"
    pages = [
        admin_client.get(f"{base}rollback/{old.pk}/").content.decode(),
        admin_client.get(f"{base}{record.pk}/change/").content.decode(),
        admin_client.get(f"{base}{record.pk}/history/").content.decode(),
        admin_client.get(f"{base}{record.pk}/overview/").content.decode(),
        admin_client.post(f"{base}{record.pk}/json/", {"document": "{"}).content.decode(),
        admin_client.post(f"{base}panel/", {"model": "blog.Post", "fields_mode": "all"}).json()["html"],
    ]
    for page in pages:
        assert '"/admin/' not in page
        assert " style=" not in page
        assert "<style" not in page
    assert f'action="{base}rollback/{old.pk}/"' in pages[2]
    assert f'data-url="{base}panel/"' in pages[1]
