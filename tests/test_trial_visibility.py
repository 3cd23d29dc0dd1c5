"""Rows that a user sees, users who see a row, and connections that would get a frame, as a trial reports them."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone

from declbind.console import visibility
from declbind.console.trial import OK, REFUSED, Question, make_trial
from declbind.models import Connection, Node
from declbind.registry import override
from tests.factories import AnimalFactory, UserFactory, make_user
from tests.trials import HOLDS, OWN, attempt, step
from tests.zoo.clients import ANIMALS

pytestmark = pytest.mark.django_db


def test_rows_that_the_user_sees_are_those_of_the_snapshot():
    """They are the user's own rows inside ``where``, up to a limit."""
    owner, other = UserFactory.create(), UserFactory.create()
    mine = AnimalFactory.create(owner=owner)
    AnimalFactory.create(owner=owner, status="closed")
    AnimalFactory.create(owner=other)
    made = attempt({**OWN, "where": {"status": "open"}}, who=owner.username)
    assert made.rows is not None
    assert [row.pk for row in made.rows.shown] == [mine.pk]
    assert made.rows.is_all


def test_rows_are_bounded(monkeypatch):
    """The first rows are shown, and that there are more."""
    monkeypatch.setattr(visibility, "SHOWN_ROWS", 2)
    for _ in range(3):
        AnimalFactory.create()
    rows = attempt(ANIMALS).rows
    assert (len(rows.shown), rows.is_all) == (2, False)
    assert "the first 2, there are more" in rows.words()


def test_a_hidden_row_is_shown_with_the_reason():
    """It is in another group or in none, outside of ``where``, or belongs to another owner."""
    user = UserFactory.create()
    row = AnimalFactory.create(legs=2, status="closed", owner=None)
    assert attempt(pk=row.pk, params={"legs": 3}).refusal.text == "The row is in legs-2, not in legs-3."
    assert attempt(pk=row.pk).verdict == OK
    assert "'where' (status)" in attempt({**ANIMALS, "where": {"status": "open"}}, pk=row.pk).refusal.text
    assert "another user" in attempt(OWN, pk=row.pk, who=user.username).refusal.text
    assert "There is no zoo.Animal" in attempt(ANIMALS, pk=404).refusal.text


def test_users_who_see_a_row():
    """They have the permission and the scope, and are active. Anonymous visitors are listed too."""
    holder, owner = make_user(HOLDS, username="holder"), make_user(HOLDS, username="owner")
    UserFactory.create(username="plain")
    make_user(HOLDS, username="gone", is_active=False)
    row = AnimalFactory.create(owner=owner)
    held = {**ANIMALS, "permissions": {"view": HOLDS}}
    viewers = attempt(held, pk=row.pk, who="holder").viewers
    assert [viewer.username for viewer in viewers.shown] == [holder.username, owner.username]
    assert (viewers.examined, viewers.is_all, viewers.anonymous) == (3, True, False)
    own = attempt({**OWN, "permissions": held["permissions"]}, pk=row.pk).viewers
    assert [viewer.username for viewer in own.shown] == ["owner"]
    assert attempt(ANIMALS, pk=row.pk).viewers.anonymous


def test_the_number_of_examined_users_is_limited(monkeypatch):
    """The answer says that there are others."""
    monkeypatch.setattr(visibility, "EXAMINED_USERS", 2)
    monkeypatch.setattr(visibility, "SHOWN_VIEWERS", 1)
    for _ in range(3):
        UserFactory.create()
    viewers = attempt(ANIMALS, pk=AnimalFactory.create().pk).viewers
    assert (len(viewers.shown), viewers.found, viewers.examined, viewers.is_all) == (1, 2, 2, False)
    assert "2 of the first 2 active users" in viewers.words()


def test_connections_that_would_get_a_frame():
    """They are the connections in the groups, as their processes report them."""
    now = timezone.now()
    Node.objects.create(id="n", host="h", pid=1, started_at=now, seen_at=now)
    for name, group in (("ann", "legs-2"), ("bob", "legs-9")):
        heard = json.dumps([["animals", group, None, 0, ""]], separators=(",", ":"))
        Connection.objects.create(id=name, node="n", username=name, user_pk="1", opened_at=now, subscriptions=heard)
    row = AnimalFactory.create(legs=2)
    made = attempt(action="update", pk=row.pk, values={"legs": 3})
    assert [heard.audience.total for heard in made.listening] == [1]
    assert step(made, "connections").text == "1 connection now."
    assert "Received by: ann" in made.as_text()
    assert "ann" not in made.without_names().as_text()


def test_every_binding_is_tried():
    """There is one line for each stream in force, with the step that decided."""
    with override(ANIMALS, {**ANIMALS, "stream": "closed", "permissions": {"view": False}}):
        made = make_trial(Question(action="view"))
    assert [(part.question.stream, part.verdict) for part in made.parts] == [("animals", OK), ("closed", REFUSED)]
    assert "Possible on 1 of 2 streams" in made.steps[0].text
    assert "closed: Permission: Nobody may" in made.as_text()


def test_a_slow_rule_is_evaluated_for_a_limited_time(monkeypatch):
    """The limit applies to users and to bindings, and the answer says how many were left out."""
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    for _ in range(8):
        make_user()
    row = AnimalFactory.create()
    with override(ANIMALS, *({**ANIMALS, "stream": f"more-{number}"} for number in range(15))):
        seen = make_trial(Question(stream="animals", action="outbound", pk=row.pk)).viewers
        everything = make_trial(Question(action="view"))
    assert seen is not None
    assert seen.examined < 8
    assert not seen.is_all
    assert len(everything.parts) < 16
    assert "of 16 were tried" in everything.steps[0].text
