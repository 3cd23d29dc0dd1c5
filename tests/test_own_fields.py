"""Fields of packages and projects: their values in frames, keys, groups, `where` and `scope`."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from declbind.core.errors import ClientError
from declbind.core.spec import BindingSpec
from declbind.fields import bound_fields
from declbind.inbound.conditions import is_same_json
from declbind.live.grants import check_subscriber
from declbind.live.snapshots import read_snapshot, select_rows
from declbind.models import Traffic
from declbind.outbound import drafts
from declbind.record_validation import validate_document
from declbind.record_warnings import find_warnings
from declbind.serializers import encode_value
from declbind.testing import capture_events, override_bindings
from tests.factories import UserFactory
from tests.zoo.clients import OPEN, connect
from tests.zoo.own_fields import (
    Colour,
    MuteValues,
    Odd,
    OwnEquality,
    OwnValues,
    Parcelled,
    Size,
    Tag,
    Tagged,
    TaggedLink,
)

pytestmark = pytest.mark.django_db

VALUES = {"stream": "own", "model": "zoo.OwnValues", "fields": "__all__", "permissions": OPEN}
#: Values of each column, with their JSON.
SENT: list[tuple[str, object, object]] = [
    ("tag", Tag(5), "t-5"),
    ("colour", Colour.RED, "r"),
    ("words", frozenset({"b", "a"}), "a,b"),
    ("size", Size(3), {"width": 3}),
    ("sets", {"x": {1, 2}}, {"x": [1, 2]}),
]


def subscribed_rows(binding, sent, user=None) -> set[object]:
    """Return the keys of the rows in a new snapshot."""
    bound = connect(binding, user).binding(user=user, using="default")
    _, params = check_subscriber(bound, sent)
    return {row.pk for row in select_rows(bound, params)}


@pytest.mark.parametrize(("name", "value", "sent"), SENT, ids=[name for name, *_ in SENT])
def test_a_value_is_sent_in_the_form_of_its_field(name, value, sent):
    """This holds in an event, in a snapshot, and for the expected value of a condition."""
    with override_bindings(VALUES), capture_events() as events:
        row = OwnValues.objects.create(**{name: value})
    assert [event.data[name] for event in events] == [sent]
    client = connect(VALUES)
    bound = client.binding(using="default")
    assert is_same_json(bound.serialize_data(OwnValues.objects.get())[name], sent)
    assert client.send("update", row.pk, {"tag": "t-7"}, condition={name: sent})
    assert OwnValues.objects.get().tag == Tag(7)


@pytest.mark.parametrize("name", ["tag", "colour", "words"])
def test_a_value_can_be_in_a_group_and_in_where(name):
    """The row's group contains the sent value, and `where` agrees in memory and in a query."""
    value, sent = next((value, sent) for known, value, sent in SENT if known == name)
    binding = {**VALUES, "groups": [f"of-{{{name}}}"], "where": {name: sent}}
    bound = connect(binding).binding(using="default")
    group, params = check_subscriber(bound, {name: sent})
    with override_bindings(binding), capture_events() as events:
        row = OwnValues.objects.create(**{name: value})
        OwnValues.objects.create()
    assert [event.changes for event in events] == [[(group, "create")]]
    assert list(select_rows(bound, params)) == [row]


def test_a_key_is_sent_and_identifies_the_row():
    """A primary key, a foreign key and a list of keys are converted by the key's field in both directions."""
    binding = {"stream": "tagged", "model": "zoo.Tagged", "fields": ["name"], "permissions": OPEN}
    with override_bindings(binding), capture_events() as events:
        row = Tagged.objects.create(name="x")
        stored = Tagged.objects.get()
        stored.delete()
    assert [event.pk for event in events] == [str(row.pk)] * 2
    client = connect(binding)
    created = client.send("create", None, {"name": "y"})
    assert client.send("update", created["pk"], {"name": "z"}) == created
    links = {"stream": "links", "model": "zoo.TaggedLink", "fields": ["tagged", "several"], "permissions": OPEN}
    links = {**links, "groups": ["of-{tagged_id}"]}
    target = Tagged.objects.get()
    with override_bindings(links), capture_events() as events:
        link = TaggedLink.objects.create(tagged=target)
        link.several.add(target)
    key = str(target.pk)
    assert [event.data for event in events] == [{"tagged": key, "several": []}, {"tagged": key, "several": [key]}]
    assert {group for event in events for group, _ in event.changes} == {f"of-{key}"}
    assert connect(links).send("update", link.pk, {"tagged": key, "several": [key]})
    assert subscribed_rows(links, {"tagged_id": key}) == {link.pk}


