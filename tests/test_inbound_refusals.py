"""Refusals: data of clients is validated as by a form, and the errors have texts."""

from __future__ import annotations

import pytest

from declbind.core.errors import ClientError
from declbind.core.frames import Request
from declbind.inbound import writes
from tests.factories import AnimalFactory, FoodFactory, SampleFactory, UserFactory
from tests.zoo.clients import OPEN, connect
from tests.zoo.models import Animal, Cage, Food, Sample, Strict

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"legs": 3}, {"name": ["This field is required."]}),
        ({"name": None}, {"name": ["This field cannot be null."]}),
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"name": "   "}, {"name": ["This field is required."]}),
        ({"name": "a" * 51}, {"name": ["Ensure this value has at most 50 characters (it has 51)."]}),
        ({"name": "a", "legs": "x"}, {"legs": ["Enter a whole number."]}),
        ({"name": "a", "legs": 1.5}, {"legs": ["Expected a whole number, got 1.5."]}),
        ({"name": "a", "legs": True}, {"legs": ["Expected a whole number, got true or false."]}),
        ({"name": "a", "weight": -1}, {"weight": ["Ensure this value is greater than or equal to 0.0."]}),
        ({"name": "a", "kind": "fish", "legs": 2}, {"legs": ["A fish has no legs."]}),
        ({"name": "a", "kind": "fish"}, {"legs": ["A fish has no legs."]}),
        ({"name": "a", "kind": "cow"}, {"kind": ["Select a valid choice. cow is not one of the available choices."]}),
        ({"name": "a", "legs": 1001}, {}),
        ({"name": "Taken", "kind": "bird"}, {}),
        ({"name": "Taken"}, {}),
        ({"name": "a", "nonsense": 1}, {"nonsense": ["This field cannot be written here."]}),
        ({"name": "a", "slug": "x"}, {"slug": ["This field cannot be written here."]}),
        ({"name": "a", "owner": 1}, {"owner": ["This field cannot be written here."]}),
        ({"name": "a\0"}, {"name": ["Expected text without NUL and surrogates."]}),
        ({"name": "\ud800"}, {"name": ["Expected text without NUL and surrogates."]}),
    ],
)
def test_a_create_is_validated_like_a_form(data, fields):
    """Fields, ``clean``, uniqueness and constraints are validated. Each error is under its field; nothing is stored."""
    AnimalFactory.create(name="Taken")
    error = connect().refused("create", data=data)
    assert (error.code, error.fields) == ("invalid", fields)
    assert error.message
    assert Animal.objects.count() == 1


def test_an_update_validates_the_whole_row():
    """A unique pair and a rule over two fields hold even if only one of the fields is sent."""
    AnimalFactory.create(name="Taken", kind="bird")
    row = AnimalFactory.create(name="Free", kind="bird", legs=2)
    client = connect()
    assert client.refused("update", row.pk, {"name": "Taken"}).code == "invalid"
    assert client.refused("update", row.pk, {"kind": "fish"}).fields == {"legs": ["A fish has no legs."]}
    client.send("update", row.pk, {"kind": "fish", "legs": 0})


def test_an_old_invalid_value_does_not_prevent_an_update():
    """Only the sent fields are validated by their validators."""
    row = AnimalFactory.create(weight=-5.0)
    connect().send("update", row.pk, {"name": "Bea"})
    row.refresh_from_db()
    assert (row.name, row.weight) == ("Bea", -5.0)


def test_a_rule_about_an_unsent_field_does_not_raise():
    """A form would raise ValueError for an error under a field that it does not have."""
    row = AnimalFactory.create(status="lost")
    error = connect().refused("update", row.pk, {"name": "Bea"})
    assert (error.code, error.message, error.fields) == ("invalid", "Nobody can lose this one.", {})


def test_required_values_without_defaults():
    """Booleans and lists are required too: a missing value is neither false nor an empty list."""
    client = connect({"stream": "s", "model": "zoo.Strict", "fields": ["__all__"], "permissions": OPEN})
    required = ["This field is required."]
    assert client.refused("create", data={}).fields == dict.fromkeys(("title", "number", "flag", "foods"), required)
    data = {"title": "a", "number": 0, "flag": False, "foods": [FoodFactory.create().pk]}
    assert client.refused("create", data={**data, "foods": []}).fields == {"foods": required}
    assert client.refused("create", data={**data, "flag": None}).fields == {"flag": ["This field cannot be null."]}
    client.send("create", data=data)
    assert Strict.objects.get().flag is False


def test_null_clears_a_nullable_field():
    """A form requires a value for null=True without blank=True, but a null in JSON is intentional."""
    row = SampleFactory.create(required_null=5, text="a", extra={"a": 1}, ratio=1.5)
    client = connect({"stream": "s", "model": "zoo.Sample", "fields": ["__all__"], "permissions": OPEN})
    client.send("update", row.pk, {"required_null": None, "text": None, "extra": None, "ratio": None})
    row.refresh_from_db()
    assert (row.required_null, row.text, row.extra, row.ratio) == (None, None, None, None)


