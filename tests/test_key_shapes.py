"""Keys in data that code makes, keys of several columns, and relations without a column."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from declbind import Binding, WebsocketBinding
from declbind.core.errors import ConfigError
from declbind.record_validation import validate_document
from declbind.serializers import default
from declbind.stored_rows import AnyRow
from declbind.testing import capture_events, override_bindings
from tests.json_types import JSONObject
from tests.zoo.clients import OPEN, connect
from tests.zoo.columns import BigKey, Coin, Hall, Line, Order, Seat, TextKey, Ticket

pytestmark = pytest.mark.django_db
#: An id of 64 bits, such as Twitter's first, and similar ones: a JavaScript number would be off by one.
LARGE = 2**53 + 1


def record(model: Any, **keys: Any) -> JSONObject:
    return {"stream": "keys", "model": model._meta.label, "fields": "__all__", "permissions": OPEN, **keys}


# Data made by code ----------------------------------------------------------------------------------------------------


def send_numbers(instance: Any, binding: type[Binding]) -> JSONObject:
    """Serialize like a project that does not consider JavaScript."""
    return {"serial": instance.serial, "list": [LARGE], "document": {"raw": LARGE}, "code": instance.code}


def test_large_keys_of_a_projects_serializer_are_exact(settings):
    """Values and items of lists are exact. The contents of a document are up to the project."""
    settings.DECLBIND = {"SERIALIZERS": {"numbers": f"{__name__}.send_numbers"}}
    with override_bindings(record(Coin, serializer="numbers")), capture_events() as events:
        Coin.objects.create(code="a", serial=LARGE)
    expected = {"serial": str(LARGE), "list": [str(LARGE)], "document": {"raw": LARGE}, "code": "a"}
    assert events[0].data == expected


def test_large_keys_in_members_and_payloads_are_exact():
    """Additional members of a class are exact, and so is the key in a payload that it makes."""

    class Coins(WebsocketBinding):
        model = BigKey
        stream = "coins"
        fields = ["label"]
        send_members = ["get_twice"]

        def serialize(self, instance: AnyRow, action: str) -> dict[str, object]:
            return {**super().serialize(instance, action), "more": 1}

    with (
        patch.object(BigKey, "get_twice", lambda row: row.pk * 2, create=True),
        override_bindings(Coins),
        capture_events() as events,
    ):
        BigKey.objects.create(pk=LARGE)
    payload = events[0].data["create"]
    assert isinstance(payload, dict)
    assert (payload["pk"], payload["data"]["get_twice"], payload["more"]) == (str(LARGE), str(LARGE * 2), 1)


def test_a_value_of_an_unknown_class_is_sent_as_text(monkeypatch):
    """No encoder knows the value, but its field can write it as text."""

    class Money:
        def __str__(self) -> str:
            return "5 EUR"

    row = TextKey(code="a")
    vars(row)["label"] = Money()
    assert default.field_value(row, TextKey._meta.get_field("label")) == "5 EUR"


# Composite keys and relations without a column ------------------------------------------------------------------------


def test_a_model_with_a_composite_key_is_refused():
    """A key in a frame is one value; a record and a class get an error, and nothing else breaks."""
    text = "expected a model with one primary key column, got zoo.Seat with a composite one."
    _, [problem] = validate_document({"stream": "seats", "model": "zoo.Seat", "fields": ["row"]})
    assert (problem.path, problem.message) == ("$.model", f"Binding 'seats': {text}")

    class Seats(WebsocketBinding):
        model = Seat
        stream = "seats"
        fields = ["row"]

    with pytest.raises(ConfigError, match=text), override_bindings(Seats):
        pass
    with override_bindings(record(Coin)), capture_events() as events:
        seat = Seat.objects.create(row=1, number=2)
        seat.save()
        Seat.objects.bulk_create([Seat(row=2, number=2)])
        Seat.objects.filter(row=2).update(number=3)
        Seat.objects.filter(row=2).delete()
        seat.delete()
    assert events == []


def test_a_list_may_have_through_rows_with_composite_keys():
    """Only the rows at their ends matter."""
    coins = [Coin.objects.create(code=str(number), serial=number) for number in range(3)]
    hall = Hall.objects.create(name="A")
    with override_bindings(record(Hall)), capture_events() as events:
        hall.guests.add(*coins[:2])
        ticket = Ticket.objects.create(hall=hall, guest=coins[2])
        ticket.delete()
        hall.guests.remove(coins[0])
        Ticket.objects.filter(hall=hall).delete()
        Ticket.objects.bulk_create([Ticket(hall=hall, guest=coins[0])])
        hall.guests.clear()
    keys = [coin.pk for coin in coins]
    assert [event.data["guests"] for event in events] == [keys[:2], keys, keys[:2], [keys[1]], [], [keys[0]], []]


def test_the_column_of_order_with_respect_to_is_sent():
    """Clients cannot write it."""
    order = Order.objects.create(name="A")
    client = connect(record(Line))
    with override_bindings(client.binding), capture_events() as events:
        first, second = (Line.objects.create(order=order) for _ in range(2))
        order.set_line_order([second.pk, first.pk])  # type: ignore[attr-defined]
        pk = client.send("create", data={"order": order.pk, "number": 3})["pk"]
        assert client.refused("update", pk, {"_order": 0}).code == "invalid"
    places = [(event.pk, event.data["_order"]) for event in events]
    assert places[:2] == [(first.pk, 0), (second.pk, 1)]
    assert sorted(places[2:4]) == [(first.pk, 1), (second.pk, 0)]
    assert places[4] == (pk, 2)


def test_a_relation_without_a_column_is_left_out():
    """``ForeignObject`` is a view of another column, which is sent."""
    order, coin = Order.objects.create(name="A"), Coin.objects.create(code="a", serial=LARGE)
    client = connect(record(Line))
    with override_bindings(client.binding), capture_events() as events:
        line = Line.objects.create(order=order, coin_serial=coin.serial)
        client.send("update", line.pk, {"coin_serial": None})
    assert [event.data.get("coin_serial") for event in events] == [str(LARGE), None]
    assert "coin" not in events[0].data
    _, [problem] = validate_document(record(Line, fields=["coin"]))
    assert "is not a column of the row but a ForeignObject" in problem.message
