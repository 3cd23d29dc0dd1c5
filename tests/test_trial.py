"""Trials of a binding: the text of each step, the configuration that is tried, and the command."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError

from declbind import WebsocketBinding, registry
from declbind.console.trial import OK, REFUSED, SKIPPED, Question, make_trial
from declbind.core.errors import ConfigError
from declbind.inbound import writes
from declbind.models import BindingRecord, BindingRevision
from declbind.outbound import index as indexes
from declbind.registry import override
from tests.command_runs import Ran
from tests.factories import AnimalFactory, UserFactory, find_permission, make_user
from tests.trials import GROUPED, HOLDS, OWN, ask, attempt, step, verdicts
from tests.zoo.clients import ANIMALS, OPEN
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db


# Steps --------------------------------------------------------------------------------------------------------------


def test_a_granted_write_passes_every_step():
    """The steps are in the order in which the server takes them, followed by the frames and groups."""
    row = AnimalFactory.create(name="Ada", legs=2)
    made = attempt(action="update", pk=row.pk, values={"legs": 5}, carry_out=True)
    assert list(verdicts(made)) == [
        "binding", "request", "who", "direction", "permission", "fields", "row", "values", "store",
        "groups", "frames", "connections",
    ]  # fmt: skip
    assert made.verdict == OK
    assert step(made, "groups").evidence == {"animals": {"before": ["legs-2"], "after": ["legs-5"]}}
    assert [(frame.group, frame.action) for frame in made.frames] == [("legs-2", "delete"), ("legs-5", "create")]
    assert json.loads(made.answer) == {
        "stream": "animals", "payload": {"action": "reply", "ref": 1, "ok": True, "pk": row.pk},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "question", "name", "text"),
    [
        (GROUPED, {"stream": "animlas"}, "binding", "Did you mean 'animals'?"),
        ({**GROUPED, "direction": "outbound"}, {"action": "delete", "pk": 1}, "direction", "only to clients"),
        ({**GROUPED, "direction": "inbound"}, {"action": "view"}, "direction", "only from clients"),
        (GROUPED, {"action": "update", "values": {"legs": 1}}, "request", "Expected 'pk'"),
        (GROUPED, {"action": "update", "pk": 404, "values": {"legs": 1}}, "row", "There is no such row"),
        (GROUPED, {"action": "create", "values": {"nmae": "x"}}, "fields", "nmae: This field cannot be written"),
        (GROUPED, {"action": "create", "values": {"name": "x", "legs": "two"}}, "values", "legs: Enter a whole number"),
        (OWN, {"action": "create", "values": {"name": "x"}}, "scope", "Not allowed"),
        (GROUPED, {"action": "view"}, "group", "Expected params with 'legs'"),
        ({**GROUPED, "permissions": {**OPEN, "view": False}}, {"params": {"legs": 1}}, "permission", "Nobody may"),
        (GROUPED, {"action": "outbound", "pk": 404}, "row", "There is no zoo.Animal with the key 404"),
    ],
)
def test_a_refusal_names_its_step(record, question, name, text):
    """The step that refuses gives the reason in an operator's words. Later steps say that they were not reached."""
    made = attempt(record, **question)
    assert made.verdict == REFUSED
    assert made.refusal.name == name, made.as_text()
    assert text in made.refusal.text
    later = list(verdicts(made).values())
    assert set(later[later.index(REFUSED) + 1 :]) <= {SKIPPED}
    assert not made.frames


def test_an_operator_sees_why_a_row_is_not_found():
    """Clients get the same answer for missing rows, rows outside ``where`` and rows of others.

    The step distinguishes them.
    """
    owner, other = UserFactory.create(), UserFactory.create()
    row = AnimalFactory.create(owner=owner, status="closed")
    record = {**OWN, "where": {"status": "open"}}
    given = {"action": "update", "values": {"name": "x"}, "who": other.username}
    absent = attempt(record, pk=row.pk + 1, **given)
    outside = attempt(record, pk=row.pk, **given)
    foreign = attempt({**record, "where": {}}, pk=row.pk, **given)
    assert {made.error.code for made in (absent, outside, foreign)} == {"not_found"}
    assert "no such row" in absent.refusal.text
    assert "outside 'where' (status)" in outside.refusal.text
    assert "closed" not in outside.refusal.text
    assert "another user (scope: owner_id)" in foreign.refusal.text