MUTE = {"stream": "mute", "model": "zoo.MuteValues", "fields": ["mute"], "permissions": OPEN}


def check_that_no_change_is_silent():
    with override_bindings(MUTE), capture_events() as events:
        row = MuteValues.objects.create(name="x", mute=11)
        MuteValues.objects.filter(pk=row.pk).update(mute=12)
        MuteValues.objects.bulk_create([MuteValues(name="y", mute=11)])
        row.delete()
    assert [(event.kind, event.changes) for event in events] == [("bulk", [("mute", "resync")])] * 4
    faults = Traffic.objects.filter(stream="mute", kind=Traffic.ERROR)
    assert faults.count() == 4
    assert all("mute" in fault.message for fault in faults)


def test_a_value_that_cannot_be_converted_is_a_resync():
    """The groups of the row are resynced, and the binding's page has the reason."""
    check_that_no_change_is_silent()


def test_a_missing_resync_would_be_caught(monkeypatch):
    """Negative control: the fault is recorded, and nothing is sent."""
    monkeypatch.setattr(drafts, "_draft_resync", lambda plan, outlet, *groups: [])
    with pytest.raises(AssertionError):
        check_that_no_change_is_silent()


# --- equality ---------------------------------------------------------------------------------------------------------


EQUAL = {"stream": "equal", "model": "zoo.OwnEquality", "fields": "__all__", "permissions": OPEN}
CONFIGURATIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"groups": [f"of-{{{name}}}"]}, {name: "Ada"}) for name in ("address", "nick", "folded")),
    *(({"where": {name: "Ada"}}, {}) for name in ("address", "nick", "folded")),
    *(
        ({"groups": [f"of-{{{name}}}"], "scope": {name: "$user.username"}}, {})
        for name in ("address", "nick", "folded")
    ),
    *(({"groups": ["of-{info}"]}, {"info": value}) for value in (5, "5", 5.0, True, 1, "true", 0.5)),
    *(({"where": {"info": value}}, {}) for value in (5, "5", True, 1, "", [1, "1"])),
]
TEXTS = ("Ada", "ada", "ADA", "Ada ", "Bob")
DOCUMENTS: tuple[object, ...] = (5, "5", 5.0, True, 1, 1.0, "true", False, 0.5, {"a": 5}, [5], "", {})


def check_that_live_rows_are_those_of_a_snapshot(extra, sent):
    user = UserFactory.create(username="Ada")
    binding = {**EQUAL, **extra}
    bound = connect(binding, user).binding(user=user, using="default")
    group, _ = check_subscriber(bound, sent)
    with override_bindings(binding), capture_events() as events:
        for text in TEXTS:
            OwnEquality.objects.create(address=text, nick=text, folded=text, info=text)
        for document in DOCUMENTS:
            OwnEquality.objects.create(info=document)
    live = {event.pk for event in events if (group, "create") in event.changes}
    assert live == subscribed_rows(binding, sent, user)
    assert live


@pytest.mark.parametrize(("extra", "sent"), CONFIGURATIONS)
def test_events_and_snapshots_agree_on_the_rows(extra, sent):
    """This holds whatever the collation, `get_prep_value` or lookup of a column."""
    check_that_live_rows_are_those_of_a_snapshot(extra, sent)


@pytest.mark.parametrize("name", [*(["address"] if connection.vendor == "sqlite" else []), "folded"])
def test_plain_comparison_would_be_caught(monkeypatch, name):
    """Negative control: the query that Django builds by default."""

    def only_equal(rows, values):
        return rows.filter(**values)

    monkeypatch.setattr("declbind.live.snapshots.only_equal", only_equal)
    with pytest.raises(AssertionError):
        check_that_live_rows_are_those_of_a_snapshot({"groups": [f"of-{{{name}}}"]}, {name: "Ada"})


def test_a_scope_is_compared_as_it_is_stored():
    """If the column treats two spellings as equal, the user's own value in another spelling is in the scope."""
    user = UserFactory.create(username="Ada")
    binding = {**EQUAL, "scope": {"nick": "$user.username"}, "groups": ["of-{nick}"]}
    client = connect(binding, user)
    created = client.send("create", None, {"address": "x", "nick": "ADA", "info": 1})
    assert OwnEquality.objects.get(pk=created["pk"]).nick == "ada"
    assert client.send("update", created["pk"], {"nick": "ada"}) == created
    assert client.refused("update", created["pk"], {"nick": "bob"}).code == "invalid"
    assert subscribed_rows(binding, {"nick": "aDa"}, user) == {created["pk"]}
    with pytest.raises(ClientError):
        subscribed_rows(binding, {"nick": "bob"}, user)


