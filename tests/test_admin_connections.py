"""The pages of connections: their content, their permissions, and their actions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from declbind.models import Block, Connection, Event, Node
from tests.factories import make_user

pytestmark = pytest.mark.django_db

LIST = "/admin/declbind/bindingrecord/connections/"


def open_connection(name, user=None, heard=(), **values):
    now = timezone.now()
    Node.objects.update_or_create(id="n", defaults={"host": "web", "pid": 7, "started_at": now, "seen_at": now})
    return Connection.objects.create(
        id=name,
        node="n",
        user_pk=str(user.pk) if user else "",
        username=user.username if user else "",
        opened_at=now,
        subscriptions=json.dumps(list(heard), separators=(",", ":")),
        **values,
    )


def log_in(*codenames):
    user = make_user("declbind.view_connection", *codenames)
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client, user


def kicks():
    contents = (json.loads(text) for text in Event.objects.filter(kind="control").values_list("data", flat=True))
    return [content for content in contents if content["type"] == "kick"]


def test_the_list_shows_connections_and_their_subscriptions():
    """The list shows open connections of live processes, and closed ones on demand."""
    ann = User.objects.create_user("ann")
    open_connection("c1", ann, [["posts", "blog-1", None, 4, ""]], address="192.0.2.0/24", queued=3)
    open_connection("c2", None, [["posts", "blog-2", None, 4, ""]])
    open_connection("c3", ann, closed_at=timezone.now(), close_code=4408, close_reason="Too slow")
    client, _ = log_in()
    text = client.get(LIST).content.decode()
    assert "192.0.2.0/24" in text
    assert "blog-1" in text
    assert "3 frames" in text
    assert "2 connections" in text
    assert "4408" not in text
    assert "4408: Too slow" in client.get(LIST, {"state": "closed"}).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"user": "ann"}, ["c1"]),
        ({"user": "anonymous"}, ["c2"]),
        ({"stream": "posts"}, ["c1", "c2"]),
        ({"stream": "posts", "group": "blog-2"}, ["c2"]),
        ({"group": "blog-1"}, ["c1"]),
        ({"stream": "post"}, []),
        ({"node": "other"}, []),
    ],
)
def test_the_list_is_filtered_by_user_stream_group_and_process(query, found):
    """The filter by stream needs the whole name of a stream."""
    open_connection("c1", User.objects.create_user("ann"), [["posts", "blog-1", None, 4, ""]])
    open_connection("c2", None, [["posts", "blog-2", None, 4, ""]])
    client, _ = log_in()
    rows = client.get(LIST, query).context["found"].rows
    assert sorted(row.id for row in rows) == found


def test_a_connection_by_a_token_says_so_and_when_it_ends():
    """In the list and on its own page; one by a session says that."""
    ann = User.objects.create_user("ann")
    open_connection("c1", ann, credential="token", credential_ends_at=datetime(2030, 4, 5, 12, 30, tzinfo=UTC))
    open_connection("c2", ann, credential="session")
    open_connection("c3", ann, credential="token")
    client, _ = log_in()
    assert "by a token until 2030-04-05" in client.get(LIST).content.decode()
    pages = [client.get(reverse("admin:declbind_bindingrecord_connection", args=[name])) for name in ("c1", "c2", "c3")]
    first, second, third = (page.content.decode() for page in pages)
    assert "a token, which ends 2030-04-05" in first
    assert "<dd>a session</dd>" in second
    assert "a token, which does not end by itself" in third


def test_a_list_of_thousands_comes_in_pages_with_the_same_number_of_queries(django_assert_max_num_queries):
    """A page holds a hundred rows."""
    now = timezone.now()
    Node.objects.create(id="n", host="web", pid=7, started_at=now, seen_at=now)
    Connection.objects.bulk_create(Connection(id=f"c{i}", node="n", opened_at=now) for i in range(3000))
    client, _ = log_in()
    client.get(LIST)
    with django_assert_max_num_queries(12):
        answer = client.get(LIST, {"p": "2"})
    assert len(answer.context["found"].rows) == 100
    assert "Page 2 of 30" in answer.content.decode()
    assert len(answer.content) < 200_000


def test_a_disconnected_client_gets_the_reason():
    """The disconnect is in the event log, and the admin's log names the operator."""
    open_connection("c1", User.objects.create_user("ann"))
    client, user = log_in("declbind.disconnect")
    answer = client.post(f"{LIST}c1/", {"seconds": "0", "reason": "Please reload."}, follow=True)
    assert "A connection of ann is being closed." in answer.content.decode()
    assert [(kick["connection"], kick["user"], kick["reason"]) for kick in kicks()] == [("c1", None, "Please reload.")]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr) == (user, "Connection of ann")
    assert not Block.objects.exists()


def test_a_user_is_blocked_and_unblocked():
    """The block names its author, and lifting it adds a log entry too."""
    ann = User.objects.create_user("ann")
    open_connection("c1", ann)
    client, user = log_in("declbind.disconnect")
    answer = client.post(f"{LIST}c1/", {"seconds": "3600", "reason": "Noise."}, follow=True)
    assert "Disconnected and blocked for an hour: ann." in answer.content.decode()
    blocked = Block.objects.get()
    assert (blocked.user_pk, blocked.author, blocked.reason) == (str(ann.pk), user, "Noise.")
    assert timedelta(minutes=59) < blocked.until - timezone.now() <= timedelta(hours=1)
    assert kicks()[0]["user"] == str(ann.pk)
    client.post(LIST, {"unblock": str(ann.pk)})
    assert not Block.objects.exists()
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("seconds", ["3600", "5", "-1", "x", ""])
def test_an_anonymous_client_cannot_be_blocked(seconds):
    """An anonymous client cannot be blocked, and a duration that is not listed is refused."""
    open_connection("c1")
    client, _ = log_in("declbind.disconnect")
    answer = client.post(f"{LIST}c1/", {"seconds": seconds}, follow=True)
    assert "Nothing was done" in answer.content.decode()
    assert kicks() == []
    assert not Block.objects.exists()


def test_viewers_cannot_disconnect():
    """The pages need their permission, and acting needs another one."""
    open_connection("c1", User.objects.create_user("ann"))
    client, _ = log_in()
    assert "Disconnect" not in client.get(f"{LIST}c1/").content.decode()
    assert client.post(f"{LIST}c1/", {"seconds": "3600"}).status_code == 403
    assert client.post(LIST, {"unblock": "1"}).status_code == 403
    assert kicks() == []
    stranger = Client()
    staff = make_user("declbind.view_traffic")
    staff.is_staff = True
    staff.save()
    stranger.force_login(staff)
    assert stranger.get(LIST).status_code == 403
    assert stranger.get(f"{LIST}c1/").status_code == 403


def test_a_missing_connection_is_not_found():
    """The page of a missing connection reports that, instead of failing."""
    client, _ = log_in()
    assert client.get(reverse("admin:declbind_bindingrecord_connection", args=["none"])).status_code == 404


def test_a_connection_of_a_dead_process_is_not_open():
    """A connection of a dead process does not count as open."""
    open_connection("c1")
    Node.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    client, _ = log_in()
    assert client.get(LIST).context["found"].total == 0
    text = client.get(LIST, {"state": "closed"}).content.decode()
    assert "its process has ended" in text
