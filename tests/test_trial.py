"""Trials of a binding: the text of each step, the configuration, and that a trial leaves nothing behind."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.core.management import CommandError
from django.db import connection, transaction
from django.utils import timezone

from declbind import WebsocketBinding, registry, signals
from declbind.console import trial, trial_steps, visibility
from declbind.console.trial import NOTE, OK, REFUSED, SKIPPED, Question, make_trial
from declbind.core import course
from declbind.core.errors import ConfigError
from declbind.inbound import writes
from declbind.models import BindingRecord, BindingRevision, Connection, Event, IdempotencyKey, Node, Traffic
from declbind.outbound import index as indexes
from declbind.registry import override
from tests.factories import AnimalFactory, UserFactory, find_permission, make_user
from tests.test_command import Ran
from tests.zoo.clients import ANIMALS, OPEN
from tests.zoo.models import Animal, Cage

pytestmark = pytest.mark.django_db
HOLDS = "zoo.feed_animal"
GROUPED = {**ANIMALS, "groups": ["legs-{legs}"]}
OWN = {**ANIMALS, "groups": ["own-{owner_id}"], "scope": {"owner_id": "$user.pk"}}


def ask(**question: Any) -> Any:
    """Try a question under what is in force."""
    return make_trial(Question(**{"stream": "animals", **question}))


def attempt(record: Any = GROUPED, **question: Any) -> Any:
    """Try a question under one record or class in force."""
    with override(record):
        return ask(**question)


def verdicts(made: Any) -> dict[str, str]:
    return {step.name: step.verdict for step in made.steps}


def step(made: Any, name: str) -> Any:
    found = made.step(name)
    assert found is not None, made.as_text()
    return found


# Steps --------------------------------------------------------------------------------------------------------------


def test_a_granted_write_passes_every_step():
    """In the order in which the server takes them, with the frames and groups at the end."""
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
    """The step at which it ended says why in an operator's words; later ones say that they were not reached."""
    made = attempt(record, **question)
    assert made.verdict == REFUSED
    assert made.refusal.name == name, made.as_text()
    assert text in made.refusal.text
    later = list(verdicts(made).values())
    assert set(later[later.index(REFUSED) + 1 :]) <= {SKIPPED}
    assert not made.frames


def test_an_operator_learns_what_a_client_does_not():
    """Missing rows, rows outside ``where`` and others' rows are one answer to clients; the step distinguishes them."""
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


def test_a_permission_says_where_it_comes_from():
    """A superuser, a user permission, a group; and which groups would give the permission to a user without it."""
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


def test_a_permission_by_code_says_so():
    """The verdict is the code's, and the place of the code is named."""

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


def test_the_user_is_as_the_database_has_it():
    """Rights count as of now, whatever was asked a moment ago, and an inactive user has none."""
    user = make_user(HOLDS, username="ann")
    record = {**GROUPED, "permissions": {**OPEN, "create": HOLDS}}
    given = {"action": "create", "values": {"name": "x"}, "who": "ann"}
    assert attempt(record, **given).verdict == OK
    user.user_permissions.clear()
    assert attempt(record, **given).refusal.name == "permission"
    user.is_active = False
    user.save()
    assert attempt(record, **given).refusal.name == "who"


# Nothing remains ----------------------------------------------------------------------------------------------------


def traces() -> Any:
    return (
        list(Animal.objects.order_by("pk").values()),
        list(Event.objects.values_list("id", flat=True)),
        [model.objects.count() for model in (Traffic, IdempotencyKey, Cage)],
        len(connection.run_on_commit),
    )


class Noisy(WebsocketBinding):
    """A binding with all side effects that must not remain."""

    model = Animal
    stream = "animals"
    fields = ["name", "legs"]
    ran: list[str] = []

    def has_permission(self, user, action, pk):
        return True

    def create(self, data):
        row = Animal.objects.create(**data)
        transaction.on_commit(self.after)
        Traffic.objects.create(at=timezone.now(), kind=Traffic.REQUEST)
        return row

    def after(self):
        self.ran.append("after")
        mail.send_mail("done", "done", None, ["a@example.org"])