def test_documents_that_differ_by_type_have_groups_of_their_own():
    """A number, its text and `true` differ. A whole number and the equal float do not."""
    client = connect({**EQUAL, "groups": ["of-{info}"]})
    names = [
        check_subscriber(client.binding(using="default"), {"info": value})[0] for value in (1, 1.0, "1", True, "true")
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 4


def test_a_snapshot_of_own_keys_can_be_read():
    """The page has the keys in the form of their field."""
    row = Tagged.objects.create(name="x")
    bound = connect({"stream": "t", "model": "zoo.Tagged", "fields": ["name"], "permissions": OPEN}).binding(
        using="default"
    )
    assert read_snapshot(bound, "t", {}, "default").pages == [[(f'"{row.pk}"', '{"name":"x"}')]]


# --- what clients write -----------------------------------------------------------------------------------------------


PARCELS = {"stream": "parcels", "model": "zoo.Parcelled", "fields": "__all__", "permissions": OPEN}


@pytest.fixture
def parcel():
    return Parcelled.objects.get(pk=Parcelled.objects.create().pk)


@pytest.mark.parametrize("name", ["words", "plain_list", "amount", "refusing"])
def test_a_value_from_a_frame_can_be_written_back(parcel, name):
    """This holds in an update and in a create."""
    client = connect(PARCELS)
    stored = Parcelled.objects.get()
    data = client.binding(using="default").serialize_data(stored)
    sent = json.loads(encode_value(data))
    assert client.send("update", parcel.pk, {name: sent[name]})
    created = client.send("create", None, {name: sent[name]})
    for row in Parcelled.objects.filter(pk__in=[parcel.pk, created["pk"]]):
        assert getattr(row, name) == getattr(stored, name)


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("words", ["s", "l"], ["s", "l"]),
        ("words", "s,l", ["s", "l"]),
        ("plain_list", ["l"], ["l"]),
        ("amount", "2.50", Decimal("2.50")),
        ("amount", 3, Decimal("3.00")),
        ("amount", ["4.00", "kg"], Decimal("4.00")),
    ],
)
def test_values_of_several_parts_are_stored(parcel, name, value, stored):
    """They are accepted as a list, and in the text form of the field."""
    assert connect(PARCELS).send("update", parcel.pk, {name: value})
    assert getattr(Parcelled.objects.get(), name) == stored


#: Values that a form, a field or a setter refuses, by column.
UNFIT: dict[str, list[object]] = {
    "words": [["x"], "x", [1], [{}], {"a": 1}, [["s"]], 5, True],
    "plain_list": [["x"], [1], {"s": "l"}, [None], [[]]],
    "amount": ["x", ["1"], ["x", "kg"], [], {"amount": "1"}, True, "12345.678", None],
    "refusing": ["value", "type", "invalid", "zero", ["a"], {"a": 1}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in UNFIT.items() for value in values])
def test_a_refused_value_is_invalid(parcel, name, value):
    """A form, a field or a setter may refuse the value. Nothing is stored, and the answer names the field."""
    client = connect(PARCELS)
    for error in (client.refused("update", parcel.pk, {name: value}), client.refused("create", None, {name: value})):
        assert error.code == "invalid"
        assert set(error.fields) == {name}
    assert getattr(Parcelled.objects.get(), name) == getattr(parcel, name)


def test_a_value_of_several_parts_does_not_write_a_closed_column(parcel):
    """The unit is not writable, so a pair must not change it."""
    error = connect(PARCELS).refused("update", parcel.pk, {"amount": ["4.00", "lb"]})
    assert (error.code, set(error.fields)) == ("invalid", {"amount"})
    assert Parcelled.objects.get().unit == "kg"


def test_columns_that_their_field_fills_are_stored_too(parcel):
    """A client's write increments a version that `pre_save` counts."""
    connect(PARCELS).send("update", parcel.pk, {"refusing": "a"})
    assert Parcelled.objects.get().saves == parcel.saves + 1


# --- what a record may ask of a field ---------------------------------------------------------------------------------


