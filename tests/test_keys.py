"""Keys of rows and relations, of every type: in frames, in requests and in groups."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import pre_save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from declbind.console.visibility import subscriptions_to
from declbind.core.errors import ClientError
from declbind.live.grants import check_subscriber
from declbind.live.snapshots import select_rows
from declbind.serializers import encode_key
from declbind.serializers.exact import MAX_EXACT
from declbind.testing import CapturedEvent, capture_events, override_bindings
from tests.json_types import JSONObject
from tests.zoo.clients import OPEN, Client, connect
from tests.zoo.columns import (
    AutoKey,
    BigAutoKey,
    BigKey,
    BinaryKey,
    Coin,
    DecimalKey,
    MomentKey,
    OneToOneKey,
    Related,
    SmallAutoKey,
    TextKey,
    UuidKey,
)

pytestmark = pytest.mark.django_db
FEWER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
MOMENT = dt.datetime(2024, 2, 29, 12, 0, 0, 123456, dt.UTC)
#: An id of 64 bits, such as Twitter's first, and similar ones: a JavaScript number would be off by one.
LARGE = 2**53 + 1


@dataclass(frozen=True)
class Key:
    """A row's key, its JSON, and other forms that a client may send for it."""

    model: Any
    value: Any
    sent: object
    accepted: tuple[object, ...] = ()


ODD_TEXTS = (
    "a b",
    "é/ü?#",
    "😀",
    "a.b-c_d",
    "..",
    ".",
    " ",
    "{x}",
    '"\\',
    "\t\n",
    "0",
    "null",
    "a" * 100,
    "Z" + "é" * 99,
)
KEYS = [
    *(Key(model, 7, 7, ("7", "07")) for model in (AutoKey, BigAutoKey, SmallAutoKey, BigKey)),
    *(
        Key(model, number, str(number), (number,))
        for model in (BigAutoKey, BigKey)
        for number in (LARGE, MAX_EXACT + 1, 2**63 - 1, -LARGE, -(2**63))
    ),
    *(Key(BigKey, number, number, (str(number),)) for number in (MAX_EXACT, -MAX_EXACT, 0)),
    Key(UuidKey, uuid.UUID(int=5), str(uuid.UUID(int=5)), (uuid.UUID(int=5).hex,)),
    *(Key(TextKey, text, text) for text in ODD_TEXTS),
    Key(DecimalKey, Decimal("1.5"), "1.500", ("1.5", 1.5)),
    Key(DecimalKey, Decimal("123456789.001"), "123456789.001"),
    Key(MomentKey, MOMENT, "2024-02-29T12:00:00.123456+00:00", ("2024-02-29T12:00:00.123456Z",)),
    Key(BinaryKey, b"\x00\xff", "AP8="),
]
each_key = pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.model.__name__}-{key.value!r:.30}")


def record(model: Any, **keys: object) -> JSONObject:
    return {"stream": "keys", "model": model._meta.label, "fields": "__all__", "permissions": OPEN, **keys}


def find_group(client: Client, params: JSONObject) -> tuple[str, list[object]]:
    """Return the group that a subscription's params name, and the keys of the rows in its snapshot."""
    bound = client.binding(using="default")
    group, values = check_subscriber(bound, json.loads(json.dumps(params)))
    return group, [row.pk for row in select_rows(bound, values)]


def groups_of(events: Sequence[CapturedEvent]) -> list[str]:
    return [group for group, _ in events[-1].changes]


# Keys of the row ------------------------------------------------------------------------------------------------------


@each_key
def test_a_key_is_sent_and_identifies_the_row(key):
    """Each write sends it in one form, and a client finds the row with that form or another."""
    client = connect(record(key.model))
    with override_bindings(client.binding), capture_events() as events:
        row = key.model.objects.create(pk=key.value)
        row.label = "a"
        row.save()
        key.model.objects.filter(pk=key.value).update(label="b")
        for number, pk in enumerate((key.sent, *key.accepted)):
            assert client.send("update", pk, {"label": f"c{number}"}) == {"pk": key.sent}
            assert key.model.objects.get(pk=key.value).label == f"c{number}"
        client.send("delete", key.sent)
    assert not key.model.objects.exists()
    assert [event.pk for event in events] == [key.sent] * (5 + len(key.accepted))
    assert all(type(event.pk) is type(key.sent) for event in events)