def test_values_arrive_in_the_database_as_they_were_sent():
    """JSON stays JSON through the database, text that looks like JSON stays text, bytes come as base64."""
    client = connect({"stream": "s", "model": "zoo.Sample", "fields": ["__all__"], "permissions": OPEN})
    sent = {
        "info": '{"a": 1}',
        "extra": [1, {"b": None}],
        "blob": "AAEC",
        "flag": True,
        "moment": "2020-01-01T10:00:00Z",
    }
    pk = client.send("create", data=sent)["pk"]
    row = Sample.objects.get(pk=pk)
    assert (row.info, row.extra, row.flag) == ('{"a": 1}', [1, {"b": None}], True)
    assert bytes(row.blob or b"") == b"\0\x01\x02"
    assert row.moment is not None
    assert row.moment.isoformat() == "2020-01-01T10:00:00+00:00"
    assert client.refused("update", pk, {"info": {"deep": [{"x": "a\0b"}]}}).fields.keys() == {"info"}
    assert client.refused("update", pk, {"upload": "/etc/passwd"}).fields == {"upload": ["Files cannot be sent here."]}


@pytest.mark.parametrize(
    "pk", [None, True, False, 1.5, 2**63, 10**400, -1, "", "x", "1\0", "\ud800", "1 OR 1=1", [1], {"pk": 1}, "9" * 5000]
)
@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_key_that_no_row_has_is_not_found(action, pk):
    """For any pk the answer is the same, and ``true`` does not mean row 1."""
    row = AnimalFactory.create(pk=1)
    assert connect().refused(action, pk, {"name": "Bea"} if action == "update" else None).code == "not_found"
    row.refresh_from_db()
    assert row.name != "Bea"


@pytest.mark.parametrize("data", [[], "x", 5, True, [["name", "x"]]])
@pytest.mark.parametrize("action", ["create", "update"])
def test_data_that_is_no_object_is_invalid(action, data):
    """The form of the data is checked even without the parser."""
    row = AnimalFactory.create()
    client = connect()
    request = Request("animals", action, {"action": action, "pk": row.pk, "data": data}, pk=row.pk)
    with pytest.raises(ClientError) as caught:
        writes.handle(request, client.binding, client.identity)
    assert caught.value.code == "invalid"


def test_names_that_cannot_be_encoded_are_not_repeated_in_the_answer():
    """A name with a lone surrogate could not be sent back."""
    assert connect().refused("create", data={"\ud800": 1}).code == "invalid"


def test_a_protected_row_is_not_deleted():
    """The answer is a conflict, not a fault of the server."""
    cage = Cage.objects.create(animal=AnimalFactory.create())
    assert connect().refused("delete", cage.animal_id).code == "conflict"
    assert Animal.objects.exists()


@pytest.mark.parametrize(("direction", "code"), [("outbound", "closed_direction"), ("inbound", None)])
def test_a_closed_direction_refuses(direction, code):
    """An outbound binding accepts no write from any user."""
    root = UserFactory.create(is_superuser=True)
    client = connect(direction=direction, user=root)
    row = AnimalFactory.create()
    for action, pk, data in [
        ("create", None, {"name": "a"}),
        ("update", row.pk, {"name": "b"}),
        ("delete", row.pk, None),
    ]:
        if code is None:
            client.send(action, pk, data)
        else:
            assert client.refused(action, pk, data).code == code


@pytest.mark.parametrize(
    "scene",
    [
        {"action": "create", "data": {"name": "a", "foods": ["x" * 5000]}},
        {"action": "create", "data": {"name": {"a": {"b": []}}}},
        {"action": "create", "data": {"foods": {"a": 1}, "name": "a"}},
        {"action": "create", "data": {"name": "a", "keeper": {"$ne": None}}},
        {"action": "create", "data": {"name": "a", "keeper__name": "x"}},
        {"action": "create", "data": {"name__startswith": "a"}},
        {"action": "create", "data": {"__class__": "x", "name": "a"}},
        {"action": "update", "data": {"pk": 5}},
        {"action": "update", "data": {"id": 5}},
        {"action": "update", "data": {"weight": 10**400}},
        {"action": "update", "data": {"legs": -(10**30)}},
    ],
)
def test_hostile_requests_are_invalid(scene):
    """Structures, lookups, keys and numbers beyond all columns: each is refused by name."""
    row = AnimalFactory.create()
    error = connect().refused(scene["action"], row.pk, scene["data"])
    assert error.code == "invalid"
    assert set(error.fields) <= set(scene["data"])
    assert error.fields
    assert Animal.objects.count() == 1
    assert Food.objects.count() == 0
