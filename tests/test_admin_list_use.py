"""The list of bindings: how much each stream is used, searches, and edits since a file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from declbind.models import Activity, BindingRecord, Node, StreamUse, editing
from declbind.registry import refresh
from tests.console_forms import LIST, POST, save, spoil
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def get(client, query=""):
    return client.get(LIST + query).content.decode()


def serve(streams, *counts):
    """Store a live process with subscribers, and its counts of this minute and of earlier ones."""
    now = timezone.now()
    Node.objects.create(id="n", host="web", pid=7, started_at=now, seen_at=now, streams=streams)
    minute = now.replace(second=0, microsecond=0)
    for ago, counted in enumerate(counts):
        Activity.objects.create(node="n", at=minute - timedelta(minutes=ago), seconds=60, streams=counted)


def test_the_list_shows_how_much_each_stream_is_used(admin_client):
    """It shows subscribers, frames and refusals a minute, over all processes, each with a link to its page."""
    save(POST)
    save({**POST, "stream": "quiet"})
    serve({"posts": 4}, {"posts": [5, 1, 0]}, {"posts": [34, 2, 3]})
    now = timezone.now()
    Node.objects.create(id="m", host="web", pid=8, started_at=now, seen_at=now, streams={"posts": 3})
    text = " ".join(admin_client.get(LIST).content.decode().split())
    assert '<a href="/admin/declbind/bindingrecord/connections/?stream=posts">7 subscriptions</a>' in text
    assert '<a href="/admin/declbind/bindingrecord/live/?stream=posts">34 sent/min</a>' in text
    assert "3 refused/min" in text
    assert "0 subscriptions" in text
    assert text.count("declbind-spark") == 1


def test_the_list_has_no_links_without_the_permission_to_watch(client):
    """Users without the permission to watch see the counts without links."""
    save(POST)
    user = make_user("declbind.view_bindingrecord")
    user.is_staff = True
    user.save()
    client.force_login(user)
    text = client.get(LIST).content.decode()
    assert "0 subscriptions" in text
    assert "connections/" not in text
    assert "why/" not in text


def test_bindings_without_frames_for_a_week_are_found(admin_client):
    """Streams that sent a frame within a week are not included, nor is a stream of a file."""
    save(POST)
    save({**POST, "stream": "quiet"})
    save({**POST, "stream": "old"})
    StreamUse.objects.create(stream="posts", sent_at=timezone.now() - timedelta(days=6))
    StreamUse.objects.create(stream="old", sent_at=timezone.now() - timedelta(days=8))
    found = admin_client.get(LIST, {"silent": "7", "source": "database"}).context["cl"].result_list
    assert sorted(record.stream for record in found) == ["old", "quiet"]


@pytest.mark.parametrize("text", ["title", "blog-{blog", "body"])
def test_a_search_finds_fields_and_groups(admin_client, text):
    """The search includes the fields that "all fields" stands for."""
    save({**POST, "groups": ["blog-{blog_id}"]})
    save({**POST, "stream": "everything", "fields": "__all__", "groups": ["blog-{blog}"]})
    save({"stream": "prices", "model": "ticker.Price", "fields": ["date"]})
    refresh()
    found = admin_client.get(LIST, {"q": text, "source": "database"}).context["cl"].result_list
    assert sorted(record.stream for record in found) == ["everything", "posts"]


def test_the_list_takes_few_queries_however_many_bindings_there_are(client, django_assert_max_num_queries):
    """This includes the permissions of a normal user, missing triggers, and an invalid record."""
    for number in range(30):
        save({**POST, "stream": f"posts-{number}", "capture": "triggers"})
    serve({f"posts-{number}": 1 for number in range(30)}, {f"posts-{number}": [1, 1, 1] for number in range(30)})
    user = make_user("declbind.view_bindingrecord", "declbind.view_traffic", "declbind.view_connection")
    user.is_staff = True
    user.save()
    client.force_login(user)
    spoil(BindingRecord.objects.get(stream="posts-3"), fields=["nope"])
    refresh(force=True)
    with django_assert_max_num_queries(13):
        client.get(LIST)


def test_a_record_edited_since_its_file_is_marked(admin_client):
    """An unchanged record is not marked."""
    with editing(source="posts.json[0]"):
        record = save(POST)
        save({**POST, "stream": "same"})
    record.description = "Edited by hand."
    record.save()
    text = get(admin_client)
    assert text.count("differs from posts.json[0]") == 1
