"""Bindings with their own code: its arguments, its return values, and the handling of its faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError

from declbind import WebsocketBinding
from declbind.core.errors import ClientError
from declbind.inbound import writes
from tests.factories import AnimalFactory, UserFactory
from tests.zoo.clients import OPEN, connect
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db


class Handwritten(WebsocketBinding):
    model = Animal
    stream = "animals"
    fields = ["name"]

    def has_permission(self, user, action, pk):
        return True


RAISED = [
    (ValidationError("Not today."), "invalid"),
    (ValidationError({"name": ["Too plain."]}), "invalid"),
    (PermissionDenied("because of the secret"), "denied"),
    (Animal.DoesNotExist("secret"), "not_found"),
    (ObjectDoesNotExist("secret"), "not_found"),
    (ClientError("conflict", "Come back later."), "conflict"),
    (RuntimeError("the secret"), "internal"),
    (KeyError("secret"), "internal"),
    (RecursionError("secret"), "internal"),
    (AssertionError("secret"), "internal"),
]


@pytest.mark.parametrize(("raised", "code"), RAISED)
def test_fault_11_exceptions_of_code_are_answered(raised, code, caplog):
    """Every request gets an answer, and never the text of an exception that is not meant for clients."""

    def create(self: object, data: object) -> Any:
        Animal.objects.create(name="half done")
        raise raised

    error = connect(type("Raising", (Handwritten,), {"create": create})).refused("create", data={"name": "a"})
    assert error.code == code
    assert "secret" not in str(error)
    assert not Animal.objects.exists()
    assert bool(caplog.records) is (code == "internal")


@pytest.mark.parametrize("method", ["deserialize", "has_permission", "get_object"])
def test_fault_11_a_fault_at_any_step_is_answered(method, caplog):
    """A binding may fail anywhere. The traceback is in the log."""

    def fail(self: object, *args: object) -> object:
        raise RuntimeError("the secret")

    client = connect(type("Raising", (Handwritten,), {method: fail}))
    error = client.refused("update", AnimalFactory.create().pk, {"name": "a"})
    assert error.code == "internal"
    assert "secret" not in str(error)
    assert "the secret" in caplog.text


def answer_with_exception_text(request, binding, identity):
    try:
        return writes._carry_out(request, binding, identity, "default")
    except ClientError:
        raise
    except Exception as error:
        raise ClientError("internal", str(error)) from error


def test_fault_11_a_leaking_answer_is_detected(monkeypatch):
    """Negative control: an answer with the text of the exception fails the previous test."""
    monkeypatch.setattr(writes, "handle", answer_with_exception_text)

    class Caplog:
        records: Sequence[object] = [1]

    with pytest.raises(AssertionError):
        test_fault_11_exceptions_of_code_are_answered(RuntimeError("the secret"), "internal", Caplog)


def test_fault_11_a_denied_request_is_answered():
    """The original did not answer denied or malformed requests. Here each gets an error with a code."""
    client = connect(permissions={})
    assert client.refused("create", data={"name": "a"}).code == "denied"
    assert client.refused("update", 1, {"name": "a"}).code == "denied"
    assert client.refused("delete", True).code == "denied"
    assert client.refused("explode").code == "unknown_action"


def test_a_hand_written_binding_gets_the_user_and_may_return_nothing():
    """There is one instance per request, and the user is read from the database.

    Without a row the reply has the sent key.
    """
    seen: list[Any] = []

    class Quiet(Handwritten):
        def has_permission(self, user, action, pk):
            seen.append((user, self.user, action, pk))
            return True

        def create(self, data):
            seen.append(data)

        def update(self, pk, data):
            seen.append((pk, data))

        def delete(self, pk):
            seen.append(pk)

    ann = UserFactory.create()
    client = connect(Quiet, user=ann)
    assert client.send("create", data={"name": "a"}) == {"pk": None}
    assert client.send("update", "5", {"name": "b"}) == {"pk": "5"}
    assert client.send("delete", 6) == {"pk": 6}
    assert seen == [
        (ann, ann, "create", None), {"name": "a"},
        (ann, ann, "update", 5), (5, {"name": "b"}),
        (ann, ann, "delete", 6), 6,
    ]  # fmt: skip


def test_code_may_identify_rows_by_another_column():
    """``deserialize`` and ``update`` of a binding by slug get the slug. Booleans are not accepted as keys."""

    class BySlug(Handwritten):
        def update(self, pk, data):
            row = Animal.objects.get(slug=pk)
            row.name = data["name"]
            row.save()
            return row

    row = AnimalFactory.create(name="Ada")
    client = connect(BySlug)
    assert client.send("update", "ada-bird", {"name": "Bea"}) == {"pk": row.pk}
    assert client.refused("update", "nobody", {"name": "Bea"}).code == "not_found"
    assert client.refused("update", True, {"name": "Bea"}).code == "not_found"


def test_the_whitelist_holds_for_hand_written_methods():
    """``create(data)`` never sees a field that is not writable."""
    error = connect(Handwritten).refused("create", data={"name": "a", "secret_token": "x"})
    assert error.fields.keys() == {"secret_token"}


def test_a_missing_row_in_permission_code_is_answered_like_a_forbidden_one():
    """A has_permission that fetches the row raises for a missing one. Clients get the answer of a forbidden one."""

    class Asking(Handwritten):
        def has_permission(self, user, action, pk):
            return Animal.objects.get(pk=pk).status == "mine"

    row = AnimalFactory.create()
    client = connect(Asking)
    assert [client.refused("update", pk, {"name": "a"}).code for pk in (row.pk, 999_999)] == ["denied", "denied"]


def test_a_user_without_permissions_of_any_kind():
    """A user model without PermissionsMixin has no ``has_perm``: its users have what ``true`` gives."""
    binding = connect(permissions={**OPEN, "create": "zoo.add_animal"}).binding
    user = type("Bare", (), {"is_authenticated": True, "pk": 1})()
    assert not binding(user=user).has_permission(user, "create", None)
    assert not binding(user=user).has_permission(user, "create", 5)
    assert binding(user=user).has_permission(user, "update", 5)
