"""The page that explains why a frame arrived or not, and its verb."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from declbind.models import Block, Connection, Event
from declbind.registry import database_alias
from declbind.testing import override_bindings
from tests.factories import find_permission, make_user
from tests.live import NUMBERS
from tests.why_questions import attend, last_event, last_offset, stored

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/declbind/bindingrecord/why/"


def run(*words):
    """Run a verb; return its output and whether it succeeded."""
    out = io.StringIO()
    try:
        call_command("declbind", *words, stdout=out)
    except SystemExit as stop:
        return out.getvalue(), not stop.code
    return out.getvalue(), True


def explain(*words):
    """Run the verb ``why``; return its output and its exit status."""
    out = io.StringIO()
    try:
        call_command("declbind", "why", *words, stdout=out)
    except SystemExit as stop:
        return out.getvalue(), stop.code
    return out.getvalue(), 0


@pytest.fixture
def watcher(client):
    user = make_user("declbind.view_traffic")
    user.is_staff = True
    user.save()
    client.force_login(user)
    return client


def test_the_page_answers_the_question_of_its_address(watcher):
    """The page shows cause, evidence and advice, and links to related pages."""
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        someone = make_user()
        text = watcher.get(PAGE, {"stream": "numbers", "row": row.pk, "user": someone.username}).content.decode()
    assert "The user was not connected then." in text
    assert "What to do:" in text
    assert f"row={row.pk}" in text


def test_an_incomplete_question_is_answered_by_what_is_missing(watcher):
    """Nothing is guessed, and the page keeps the submitted values."""
    assert "one of them is missing" in watcher.get(PAGE, {"stream": "numbers", "user": "ann"}).content.decode()
    from_a_binding = watcher.get(PAGE, {"stream": "numbers"})
    assert from_a_binding.context["fault"] == ""
    assert "Enter a stream and a row." in from_a_binding.content.decode()
    answer = watcher.get(PAGE, {"stream": "numbers", "row": "1", "at": "yesterday"}).content.decode()
    assert "Expected a time such as" in answer
    assert 'value="yesterday"' in answer
    assert "Expected a number" in watcher.get(PAGE, {"stream": "numbers", "offset": "x"}).content.decode()


@pytest.mark.parametrize("at", ["14:01", "2026-05-17 14:01", "2026-05-17T14:01:00+02:00", "99:99", "2026-13-99 10:00"])
def test_a_time_is_read_or_refused(watcher, at):
    """A time alone means today; no input breaks the page."""
    with override_bindings(NUMBERS):
        answer = watcher.get(PAGE, {"stream": "numbers", "row": "1", "at": at})
    assert answer.status_code == 200
    assert ("Expected a time" in answer.content.decode()) == (at in ("99:99", "2026-13-99 10:00"))


def test_the_page_needs_the_permission_to_watch(client):
    """Other users must not learn who received what."""
    user = User.objects.create_user("staff", is_staff=True)
    client.force_login(user)
    assert client.get(PAGE).status_code == 403
    assert Client().get(PAGE).status_code == 302


def test_the_link_to_a_connection_needs_the_permission_to_view_it(watcher):
    """Other users see only that there is a connection."""
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        attend(make_user(), [["numbers", "name-a", None, offset - 1, ""]], "c1")
        query = {"stream": "numbers", "row": row.pk}
        assert "connections/c1/" not in watcher.get(PAGE, query).content.decode()
        watcher.force_login(User.objects.create_superuser("root"))
        assert "connections/c1/" in watcher.get(PAGE, query).content.decode()


def test_the_verb_prints_the_answers_and_its_exit_status_says_how_sure_they_are():
    """The verb prints text or JSON. Only an offset names one change, so without it "sent" is likely."""
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        Event.objects.update(created_at=timezone.now() - timedelta(seconds=10))
        text, status = explain("numbers", str(row.pk))
        assert "\nnobody_subscribed (certain): " in text
        assert status == 1
        attend(make_user(), [["numbers", "name-a", None, offset - 1, ""]])
        text, status = explain("numbers", str(row.pk), "--format", "json")
        found = json.loads(text)
        assert (found["answers"][0]["cause"], found["certainty"], status) == ("sent", "likely", 3)
        assert found["change"]["offset"] == offset
        text, status = explain("numbers", str(row.pk), "--offset", str(offset))
        assert "sent (certain): " in text
        assert status == 0
        assert explain("numbers", "", "--offset", str(offset + 100))[1] == 4


def test_the_verb_connections_lists_open_connections():
    """The verb prints text or JSON, with the subscriptions of each connection."""
    user = make_user()
    attend(user, [["numbers", "name-a", None, 4, ""]])
    text, _ = run("connections")
    assert user.username in text
    assert "numbers/name-a" in text
    found = json.loads(run("connections", "--user", user.username, "--format", "json")[0])
    assert found["connections"][0]["subscriptions"][0]["group"] == "name-a"
    assert json.loads(run("connections", "--stream", "other", "--format", "json")[0])["total"] == 0


def test_the_verb_kick_disconnects_blocks_and_unblocks():
    """The verb has the effects of the page."""
    user = make_user()
    attend(user)
    run("kick", "--connection", "c", "--reason", "Bye.")
    run("kick", "--user", user.username, "--block", "60")
    assert Block.objects.get().user_pk == str(user.pk)
    kicks = [json.loads(text) for text in Event.objects.filter(kind="control").values_list("data", flat=True)]
    assert [kick["connection"] for kick in kicks if kick["type"] == "kick"] == ["c", None]
    run("kick", "--user", user.username, "--block", "0")
    assert not Block.objects.exists()
    assert Connection.objects.using(database_alias()).count() == 1


@pytest.mark.parametrize("words", [(), ("--connection", "c", "--user", "x"), ("--connection", "c", "--block", "5")])
def test_the_verb_kick_needs_exactly_one_of_user_and_connection(words):
    """The message says so."""
    from django.core.management import CommandError

    make_user(username="x")
    with pytest.raises(CommandError, match="Expected either"):
        call_command("declbind", "kick", *words)


@pytest.mark.parametrize(
    ("extra", "told"),
    [({"where": {"value": 5}}, "value = 5"), ({}, "groups it would be in"), ({}, "name-hidden")],
)
def test_details_of_the_row_need_the_permission_to_view(watcher, extra, told):
    """Every watcher sees the cause; the particulars need the permission to view. The second check is the control."""
    row = stored(name="hidden", value=1)
    Event.objects.all().delete()
    user = User.objects.get()

    def look():
        with override_bindings({**NUMBERS, **extra}):
            return watcher.get(PAGE, {"stream": "numbers", "row": row.pk}).content.decode()

    before = look()
    assert told.lower() not in before.lower()
    assert "for those who may view the model" in before
    user.user_permissions.add(find_permission("example.view_integervalue"))
    assert told.lower() in look().lower()