@pytest.mark.parametrize("carry_out", [False, True])
@pytest.mark.parametrize(
    ("action", "values"),
    [("create", {"name": "New"}), ("update", {"legs": 5}), ("delete", {}), ("update", {"legs": "x"})],
)
def test_a_try_leaves_nothing(action, values, carry_out, django_capture_on_commit_callbacks):
    """No row, no event, no traffic, no key, and nothing that waits for a commit."""
    row = AnimalFactory.create(legs=2)
    before = traces()
    with django_capture_on_commit_callbacks() as callbacks:
        attempt(action=action, pk=row.pk if action != "create" else None, values=values, carry_out=carry_out)
    assert traces() == before
    assert callbacks == []


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_the_commit_is_named_and_never_called():
    """With real transactions too: the callback is named for the operator, and never runs."""
    Noisy.ran.clear()
    before = traces()
    made = attempt(Noisy, action="create", values={"name": "New"}, carry_out=True)
    assert "Noisy.after" in step(made, "store").text
    assert made.frames
    with transaction.atomic():
        AnimalFactory.create(name="Real").delete()
    assert Noisy.ran == []
    assert mail.outbox == []
    assert traces()[0] == before[0]
    assert Traffic.objects.count() == 0
    with override(Noisy), transaction.atomic():
        Noisy().create({"name": "New"})
    assert Noisy.ran == ["after"], "the control: carried out for good, it runs"


def test_validation_alone_runs_no_code_that_stores():
    """A hand-written create is not called, and the step says that only carrying it out shows the result."""
    called = []

    class Handwritten(Noisy):
        def create(self, data):
            called.append(data)
            return super().create(data)

    made = attempt(Handwritten, action="create", values={"name": "New"})
    assert called == []
    assert step(made, "store").verdict == NOTE
    assert "Project code stores the row" in step(made, "store").text
    attempt(Handwritten, action="create", values={"name": "New"}, carry_out=True)
    assert called == [{"name": "New"}]


def test_validation_alone_says_that_mail_is_why():
    """The step explains to the operator why nothing is stored."""
    made = attempt(action="create", values={"name": "New"})
    assert "mail, tasks" in step(made, "store").text
    assert [frame.action for frame in made.frames] == ["create"]


def test_validation_alone_finds_what_protects_a_row():
    """A delete that other rows forbid is refused without being tried."""
    row = Cage.objects.create(animal=AnimalFactory.create()).animal
    made = attempt(action="delete", pk=row.pk)
    assert (made.error.code, made.refusal.name) == ("conflict", "store")


@pytest.mark.django_db(transaction=True)
def test_no_lock_is_held_while_the_answer_is_worked_out(monkeypatch):
    """The transaction is over before connections, reasons or rows are looked up."""
    inside = []
    module: Any
    for module, name in ((trial, "load_audience"), (trial_steps, "explain_permission")):
        original = getattr(module, name)

        def look(*args: Any, original: Any = original, **kwargs: Any) -> Any:
            inside.append(connection.in_atomic_block)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, look)
    row = AnimalFactory.create()
    attempt(action="update", pk=row.pk, values={"legs": 5}, carry_out=True)
    assert inside
    assert not any(inside)


def test_nobody_follows_a_client():
    """Outside of a try the marks in the code do nothing."""
    assert course.current() is None
    course.enter("permission")


# Faults -------------------------------------------------------------------------------------------------------------


def failing(*methods: str) -> Any:
    def fail(self: Any, *args: Any) -> Any:
        raise RuntimeError("the secret")

    attributes = {"model": Animal, "stream": "animals", "fields": ["name"], **dict.fromkeys(methods, fail)}
    return type("Failing", (WebsocketBinding,), {"permissions": OPEN, **attributes})