@each_key
def test_a_key_identifies_a_group(key):
    """Every form of its key finds the group of one row, whose snapshot is that row."""
    name = key.model._meta.pk.name
    client = connect(record(key.model, groups=[f"row-{{{name}}}"]))
    with override_bindings(client.binding), capture_events() as events:
        key.model.objects.create(pk=key.value)
        stored = key.model.objects.get()
        stored.save()
    groups = [event.changes for event in events]
    assert groups[0] == [(groups[1][0][0], "create")]
    for pk in (key.sent, *key.accepted):
        assert find_group(client, {name: pk}) == (groups[0][0][0], [stored.pk])
    [(_, params)] = subscriptions_to(client.binding(using="default"), stored, groups_of(events))
    assert params is not None
    assert find_group(client, params) == (groups[0][0][0], [stored.pk])


def test_a_large_key_made_by_the_server_is_exact():
    """The reply to a create identifies the row as frames do."""
    client = connect(record(BigAutoKey))

    def give_key(sender: object, instance: Model, **kwargs: object) -> None:
        instance.pk = LARGE

    pre_save.connect(give_key, sender=BigAutoKey)
    try:
        with override_bindings(client.binding), capture_events() as events:
            reply = client.send("create", data={"label": "a"})
    finally:
        pre_save.disconnect(give_key, sender=BigAutoKey)
    assert reply == {"pk": str(LARGE)}
    assert [event.pk for event in events] == [str(LARGE)]


@FEWER
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100))
def test_random_texts_identify_their_rows(text):
    """Any text that a database accepts identifies its row, and no two share a group."""
    with transaction.atomic():
        test_a_key_is_sent_and_identifies_the_row(Key(TextKey, text, text))
        test_a_key_identifies_a_group(Key(TextKey, text, text))
        transaction.set_rollback(True)


@FEWER
@given(st.integers(-(2**63), 2**63 - 1) | st.integers(MAX_EXACT - 2, MAX_EXACT + 3))
def test_random_integers_identify_their_rows(number):
    """The sent form is exact when JavaScript reads it."""
    read = json.loads(encode_key(number), parse_int=float)
    assert int(read) == number
    with transaction.atomic():
        key = Key(BigKey, number, json.loads(encode_key(number)), (number, str(number)))
        test_a_key_is_sent_and_identifies_the_row(key)
        test_a_key_identifies_a_group(key)
        transaction.set_rollback(True)


def test_integers_sent_as_numbers_are_detected(monkeypatch):
    """Negative control: without the rule, the key that JavaScript read belongs to another row."""
    monkeypatch.setattr("declbind.outbound.drafts.encode_key", str)
    with override_bindings(record(BigKey)), capture_events() as events:
        BigKey.objects.create(pk=LARGE)
    assert int(float(str(events[0].pk))) != LARGE


# Relations ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def related() -> JSONObject:
    """Store a row as the target of each relation, and return what is sent for it."""
    Coin.objects.create(pk=3, code="é/1 .", serial=LARGE)
    TextKey.objects.create(pk="a b.c")
    UuidKey.objects.create(pk=uuid.UUID(int=9))
    big = BigKey.objects.create(pk=-LARGE)
    MomentKey.objects.create(pk=MOMENT)
    OneToOneKey.objects.create(owner=big)
    return {
        "coin": "é/1 .",
        "serial": str(LARGE),
        "text": "a b.c",
        "uuid": str(uuid.UUID(int=9)),
        "big": str(-LARGE),
        "moment": MOMENT.isoformat(),
        "chain": str(-LARGE),
    }


RELATIONS = ["coin", "serial", "text", "uuid", "big", "moment", "chain"]


