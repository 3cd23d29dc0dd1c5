"""The push of the live page: it ends with the session, the account or the permission that it was started with."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import RequestFactory
from django.utils import timezone

from admin_ui.traffic.stream import Viewer
from declbind.models import BindingRecord, Watch
from tests.console_forms import staff

pytestmark = pytest.mark.django_db
READ = "blog.view_post"


def open_stream() -> tuple[Any, Viewer]:
    """Return the client of a watcher and the viewer of a stream that it has opened."""
    client = staff("declbind.view_traffic", READ)
    request = RequestFactory().get("/", {"q": "a"})
    request.user = User.objects.get(username="staff")
    request.session = client.session
    return client, Viewer(admin.site._registry[BindingRecord], request)


def revoke(codename: str) -> None:
    user = User.objects.get(username="staff")
    user.user_permissions.remove(user.user_permissions.get(codename=codename))


def change_password() -> None:
    user = User.objects.get(username="staff")
    user.set_password("y")
    user.save()


ENDS = {
    "the right is gone": lambda client: revoke("view_traffic"),
    "no longer active": lambda client: User.objects.filter(username="staff").update(is_active=False),
    "no longer staff": lambda client: User.objects.filter(username="staff").update(is_staff=False),
    "logged out": lambda client: client.logout(),
    "the session has expired": lambda client: Session.objects.update(expire_date=timezone.now()),
    "another password": lambda client: change_password(),
    "deleted": lambda client: User.objects.all().delete(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_ends_when_its_viewer_loses_the_permission(end: str) -> None:
    """The next check ends the stream and renews no lease. An earlier check is the control."""
    client, viewer = open_stream()
    assert viewer.check()
    ENDS[end](client)
    Watch.objects.all().delete()
    assert not viewer.check()
    assert not Watch.objects.exists()


def test_a_stream_without_the_permission_for_values_does_not_search_them() -> None:
    """Finding a row by its values would disclose them."""
    _, viewer = open_stream()
    assert viewer.check()
    assert "blog.post" in viewer.answers.wanted.models
    revoke("view_post")
    assert viewer.check()
    assert "blog.post" not in viewer.answers.wanted.models
