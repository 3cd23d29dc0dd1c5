"""Fields that wait to be accepted, as operators see and accept them."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from declbind.models import BindingRecord, BindingRevision
from tests.json_types import JSONObject
from tests.test_growing_records import grown

LIST = "/admin/declbind/bindingrecord/"
pytestmark = pytest.mark.django_db


def accept_url(record: BindingRecord) -> str:
    return f"{LIST}{record.pk}/accept/"


def hidden(html: str) -> dict[str, str]:
    """Return the values that the page's button sends."""
    import html as escapes

    found = re.findall(r'<(?:input|button)[^>]*name="([^"]+)"[^>]*value="([^"]*)"', html)
    return {name: escapes.unescape(value) for name, value in found if name != "csrfmiddlewaretoken"}


@pytest.fixture
def editor(client: Client) -> Client:
    """Return a client of a user who may edit bindings and view posts, and who is no superuser."""
    user = User.objects.create_user("editor", password="x", is_staff=True)
    names = ["change_bindingrecord", "view_bindingrecord", "view_post", "add_post", "change_post", "delete_post"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


def test_the_list_and_the_page_name_the_new_field(admin_client: Client) -> None:
    """They link to the page that shows what accepting it opens."""
    record = grown()
    assert "new: author" in admin_client.get(LIST).content.decode()
    page = admin_client.get(f"{LIST}{record.pk}/change/").content.decode()
    assert "New fields of the model are not sent yet:</b> author" in page
    assert accept_url(record) in page


def test_a_field_is_sent_once_it_is_accepted(editor: Client) -> None:
    """The page shows what accepting opens. The button stores a revision with an author."""
    record = grown()
    page = editor.get(accept_url(record)).content.decode()
    assert "also sends author" in page
    assert BindingRecord.objects.get().held() == ["author"], "looking stores nothing"
    assert editor.post(accept_url(record), {}).status_code == 200
    assert BindingRecord.objects.get().held() == ["author"], "nor does a press without the tick"
    assert editor.post(accept_url(record), hidden(page)).status_code == 302
    assert BindingRecord.objects.get().held() == []
    revision = BindingRevision.objects.first()
    assert revision is not None
    assert (revision.author_name, revision.note) == ("editor", "Accepted the new fields author.")
    page = editor.get(f"{LIST}{record.pk}/change/").content.decode()
    assert "also sends author" in page, "the revision tells it"


def test_only_the_fields_of_the_page_are_accepted(editor: Client) -> None:
    """A field that was added after the page was made is not part of its button."""
    record = grown()
    page = editor.get(accept_url(record)).content.decode()
    BindingRecord._base_manager.update(known=[name for name in record.known or () if name != "title"])
    assert editor.post(accept_url(record), hidden(page)).status_code == 200
    assert BindingRecord.objects.get().held() == ["title", "author"]


def test_accepting_takes_the_permissions_of_opening(editor: Client) -> None:
    """A user who may edit bindings, but not bind columns that give rights, cannot accept one."""
    record = BindingRecord().assign({"stream": "users", "model": "auth.User", "exclude": ["password"]})
    record.save()
    BindingRecord._base_manager.update(known=[name for name in record.known or () if name != "is_staff"])
    page = editor.get(accept_url(record)).content.decode()
    assert "bind_rights_models" in page
    editor.post(accept_url(record), hidden(page))
    assert BindingRecord.objects.get().held() == ["is_staff"]


def test_viewers_cannot_accept(client: Client) -> None:
    """The page takes the permission to change the binding."""
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_bindingrecord"))
    client.force_login(user)
    record = grown()
    assert accept_url(record) not in client.get(f"{LIST}{record.pk}/change/").content.decode()
    assert client.get(accept_url(record)).status_code == 403


def test_saving_the_form_or_the_json_accepts_nothing(admin_client: Client) -> None:
    """An unrelated edit does not mention the new field, and keeps it back."""
    record = grown()
    json_url = f"{LIST}{record.pk}/json/"
    page = admin_client.get(json_url).content.decode()
    sent: JSONObject = {**hidden(page), "document": '{"stream": "posts", "model": "blog.Post", "exclude": []}'}
    answer = admin_client.post(json_url, sent)
    assert "also sends body" in answer.content.decode()
    assert "also sends body, author" not in answer.content.decode()


def test_going_back_to_an_earlier_version_sends_nothing_new(admin_client: Client) -> None:
    """The field was in no version, so no rollback sends it."""
    record = grown()
    first = BindingRevision.objects.get()
    BindingRevision._base_manager.update(known=BindingRecord.objects.get().known)
    record.assign({"stream": "posts", "model": "blog.Post", "fields": ["title"]}).save()
    page = admin_client.get(f"{LIST}rollback/{first.pk}/").content.decode()
    assert "also sends" in page
    assert "author" not in re.findall(r"also sends [^<]*", page)[0]
    assert admin_client.post(f"{LIST}rollback/{first.pk}/", hidden(page)).status_code == 302
    stored = BindingRecord.objects.get()
    assert (stored.exclude, stored.held()) == (["body"], ["author"])