ODD = {"stream": "odd", "model": "zoo.Odd", "fields": ["blurred"]}
REFUSED_RECORDS: dict[str, tuple[dict[str, object], str, str]] = {
    "a value without a form": ({**ODD, "fields": ["mute"]}, "$.fields[0]", "have no JSON form"),
    "all of them": ({**ODD, "fields": "__all__"}, "$.fields", "have no JSON form"),
    "but some": ({**ODD, "fields": None, "exclude": ["size"]}, "$.exclude", "have no JSON form"),
    "a document as key": (
        {**ODD, "model": "zoo.DocumentKey", "fields": ["name"]},
        "$.model",
        "names a row by one value",
    ),
    "a group by what is read alike": ({**ODD, "groups": ["b-{blurred}"]}, "$.groups[0]", "different column values"),
    "where it is read alike": ({**ODD, "where": {"blurred": "a"}}, "$.where.blurred", "different column values"),
    "a scope over it": (
        {**ODD, "groups": ["b-{blurred}"], "scope": {"blurred": "$user.username"}},
        "$.scope.blurred",
        "different column values",
    ),
    "a group by what is encrypted": ({**ODD, "groups": ["s-{sealed}"]}, "$.groups[0]", "differently each time"),
    "where it is encrypted": ({**ODD, "where": {"sealed": "a"}}, "$.where.sealed", "differently each time"),
    "a group that nobody can name": ({**ODD, "groups": ["o-{one_way}"]}, "$.groups[0]", "cannot compare the values"),
    "a group by a document": ({**ODD, "groups": ["d-{size}"]}, "$.groups[0]", "holds documents of a class of its own"),
}


@pytest.mark.parametrize(("record", "path", "reason"), REFUSED_RECORDS.values(), ids=REFUSED_RECORDS)
def test_a_key_that_a_field_does_not_support_is_refused(record, path, reason):
    """The record is refused with the place and the reason, before any event is lost."""
    _, problems = validate_document({key: value for key, value in record.items() if value is not None})
    assert reason in {problem.path: str(problem) for problem in problems}[path]


ACCEPTED = [VALUES, EQUAL, PARCELS, {**VALUES, "groups": ["t-{tag}"], "where": {"colour": "r"}}]


@pytest.mark.parametrize("record", ACCEPTED)
def test_fields_that_support_a_key_are_accepted(record):
    """A sample value that a field does not understand is no reason to refuse it."""
    assert validate_document(record)[1] == []


@pytest.mark.parametrize("value", [30, "r ", "x", True, [1]])
def test_values_in_where_are_validated_with_the_record(value):
    """A value that the binding could not use is refused in the record, not when the binding is built."""
    record = {**VALUES, "where": {"colour": value}}
    assert [problem.path.partition("[")[0] for problem in validate_document(record)[1]] == ["$.where.colour"]


def warned(record: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in find_warnings(BindingSpec.from_dict(record))]


def test_encrypted_columns_are_not_sent_by_accident():
    """They are left out unless they are named, and both cases are reported."""
    spec = BindingSpec.from_dict({**ODD, "fields": "__all__"})
    assert "sealed" not in {field.name for field in bound_fields(Odd, spec)}
    [left_out] = [str(found) for found in find_warnings(spec) if "sealed" in str(found)]
    assert "therefore not sent" in left_out
    [sent] = warned({**ODD, "fields": ["sealed"]})
    assert sent.startswith("$.fields[0]")
    assert "kept in the event log, in clear text" in sent
    assert warned({"stream": "odd", "model": "zoo.Odd", "exclude": ["sealed"]}) == []


def test_warns_of_rows_that_only_the_default_manager_hides():
    """There is no warning if `where` excludes these rows."""
    record = {"stream": "r", "model": "zoo.Removable", "fields": ["name", "removed"]}
    [text] = warned(record)
    assert text.startswith("$.model")
    assert "hides rows by 'removed'" in text
    assert warned({**record, "where": {"removed": False}}) == []
    assert warned(EQUAL) == []


def test_numbers_in_where_are_compared_as_the_column_does():
    """`2.0` equals the whole number, and no row equals a fraction. Records with either are valid."""
    rows = [OwnValues.objects.create() for _ in range(3)]
    one, two, _ = (row.pk for row in rows)
    record = {**VALUES, "where": {"id": [one, float(two), two + 0.5]}}
    assert validate_document(record)[1] == []
    bound = connect(record).binding(using="default")
    assert {row.pk for row in bound.get_queryset()} == {one, two}
    assert [bound.is_inside(row) for row in rows] == [True, True, False]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="The type is PostgreSQL's own.")
@pytest.mark.parametrize(
    ("extra", "sent"), [({"groups": ["of-{address}"]}, {"address": "Ada"}), ({"where": {"address": "Ada"}}, {})]
)
def test_a_column_may_ignore_case_unknown_to_its_model(extra, sent):
    """A table altered by hand has a `citext` column, whose comparison ignores collations too."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS citext")
        cursor.execute("ALTER TABLE zoo_ownequality ALTER COLUMN address TYPE citext")
    assert OwnEquality.objects.create(address="ADA") in OwnEquality.objects.filter(address="ada")
    check_that_live_rows_are_those_of_a_snapshot(extra, sent)