def test_a_permission_is_shown_with_its_origin():
    """The origin is a superuser, a user permission or a group.

    Groups that would give a missing permission are listed.
    """
    feeders = Group.objects.create(name="Feeders")
    feeders.permissions.add(find_permission(HOLDS))
    make_user(HOLDS, username="holder")
    UserFactory.create(username="member").groups.add(feeders)
    UserFactory.create(username="root", is_superuser=True)
    UserFactory.create(username="plain")
    record = {**GROUPED, "permissions": {**OPEN, "create": HOLDS}}
    said = {
        name: step(attempt(record, action="create", values={"name": "x"}, who=name), "permission").text
        for name in ("holder", "member", "root", "plain")
    }
    assert said["holder"].endswith("holder has it: a permission of their own.")
    assert said["member"].endswith("member has it: group Feeders.")
    assert said["root"].endswith("root has it: a superuser may all.")
    assert "plain does not have. Groups with it: Feeders." in said["plain"]


def test_a_permission_check_by_code_is_named():
    """The step has the result of the code and its location."""

    class Handwritten(WebsocketBinding):
        model = Animal
        stream = "animals"
        fields = ["name"]

        def has_permission(self, user, action, pk):
            return action == "create"

    made = attempt(Handwritten, action="create", values={"name": "x"})
    assert "The binding's code answers yes" in step(made, "permission").text
    assert "Handwritten.has_permission" in step(made, "permission").text
    refused = attempt(Handwritten, action="delete", pk=AnimalFactory.create().pk)
    assert "answers no" in refused.refusal.text


def test_the_user_is_read_from_the_database():
    """Current permissions count, whatever an earlier trial read, and an inactive user has none."""
    user = make_user(HOLDS, username="ann")
    record = {**GROUPED, "permissions": {**OPEN, "create": HOLDS}}
    given = {"action": "create", "values": {"name": "x"}, "who": "ann"}
    assert attempt(record, **given).verdict == OK
    user.user_permissions.clear()
    assert attempt(record, **given).refusal.name == "permission"
    user.is_active = False
    user.save()
    assert attempt(record, **given).refusal.name == "who"


# Configurations -----------------------------------------------------------------------------------------------------


def test_an_edited_record_is_tried_without_being_in_force(monkeypatch):
    """It is not in force for other threads during the trial, nor for this thread afterwards."""
    seen: list[Any] = []
    elsewhere: list[Any] = []
    write = writes.rehearse

    def look(*args):
        seen.append(registry.get_registry().by_stream["animals"].spec().groups)
        thread = threading.Thread(
            target=lambda: elsewhere.append(registry.current_registry().by_stream["animals"].spec().groups)
        )
        thread.start()
        thread.join()
        return write(*args)

    monkeypatch.setattr(writes, "rehearse", look)
    row = AnimalFactory.create(kind="bird")
    edited = {**GROUPED, "groups": ["kind-{kind}"]}
    with override(GROUPED):
        made = make_trial(
            Question(stream="animals", action="update", pk=row.pk, values={"legs": 4}, document=edited, carry_out=True)
        )
        after = registry.get_registry().by_stream["animals"].spec().groups
        index = indexes.current_index().registry
        assert index is registry.get_registry()
    assert [frame.group for frame in made.frames] == ["kind-bird"]
    assert (seen, elsewhere, after) == ([("kind-{kind}",)], [("legs-{legs}",)], ("legs-{legs}",))


def test_an_old_revision_is_tried():
    """The stream is tried as it was, with the revision's number. A stream that had been removed by then is unknown."""
    record = BindingRecord().assign(GROUPED)
    record.save()
    record.permissions = {**OPEN, "view": False}
    record.save()
    record.delete()
    first, second, gone = BindingRevision.objects.filter(stream="animals").order_by("pk")
    row = AnimalFactory.create()
    assert ask(pk=row.pk, revision=first.pk).verdict == OK
    assert ask(pk=row.pk, revision=second.pk).refusal.name == "permission"
    assert ask(pk=row.pk, revision=gone.pk).refusal.name == "binding"
    assert ask(pk=row.pk).refusal.name == "binding"


