"""A trial leaves nothing behind: no row, event, traffic, key or callback, and no lock during the evaluation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone

from declbind import WebsocketBinding, signals
from declbind.console.trial import NOTE, OK, steps
from declbind.console.trial import attempt as attempts
from declbind.core import course
from declbind.models import Event, IdempotencyKey, Traffic
from declbind.registry import override
from tests.factories import AnimalFactory
from tests.trials import attempt, step
from tests.zoo.clients import ANIMALS, OPEN
from tests.zoo.models import Animal, Cage

pytestmark = pytest.mark.django_db


# Nothing remains ----------------------------------------------------------------------------------------------------


def traces() -> Any:
    return (
        list(Animal.objects.order_by("pk").values()),
        list(Event.objects.values_list("id", flat=True)),
        [model.objects.count() for model in (Traffic, IdempotencyKey, Cage)],
        len(connection.run_on_commit),
    )


class Noisy(WebsocketBinding):
    """A binding with every side effect that must not remain."""

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
def test_a_trial_leaves_nothing(action, values, carry_out, django_capture_on_commit_callbacks):
    """It leaves no row, event, traffic or key, and no callback that waits for the commit."""
    row = AnimalFactory.create(legs=2)
    before = traces()
    with django_capture_on_commit_callbacks() as callbacks:
        attempt(action=action, pk=row.pk if action != "create" else None, values=values, carry_out=carry_out)
    assert traces() == before
    assert callbacks == []


@pytest.mark.django_db(transaction=True)
def test_on_commit_callbacks_are_named_and_never_called():
    """This holds in real transactions too."""
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
    """A hand-written create is not called, and the step says that only a full trial shows its result."""
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


def test_validation_alone_names_mail_as_its_reason():
    """The step explains why nothing is stored."""
    made = attempt(action="create", values={"name": "New"})
    assert "mail, tasks" in step(made, "store").text
    assert [frame.action for frame in made.frames] == ["create"]


def test_validation_alone_finds_rows_that_protect_another():
    """A delete that other rows forbid is refused without being tried."""
    row = Cage.objects.create(animal=AnimalFactory.create()).animal
    made = attempt(action="delete", pk=row.pk)
    assert (made.error.code, made.refusal.name) == ("conflict", "store")


@pytest.mark.django_db(transaction=True)
def test_no_lock_is_held_during_the_evaluation(monkeypatch):
    """The transaction is over before connections, reasons or rows are looked up."""
    inside = []
    module: Any
    for module, name in ((attempts, "load_audience"), (steps, "explain_permission")):
        original = getattr(module, name)

        def look(*args, original=original, **kwargs):
            inside.append(connection.in_atomic_block)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, look)
    row = AnimalFactory.create()
    attempt(action="update", pk=row.pk, values={"legs": 5}, carry_out=True)
    assert inside
    assert not any(inside)


def test_requests_of_clients_are_not_traced():
    """Outside of a trial, the trace points in the code do nothing."""
    assert course.current() is None
    course.enter(course.Check.PERMISSION)


# Faults -------------------------------------------------------------------------------------------------------------


def failing(*methods: str) -> Any:
    def fail(self: object, *args: object) -> object:
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
    """The step is "internal" with the name of the exception, which clients never get. The trial does not raise it."""
    row = AnimalFactory.create()
    made = attempt(failing(method), pk=None if question["action"] == "create" else row.pk, **question)
    assert made.refusal.name == name, made.as_text()
    assert "internal" in made.refusal.text
    assert "RuntimeError: the secret" in made.refusal.text
    assert "secret" not in made.answer


def test_a_fault_in_capture_is_shown_to_the_operator_only(caplog):
    """The write succeeds, as a real one would. Neither a signal nor the log reports the fault."""
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


def test_without_the_permission_to_view_no_values_are_shown():
    """Frames, rows and the texts of exceptions are reduced to shapes and names."""
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