@pytest.mark.parametrize(
    ("method", "question", "name"),
    [
        ("has_permission", {"action": "create", "values": {"name": "x"}}, "permission"),
        ("deserialize", {"action": "create", "values": {"name": "x"}}, "request"),
        ("create", {"action": "create", "values": {"name": "x"}, "carry_out": True}, "store"),
        ("get_object", {"action": "update", "values": {"name": "x"}}, "store"),
        ("has_view_permission", {"action": "view"}, "permission"),
        ("subscription_group", {"action": "view"}, "group"),
        ("serialize_data", {"action": "outbound"}, "frames"),
        ("serialize", {"action": "outbound"}, "frames"),
        ("group_names", {"action": "outbound"}, "frames"),
    ],
)
def test_a_fault_of_code_is_a_step(method, question, name):
    """It is "internal" with the name of the fault, which clients never get, and never an exception."""
    row = AnimalFactory.create()
    made = attempt(failing(method), pk=None if question["action"] == "create" else row.pk, **question)
    assert made.refusal.name == name, made.as_text()
    assert "internal" in made.refusal.text
    assert "RuntimeError: the secret" in made.refusal.text
    assert "secret" not in made.answer


def test_a_fault_in_capture_is_told_to_the_operator_alone(caplog):
    """The write succeeds, as a real one would. Neither a signal nor the log reports the fault of a trial."""
    heard: list[Any] = []
    row = AnimalFactory.create()
    signals.binding_failed.connect(lambda **kwargs: heard.append(kwargs), weak=False, dispatch_uid="test")
    try:
        made = attempt(failing("serialize_data"), action="update", pk=row.pk, values={"name": "x"}, carry_out=True)
    finally:
        signals.binding_failed.disconnect(dispatch_uid="test")
    assert made.verdict == OK
    assert (step(made, "frames").verdict, heard, caplog.records) == (NOTE, [], [])
    assert "RuntimeError" in step(made, "frames").text


def test_without_the_right_to_values_nothing_of_them_is_left():
    """Frames, rows and the words of exceptions become shapes and names."""
    row = AnimalFactory.create(name="hush")

    class Quoting(failing()):  # type: ignore[misc]
        def has_permission(self, user, action, pk):
            raise RuntimeError(f"cannot {Animal.objects.get(pk=pk).name}")

    for record, question in (
        (ANIMALS, {"action": "view"}),
        (ANIMALS, {"action": "outbound"}),
        (Quoting, {"action": "delete"}),
    ):
        made = attempt(record, pk=row.pk, **question)
        assert "hush" in made.as_text()
        hidden = made.without_values(lambda model: False, lambda value, depth: dict.fromkeys(value, "text"))
        assert "hush" not in hidden.as_text() + json.dumps(hidden.as_json())
        shown = made.without_values(lambda model: model == "zoo.animal", lambda value, depth: value)
        assert shown.as_text() == made.as_text()


# Configurations -----------------------------------------------------------------------------------------------------


def test_an_edited_record_is_tried_and_put_into_force_for_nobody(monkeypatch):
    """Not for other threads while it is tried, and not for this one afterwards."""
    seen: list[Any] = []
    elsewhere: list[Any] = []
    write = writes.rehearse

    def look(*args: Any) -> Any:
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
    """A stream as it was, under its number; a stream that was removed then is unknown."""
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


def test_an_invalid_record_says_what_is_wrong():
    """A mistake in the edit is the first step's reason, with its place."""
    made = attempt(document={**GROUPED, "fields": ["naem"]})
    assert made.refusal.name == "binding"
    assert "Did you mean 'name'?" in made.refusal.text


def test_a_disabled_binding_can_be_tried_before_it_goes_live():
    """As it is it refuses; as if it were enabled it answers."""
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
def test_a_question_without_sense_is_refused(question, text):
    """Before anything is tried."""
    with pytest.raises(ConfigError, match=text):
        attempt(**question)


# Who sees what ------------------------------------------------------------------------------------------------------


def test_rows_that_the_user_sees_are_those_of_the_snapshot():
    """Own ones only, inside ``where``, and no more than are shown."""
    owner, other = UserFactory.create(), UserFactory.create()
    mine = AnimalFactory.create(owner=owner)
    AnimalFactory.create(owner=owner, status="closed")
    AnimalFactory.create(owner=other)
    made = attempt({**OWN, "where": {"status": "open"}}, who=owner.username)
    assert made.rows is not None
    assert [row.pk for row in made.rows.shown] == [mine.pk]
    assert made.rows.is_all