def test_an_invalid_record_is_reported():
    """The first step has the problem and its place."""
    made = attempt(document={**GROUPED, "fields": ["naem"]})
    assert made.refusal.name == "binding"
    assert "Did you mean 'name'?" in made.refusal.text


def test_a_disabled_binding_can_be_tried():
    """It refuses as it is. Tried as if it were enabled, it answers."""
    row = AnimalFactory.create()
    disabled = {**GROUPED, "enabled": False}
    assert "disabled" in attempt(document=disabled, pk=row.pk).refusal.text
    assert attempt(document=disabled, pk=row.pk, as_if_enabled=True).verdict == OK
    with override(disabled):
        assert ask(pk=row.pk).refusal.name == "binding"
        assert ask(pk=row.pk, as_if_enabled=True).verdict == OK


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ({"who": "nobody-of-that-name"}, "Expected a user's name"),
        ({"action": "explode"}, "Expected an action"),
        ({"revision": 99}, "There is no revision 99"),
        ({"action": "create", "values": {"x": float("nan")}}, "Expected values that JSON can hold"),
    ],
)
def test_a_contradictory_question_is_refused(question, text):
    """It is refused before anything is tried."""
    with pytest.raises(ConfigError, match=text):
        attempt(**question)


# What a change sends ------------------------------------------------------------------------------------------------


def test_a_change_without_subscribers_is_explained():
    """The group field is null, or the row is outside of ``where`` before and after the change."""
    row = AnimalFactory.create(status="closed")
    by_keeper = attempt({**ANIMALS, "groups": ["keeper-{keeper_id}"]}, action="outbound", pk=row.pk)
    assert "null" in step(by_keeper, "groups").text
    outside = attempt({**ANIMALS, "where": {"status": "open"}}, action="outbound", pk=row.pk)
    assert "outside 'where' (status)" in step(outside, "groups").text
    assert not outside.frames


def test_a_row_that_leaves_where_is_a_delete():
    """The frame that hides it contains no values."""
    row = AnimalFactory.create()
    record = {**ANIMALS, "where": {"status": "open"}}
    made = attempt(record, action="outbound", pk=row.pk, values={"status": "closed"})
    assert [frame.action for frame in made.frames] == ["delete"]
    assert '"data":{}' in made.frames[0].text


def test_values_of_a_change_are_converted_by_their_fields():
    """A missing field and an invalid value are refused, each by its name."""
    row = AnimalFactory.create()
    unknown = attempt(action="outbound", pk=row.pk, values={"lges": 1})
    assert unknown.refusal.name == "fields"
    assert "legs" in str(unknown.refusal.evidence)
    assert attempt(action="outbound", pk=row.pk, values={"legs": "many"}).refusal.name == "values"


# The command --------------------------------------------------------------------------------------------------------


def test_the_exit_status_of_the_command_is_the_result():
    """The status is 0 if the action is allowed, and 1 if it is refused. JSON is for programs."""
    row = AnimalFactory.create(legs=2)
    with override(GROUPED):
        ran = Ran("try", "animals", "--action", "update", "--pk", str(row.pk), "--set", "legs=5", "--set", "name=Bea")
        assert ran.status == 0
        assert any(line.startswith("ok       Permission") for line in ran.lines)
        refused = Ran("try", "animals", "--action", "create", "--data", '{"legs": "x"}', "--format", "json")
        assert refused.status == 1
        assert refused.json["error"]["fields"].keys() == {"legs", "name"}
        seen = Ran("try", "animals", "--params", '{"legs": 2}', "--format", "json").json
        assert [shown["pk"] for shown in seen["rows"]["rows"]] == [row.pk]
        carried = Ran("try", "animals", "--action", "delete", "--pk", str(row.pk), "--carry-out")
        assert "Carried out and rolled back." in carried.out
    assert Animal.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "legs"], "In --set: expected 'field = value'"),
        (["--data", "[1]"], "In --data: expected a JSON object"),
        (["--params", "{"], "In --params: expected a JSON object"),
        (["--user", "nobody"], "Expected a user's name"),
        (["--revision", "9"], "There is no revision 9 of stream 'animals'"),
    ],
)
def test_the_command_refuses_invalid_arguments(arguments, text):
    """The error says what was expected."""
    with override(GROUPED), pytest.raises(CommandError) as caught:
        Ran("try", "animals", *arguments)
    assert text in str(caught.value)