@pytest.mark.parametrize("name", RELATIONS)
def test_a_relation_is_sent_accepted_and_used_for_groups(related, name):
    """The value of the column that it refers to is used in both directions."""
    field: Any = Related._meta.get_field(name)
    for placeholder in (name, f"{name}_id"):
        client = connect(record(Related, groups=[f"by-{{{placeholder}}}"]))
        target: Any = field.remote_field.model.objects.get()
        with override_bindings(client.binding), capture_events() as events:
            by_orm = Related.objects.create(**{name: target})
            pk = client.send("create", data={name: related[name]})["pk"]
            blank = Related.objects.create()
            client.send("update", blank.pk, {name: related[name]}, condition={name: None})
            client.send("update", blank.pk, {name: related[name]}, condition={name: related[name]})
        assert [event.data[name] for event in events] == [related[name]] * 4
        group = events[0].changes[0][0]
        assert [event.changes for event in events] == [[(group, "create")]] * 3 + [[(group, "update")]]
        assert find_group(client, {placeholder: related[name]}) == (group, [by_orm.pk, pk, blank.pk])
        if str(related[name]).lstrip("-").isdigit():
            assert find_group(client, {placeholder: int(related[name])})[0] == group
            client.send("update", pk, {name: int(related[name])}, condition={name: int(related[name])})
        Related.objects.all().delete()


def test_a_relation_has_validators_of_its_own(related, monkeypatch):
    """They validate the value of the column, and the client gets their messages."""
    asked: list[object] = []

    def refuse(value: object) -> None:
        asked.append(value)
        raise ValidationError("Not this one.")

    monkeypatch.setitem(vars(Related._meta.get_field("coin")), "validators", [refuse])
    error = connect(record(Related)).refused("create", data={"coin": related["coin"], "big": related["big"]})
    assert (error.code, error.fields) == ("invalid", {"coin": ["Not this one."]})
    assert asked == [related["coin"]]


def test_lists_of_keys_of_each_kind(related):
    """Large keys in lists are text too, and are accepted as text or numbers."""
    other = BigKey.objects.create(pk=5)
    client = connect(record(BigKey))
    with override_bindings(client.binding), capture_events() as events:
        other.friends.add(-LARGE, other)
        client.send("update", 5, {"friends": []})
        client.send("update", 5, {"friends": [str(-LARGE), "5"]})
        client.send("update", "5", {"label": "a"}, condition={"friends": [-LARGE, 5]})
        client.send("update", "5", {"friends": [-LARGE]}, condition={"friends": [str(-LARGE), 5]})
    full, single = [str(-LARGE), 5], [str(-LARGE)]
    assert [event.data["friends"] for event in events if event.data["friends"]][-4:] == [full, full, full, single]
    with override_bindings(record(Related)), capture_events() as events:
        row = Related.objects.create()
        row.texts.set(TextKey.objects.all())
        row.coins.set([3])
    assert (events[-1].data["texts"], events[-1].data["coins"]) == (["a b.c"], [3])


def test_a_row_whose_key_is_a_row_with_a_large_key():
    """A key that is another row's key is exact too, and a client that may not choose it cannot create."""
    big = BigKey.objects.create(pk=LARGE)
    client = connect(record(OneToOneKey, groups=["owner-{owner}"]))
    with override_bindings(client.binding), capture_events() as events:
        OneToOneKey.objects.create(owner=big)
        client.send("update", str(LARGE), {"label": "a"})
        client.send("update", LARGE, {"label": "b"})
        assert client.refused("create", data={"label": "c"}).code == "invalid"
    assert [event.pk for event in events] == [str(LARGE)] * 3
    assert "owner" not in events[0].data
    for sent in (LARGE, str(LARGE)):
        assert find_group(client, {"owner": sent}) == (groups_of(events)[0], [LARGE])


@pytest.mark.parametrize("serial", [LARGE, str(LARGE)])
def test_where_takes_large_numbers_in_both_forms(serial):
    """A record's condition accepts both forms too."""
    with override_bindings(record(Coin, where={"serial": serial})), capture_events() as events:
        Coin.objects.create(code="a", serial=LARGE)
        Coin.objects.create(code="b", serial=LARGE + 1)
    assert [event.data["code"] for event in events] == ["a"]


@pytest.mark.parametrize("params", [{"number": "9e15"}, {"number": 1.5}, {"number": True}, {"number": "1" * 400}])
def test_invalid_keys_are_refused_in_params(params):
    """Text is treated as a number only if it is one."""
    client = connect(record(BigKey, groups=["row-{number}"]))
    with pytest.raises(ClientError) as caught:
        find_group(client, params)
    assert (caught.value.code, list(caught.value.fields)) == ("invalid", ["number"])
