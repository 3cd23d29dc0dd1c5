"""The request key ``if``: a write that is carried out only if the row is as the client knows it."""

from __future__ import annotations

import pytest

from declbind.inbound import conditions
from tests.factories import AnimalFactory
from tests.zoo.clients import connect

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ({}, None),
        ({"name": "Ada", "legs": 1}, None),
        ({"legs": 1.0}, None),
        ({"keeper": None, "foods": [], "weight": None}, None),
        ({"legs": True}, "conflict"),
        ({"legs": "1"}, "conflict"),
        ({"legs": 2}, "conflict"),
        ({"name": "Bea"}, "conflict"),
        ({"foods": [1]}, "conflict"),
        ({"keeper": 1}, "conflict"),
        ({"secret_token": "hidden"}, "invalid"),
        ({"status": "open"}, "invalid"),
        ({"id": 1}, "invalid"),
        ({"nonsense": 1}, "invalid"),
    ],
)
@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_condition_is_compared_with_the_stored_row(action, condition, code):
    """``if`` holds when each bound field has the JSON value that a frame would show. Other fields are refused."""
    row = AnimalFactory.create(name="Ada", legs=1)
    client = connect()
    data = {"name": "New"} if action == "update" else None
    if code is None:
        client.send(action, row.pk, data, condition=condition)
        return
    error = client.refused(action, row.pk, data, condition=condition)
    assert (error.code, error.fields.keys()) == (code, condition.keys())
    row.refresh_from_db()
    assert row.name == "Ada"


def test_a_condition_on_a_create_is_invalid():
    """There is no row yet that could be compared."""
    assert connect().refused("create", data={"name": "a"}, condition={"name": "b"}).code == "invalid"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True), (True, 1, False), (0, False, False), ("1", 1, False), (None, None, True), (None, 0, False),
        ([1, [True]], [1, [True]], True), ([1, [True]], [1, [1]], False), ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({"a": True}, {"a": 1}, False), ({"a": 1}, {}, False),
        ([], {}, False),
    ],
)  # fmt: skip
def test_true_is_not_equal_to_1_in_json(one, other, same):
    """Python considers them equal."""
    assert conditions.is_same_json(one, other) is same
    assert conditions.is_same_json(other, one) is same
