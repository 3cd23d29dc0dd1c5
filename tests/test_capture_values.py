"""The values in captured events, and bindings whose groups and data are code."""

import datetime as dt
import decimal

import pytest
from django.db import connection
from django.db.models import F

import declbind
from declbind import WebsocketBinding
from tests.captured_events import watching
from tests.zoo.models import Keeper, Parcel, Sample

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


# Values ---------------------------------------------------------------------------------------------------------------


VALUES = [
    ("count", "12", 12),
    ("count", F("big"), 5),
    ("day", "2024-02-29", "2024-02-29"),
    ("day", dt.datetime(2024, 2, 29, 12, 0, tzinfo=dt.UTC), "2024-02-29"),
    ("moment", "2024-02-29T12:00:00+02:00", "2024-02-29T10:00:00Z"),
    ("moment", dt.datetime(2024, 2, 29, 12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2024-02-29T10:00:00Z"),
    ("clock", "12:30", "12:30:00"),
    ("span", dt.timedelta(hours=1), "P0DT01H00M00S"),
    ("price", "1.5", "1.50"),
    ("price", decimal.Decimal("1.5"), "1.50"),
    ("price", 2, "2.00"),
    ("ratio", "2.5", 2.5),
    ("ratio", 3, 3.0),
    ("flag", 1, True),
    ("key", "6f1b2c1e5f1e4d8e9d5f0f4b1f6f3f10", "6f1b2c1e-5f1e-4d8e-9d5f-0f4b1f6f3f10"),
    ("text", 5, "5"),
    ("text", "é\u2028\U0001f600", "é\u2028\U0001f600"),
    ("info", {"a": [1, None]}, {"a": [1, None]}),
    ("blob", b"\x00\xff", "AP8="),
    ("address", "::FFFF:1.2.3.4", "::ffff:1.2.3.4"),
]


@pytest.mark.parametrize(("name", "value", "sent"), VALUES, ids=lambda value: str(value)[:30])
def test_value_is_sent_as_it_is_stored(name, value, sent):
    """Whatever an attribute held, the event has the stored value, in an update as in a snapshot."""
    sample = Sample.objects.create(big=5)
    with watching({"stream": "s", "model": "zoo.Sample", "fields": [name]}) as events:
        setattr(sample, name, value)
        sample.save()
        declbind.touch(Sample.objects.filter(pk=sample.pk))
    assert [event.data for event in events] == [{name: sent}, {name: sent}]


def test_generated_column_is_sent_as_stored():
    """The instance still holds the old value; a group may depend on the column too."""
    parcel = Parcel.objects.create(width=2)
    with watching(
        {"stream": "p", "model": "zoo.Parcel", "fields": ["width", "area"], "groups": ["a-{area}"]}
    ) as events:
        parcel.width = 3
        parcel.save()
        Parcel.objects.bulk_create([Parcel(width=4)])
    assert [event.data for event in events] == [{"width": 3, "area": 6}, {"width": 4, "area": 8}]
    assert [event.changes for event in events] == [[("a-4", "delete"), ("a-6", "create")], [("a-8", "create")]]


@pytest.mark.skipif(connection.vendor == "mysql", reason="MySQL and MariaDB store finite numbers only.")
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_number_that_json_lacks_is_null(value):
    """The frame stays valid JSON."""
    sample = Sample.objects.create()
    with watching({"stream": "s", "model": "zoo.Sample", "fields": ["ratio"]}) as events:
        sample.ratio = value
        sample.save()
    assert events[0].data == {"ratio": None}


# Python bindings ------------------------------------------------------------------------------------------------------


class KeeperBinding(WebsocketBinding):
    model = Keeper
    stream = "coded"
    fields = ["name"]

    @classmethod
    def group_names(cls, instance):
        return ["all", "retired" if instance.retired else "active"]


def test_groups_of_code_are_made_from_the_stored_row(keeper):
    """``group_names`` is called with the row before and after, never with the changed instance alone."""
    with watching(KeeperBinding) as events:
        keeper.retired = True
        keeper.save()
    assert events[0].changes == [("active", "delete"), ("all", "update"), ("retired", "create")]


def test_members_are_sent(keeper):
    """A Python binding may send properties and methods of a row."""

    class Sending(KeeperBinding):
        stream = "sending"
        send_members = ["__str__", "pk"]

    with watching(Sending) as events:
        keeper.save()
    assert events[0].data == {"name": "Ann", "__str__": str(keeper), "pk": keeper.pk}


def test_own_payload_is_stored_for_each_action(keeper):
    """A binding that makes whole payloads makes one for each action, but none for the delete that hides a row."""

    class Wording(KeeperBinding):
        stream = "wording"

        def serialize(self, instance, action):
            return {} if action == "update" else {"said": action}

    pk = keeper.pk
    with watching(Wording) as events:
        keeper.retired = True
        keeper.save()
        keeper.delete()
    assert [(event.pk, event.kind, event.data) for event in events] == [
        (pk, "payload", {"create": {"said": "create"}, "update": {}}),
        (pk, "payload", {"delete": {"said": "delete"}}),
    ]