def test_rows_are_bounded(monkeypatch):
    """The first are shown, and that there are more is said."""
    monkeypatch.setattr(visibility, "SHOWN_ROWS", 2)
    for _ in range(3):
        AnimalFactory.create()
    rows = attempt(ANIMALS).rows
    assert (len(rows.shown), rows.is_all) == (2, False)
    assert "the first 2, there are more" in rows.words()


def test_a_row_that_is_not_seen_says_why():
    """Another group than the one asked for, none at all, outside of ``where``, another owner."""
    user = UserFactory.create()
    row = AnimalFactory.create(legs=2, status="closed", owner=None)
    assert attempt(pk=row.pk, params={"legs": 3}).refusal.text == "The row is in legs-2, not in legs-3."
    assert attempt(pk=row.pk).verdict == OK
    assert "'where' (status)" in attempt({**ANIMALS, "where": {"status": "open"}}, pk=row.pk).refusal.text
    assert "another user" in attempt(OWN, pk=row.pk, who=user.username).refusal.text
    assert "There is no zoo.Animal" in attempt(ANIMALS, pk=404).refusal.text


def test_users_who_see_a_row():
    """By permission and by scope, active ones only, anonymous visitors beside them."""
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


def test_so_many_users_are_examined(monkeypatch):
    """And it is said that there are others."""
    monkeypatch.setattr(visibility, "EXAMINED_USERS", 2)
    monkeypatch.setattr(visibility, "SHOWN_VIEWERS", 1)
    for _ in range(3):
        UserFactory.create()
    viewers = attempt(ANIMALS, pk=AnimalFactory.create().pk).viewers
    assert (len(viewers.shown), viewers.found, viewers.examined, viewers.is_all) == (1, 2, 2, False)
    assert "2 of the first 2 active users" in viewers.words()


def test_connections_that_would_get_it():
    """Those that the processes say are in the groups, both of the stream's own and of others'."""
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
    """One line for each stream in force, with where it ended."""
    with override(ANIMALS, {**ANIMALS, "stream": "closed", "permissions": {"view": False}}):
        made = make_trial(Question(action="view"))
    assert [(part.question.stream, part.verdict) for part in made.parts] == [("animals", OK), ("closed", REFUSED)]
    assert "Possible on 1 of 2 streams" in made.steps[0].text
    assert "closed: Permission: Nobody may" in made.as_text()


# What a change sends ------------------------------------------------------------------------------------------------


def test_a_change_that_reaches_nobody_says_why():
    """A null field, or a row outside of ``where`` before and after."""
    row = AnimalFactory.create(status="closed")
    by_keeper = attempt({**ANIMALS, "groups": ["keeper-{keeper_id}"]}, action="outbound", pk=row.pk)
    assert "null" in step(by_keeper, "groups").text
    outside = attempt({**ANIMALS, "where": {"status": "open"}}, action="outbound", pk=row.pk)
    assert "outside 'where' (status)" in step(outside, "groups").text
    assert not outside.frames


def test_a_row_that_leaves_where_is_told_to_go():
    """The frame that hides it carries no values."""
    row = AnimalFactory.create()
    record = {**ANIMALS, "where": {"status": "open"}}
    made = attempt(record, action="outbound", pk=row.pk, values={"status": "closed"})
    assert [frame.action for frame in made.frames] == ["delete"]
    assert '"data":{}' in made.frames[0].text


def test_values_of_a_change_are_read_as_the_fields_would():
    """A field that does not exist and a value that does not fit are refused, each by name."""
    row = AnimalFactory.create()
    unknown = attempt(action="outbound", pk=row.pk, values={"lges": 1})
    assert unknown.refusal.name == "fields"
    assert "legs" in str(unknown.refusal.evidence)
    assert attempt(action="outbound", pk=row.pk, values={"legs": "many"}).refusal.name == "values"


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_steps_and_ends_by_the_verdict():
    """Status 0 for what may be done, 1 for what is refused; JSON for machines."""
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
def test_the_command_says_what_is_wrong_with_its_arguments(arguments, text):
    """As an error, with what was expected."""
    with override(GROUPED), pytest.raises(CommandError) as caught:
        Ran("try", "animals", *arguments)
    assert text in str(caught.value)


def test_a_slow_rule_is_asked_for_a_bounded_time(monkeypatch):
    """Of users as of bindings, and the answer says how many there were more."""
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
