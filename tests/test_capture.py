"""Capture: each kind of ORM write leaves the right events, in the write's transaction, at the expected cost."""

import contextlib
import datetime as dt
import decimal
import json
import re
import uuid
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.db import IntegrityError, connection, connections, models, transaction
from django.db.models import Count, F
from django.db.models.deletion import Collector
from django.db.models.signals import post_save, pre_delete
from django.test.utils import CaptureQueriesContext

import declbind
from declbind import WebsocketBinding
from declbind.models import Event
from declbind.outbound import capture, deletes, places, saves, writes
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.zoo.models import (
    Animal,
    Bear,
    Cage,
    Country,
    Crate,
    Feather,
    Food,
    Herd,
    Keeper,
    Lorry,
    Membership,
    Parcel,
    Profile,
    Sample,
    Tractor,
    Truck,
    Vehicle,
)

pytestmark = pytest.mark.django_db

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"]}
ANIMALS = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "legs"]}
BY_KEEPER = {**ANIMALS, "groups": ["keeper-{keeper_id}"]}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}
FEATHERS = {"stream": "feathers", "model": "zoo.Feather", "fields": ["animal", "colour"]}


@contextlib.contextmanager
def watching(*bindings):
    """Put bindings in force and collect the events of the block."""
    with override_bindings(*bindings), capture_events() as events:
        yield events


def changes(events):
    """Return (stream, pk, changes) of each event, in order."""
    return [(event.stream, event.pk, event.changes) for event in events]


def actions(events):
    """Return (stream, pk, actions) of each event, in order."""
    return [(event.stream, event.pk, [action for _, action in event.changes]) for event in events]


@contextlib.contextmanager
def uncaptured():
    """Remove the hooks, as if declbind were not installed."""
    with contextlib.ExitStack() as stack:
        for owner, name, _ in capture.HOOKS:
            stack.enter_context(patch.object(owner, name, getattr(owner, name).__wrapped__))
        yield


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def animal(keeper):
    return Animal.objects.create(name="Owl", keeper=keeper)


# Saving -------------------------------------------------------------------------------------------------------------


def test_create_update_and_delete_are_announced():
    """The three plain writes become the three actions, each with the row's data."""
    with watching(KEEPERS) as events:
        ann = Keeper.objects.create(name="Ann")
        pk = ann.pk
        ann.retired = True
        ann.save()
        ann.delete()
    assert changes(events) == [("keepers", pk, [("keepers", action)]) for action in ("create", "update", "delete")]
    assert [event.data["retired"] for event in events] == [False, True, True]
    assert {event.model for event in events} == {"zoo.keeper"}
    assert [event.kind for event in events] == ["row", "row", "gone"]


def test_row_that_leaves_a_group_is_deleted_there_and_created_where_it_comes(animal, keeper):
    """The group diff: old groups only get delete, new groups only get create, in this order."""
    bob = Keeper.objects.create(name="Bob")
    with watching(BY_KEEPER) as events:
        animal.keeper = bob
        animal.save()
        animal.save()
    assert changes(events) == [
        ("animals", animal.pk, [(f"keeper-{keeper.pk}", "delete"), (f"keeper-{bob.pk}", "create")]),
        ("animals", animal.pk, [(f"keeper-{bob.pk}", "update")]),
    ]


def test_row_with_a_null_placeholder_is_in_no_group(animal, keeper):
    """A row without a keeper is in no group: losing a keeper is a delete, getting one a create."""
    with watching(BY_KEEPER) as events:
        animal.keeper = None
        animal.save()
        animal.save()
        animal.keeper = keeper
        animal.save()
    assert [event.changes for event in events] == [
        [(f"keeper-{keeper.pk}", "delete")],
        [(f"keeper-{keeper.pk}", "create")],
    ]


def test_delete_that_hides_a_row_carries_no_data(animal):
    """Clients that lose sight of a row must not learn its new values."""
    with watching(BY_KEEPER) as events:
        animal.keeper, animal.name = None, "Secret"
        animal.save()
    assert (events[0].changes[0][1], events[0].data) == ("delete", {})


def test_row_comes_and_goes_with_where(animal):
    """A row outside ``where`` does not exist: entering is a create, leaving a delete without data."""
    with watching({**ANIMALS, "where": {"status": ["open", "new"]}}) as events:
        for status in ("closed", "closed", "new", "open"):
            animal.status = status
            animal.save()
        animal.status = "closed"
        animal.save()
        animal.delete()
    assert [([action for _, action in event.changes], bool(event.data)) for event in events] == [
        (["delete"], False), (["create"], True), (["update"], True), (["delete"], False),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, [None, True]])
def test_where_may_ask_for_null(value):
    """A null in ``where`` matches rows without a value."""
    sample = Sample.objects.create(maybe=False)
    with watching({"stream": "s", "model": "zoo.Sample", "fields": ["text"], "where": {"maybe": value}}) as events:
        sample.maybe = None
        sample.save()
        sample.maybe = False
        sample.save()
    assert actions(events) == [("s", sample.pk, ["create"]), ("s", sample.pk, ["delete"])]


def test_two_bindings_of_one_model_each_have_an_event():
    """Each stream has an event with its fields and groups."""
    with watching(KEEPERS, {**KEEPERS, "stream": "names", "fields": ["name"], "groups": ["n-{name}"]}) as events:
        pk = Keeper.objects.create(name="Ann").pk
    assert changes(events) == [("keepers", pk, [("keepers", "create")]), ("names", pk, [("n-Ann", "create")])]
    assert [event.data for event in events] == [{"name": "Ann", "retired": False}, {"name": "Ann"}]


@pytest.mark.parametrize("setting", [{"direction": "inbound"}, {"enabled": False}])
def test_closed_binding_sends_nothing(setting):
    """An inbound binding accepts changes and sends none; a disabled one does neither."""
    with watching({**KEEPERS, **setting}) as events:
        Keeper.objects.create(name="Ann").delete()
    assert events == []


def test_each_save_is_an_event():
    """Two saves of one row in one transaction are two events."""
    with watching(KEEPERS) as events, transaction.atomic():
        ann = Keeper.objects.create(name="Ann")
        ann.name = "Anna"
        ann.save()
    assert [event.data["name"] for event in events] == ["Ann", "Anna"]


def test_update_fields_sends_what_is_stored_and_not_what_the_instance_holds(keeper):
    """The other attributes were not saved, so they must not be sent."""
    with watching(KEEPERS) as events:
        keeper.name, keeper.retired = "Not stored", True
        keeper.save(update_fields=["retired"])
    assert events[0].data == {"name": "Ann", "retired": True}


def test_update_fields_does_not_move_a_row_that_was_not_moved(animal, keeper):
    """A group computed from an unsaved attribute would be the wrong one."""
    with watching(BY_KEEPER) as events:
        animal.keeper_id = keeper.pk + 1
        animal.save(update_fields=["legs"])
    assert events[0].changes == [(f"keeper-{keeper.pk}", "update")]


def test_empty_update_fields_leaves_no_event(keeper):
    """Django does nothing then, so there is no event."""
    with watching(KEEPERS) as events:
        keeper.save(update_fields=[])
    assert events == []


@pytest.mark.parametrize("key", ["7", 7])
def test_key_is_sent_in_its_own_type(key):
    """A key given as text, which Django accepts, is sent as the row's number."""
    with watching(KEEPERS, {**KEEPERS, "stream": "named", "groups": ["n-{name}"]}) as events:
        keeper = Keeper(pk=key, name="Ann")
        keeper.save()
        keeper.name = "Bob"
        keeper.save()
    assert [event.pk for event in events] == [7] * 4
    assert [event.changes for event in events if event.stream == "named"] == [
        [("n-Ann", "create")], [("n-Ann", "delete"), ("n-Bob", "create")],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [lambda key: {"pk": key}, lambda key: {"pk": str(key)}, lambda key: {"pk": key.hex}],
    ids=["uuid", "str", "hex"],
)
def test_uuid_key_is_sent_in_its_canonical_form(make):
    """However the key was written, clients get one form of it."""
    key = uuid.uuid4()
    with watching({"stream": "crates", "model": "zoo.Crate", "fields": ["label"], "groups": ["l-{label}"]}) as events:
        crate = Crate(label="a", **make(key))
        crate.save()
        crate.label = "b"
        crate.save()
    assert changes(events) == [
        ("crates", str(key), [("l-a", "create")]), ("crates", str(key), [("l-a", "delete"), ("l-b", "create")]),
    ]  # fmt: skip


@pytest.mark.parametrize("groups", [[], ["l-{label}"]], ids=["constant", "moving"])
def test_forced_update_of_a_new_instance_is_an_update(groups):
    """A model whose key has a default is inserted without a query, except when an update is forced."""
    key = Crate.objects.create(label="a").pk
    with watching({"stream": "crates", "model": "zoo.Crate", "fields": ["label"], "groups": groups}) as events:
        Crate(pk=key, label="b").save(force_update=True)
    expected = ["delete", "create"] if groups else ["update"]
    assert actions(events) == [("crates", str(key), expected)]


def test_forced_insert_is_a_create():
    """Neither Django nor capture looks for the row."""
    with watching({"stream": "c", "model": "zoo.Country", "fields": ["name"], "groups": ["n-{name}"]}) as events:
        Country(pk="fr", name="France").save(force_insert=True)
    assert changes(events) == [("c", "fr", [("n-France", "create")])]


def test_key_that_is_a_relation_is_sent_raw():
    """A row whose key is its owner is identified by the owner's key."""
    user = User.objects.create(username="ann")
    with watching({"stream": "p", "model": "zoo.Profile", "fields": ["bio"]}) as events:
        Profile.objects.create(user=user, bio="x")
    assert (events[0].pk, events[0].data) == (user.pk, {"bio": "x"})


@pytest.mark.parametrize(
    "save",
    [
        lambda: Keeper.objects.get_or_create(name="Ann"),
        lambda: Keeper.objects.update_or_create(name="Ann", defaults={"retired": True}),
    ],
    ids=["get_or_create", "update_or_create"],
)
def test_every_shorthand_for_save_is_captured(save):
    """Methods that call ``save()`` are captured there."""
    with watching(KEEPERS) as events:
        save()
    assert [[action for _, action in event.changes] for event in events] == [["create"]]


def test_nested_saves_keep_their_order(keeper):
    """A receiver that saves again is reported after the write that caused it."""

    def save_again(instance, created, **kwargs):
        if not instance.retired:
            instance.retired = True
            instance.save()

    post_save.connect(save_again, sender=Keeper)
    try:
        with watching(KEEPERS) as events:
            keeper.name = "Anna"
            keeper.save()
    finally:
        post_save.disconnect(save_again, sender=Keeper)
    assert [event.data for event in events] == [{"name": "Anna", "retired": False}, {"name": "Anna", "retired": True}]


def test_row_that_its_base_manager_hides_is_deleted_for_clients():
    """Clients see no row that the model's own manager hides, and the write succeeds."""
    with watching({"stream": "b", "model": "zoo.Bear", "fields": ["name"], "groups": ["den-{den}"]}) as events:
        bear = (
            Bear.objects.create(name="Pooh", den=1)
            if hasattr(Bear, "objects")
            else Bear.awake.create(name="Pooh", den=1)
        )
        Bear.awake.filter(pk=bear.pk).first()
        bear.asleep = True
        bear.save(update_fields=["asleep"])
    assert changes(events) == [("b", bear.pk, [("den-1", "create")]), ("b", bear.pk, [("den-1", "delete")])]
    assert events[1].data == {}


def test_row_that_is_saved_whole_as_hidden_is_out_of_sight():
    """The manager decides, not the instance; a binding with constant groups reports it too."""
    bears = {"stream": "bears", "model": "zoo.Bear", "fields": ["name"]}
    bear = Bear.awake.create(name="Pooh", den=1)
    with watching(bears, {**bears, "stream": "dens", "groups": ["den-{den}"]}) as events:
        Bear(name="Born awake").save()
        Bear(name="Born asleep", asleep=True).save()
        bear.asleep = True
        bear.save()
    assert actions(events)[2:] == [("bears", bear.pk, ["delete"]), ("dens", bear.pk, ["delete"])]
    assert [event.data for event in events[2:]] == [{}, {}]


# Values -------------------------------------------------------------------------------------------------------------

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


# Deleting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delete",
    [
        lambda pk: Keeper.objects.get(pk=pk).delete(),
        lambda pk: Keeper.objects.filter(pk=pk).delete(),
        lambda pk: Keeper.objects.only("pk").get(pk=pk).delete(),
        lambda pk: Keeper(pk=pk, name="not stored").delete(),
    ],
    ids=["instance", "query set", "deferred", "unloaded"],
)
def test_delete_sends_the_last_stored_data(keeper, delete):
    """Data and groups are those of the row, whichever way it was deleted."""
    pk = keeper.pk
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        delete(pk)
    assert changes(events) == [("keepers", pk, [("n-Ann", "delete")])]
    assert events[0].data == {"name": "Ann", "retired": False}


def test_deleting_a_missing_row_leaves_no_event(keeper):
    """Without a row there is no event."""
    with watching(KEEPERS) as events:
        Keeper.objects.filter(pk=keeper.pk + 1).delete()
        Keeper(pk=keeper.pk + 1).delete()
    assert events == []


def test_fast_delete_of_a_query_set_reports_each_row():
    """Rows that Django deletes in one statement, without loading them, each have an event."""
    for name in "abc":
        Food.objects.create(name=name)
    with watching({"stream": "f", "model": "zoo.Feather", "fields": ["colour"]}) as events:
        owner = Animal.objects.create(name="Owl")
        for colour in "xyz":
            Feather.objects.create(animal=owner, colour=colour)
        Feather.objects.exclude(colour="x").delete()
    assert sorted(event.data["colour"] for event in events if event.kind == "gone") == ["y", "z"]


def test_query_set_with_an_aggregate_can_be_deleted(animal):
    """Rows selected by an aggregate cannot be locked in one query; they are announced anyway."""
    Feather.objects.create(animal=animal, colour="grey")
    with watching(FEATHERS, {**KEEPERS, "groups": ["n-{name}"]}) as events:
        Keeper.objects.create(name="Idle")
        Keeper.objects.annotate(n=Count("animal")).filter(n=0).delete()
        Feather.objects.annotate(n=Count("animal__foods")).filter(n=0).delete()
        assert set(Keeper.objects.values_list("name", flat=True)) == {"Ann"}
    assert [(event.stream, event.kind) for event in events] == [
        ("keepers", "row"),
        ("keepers", "gone"),
        ("feathers", "gone"),
    ]


def test_cascaded_rows_are_reported(animal):
    """A cascaded delete of a child is reported to the child's binding, also for fast deletes."""
    Feather.objects.create(animal=animal, colour="grey")
    pk = animal.pk
    with watching(FEATHERS, ANIMALS) as events:
        animal.delete()
    assert sorted((event.stream, event.kind) for event in events) == [("animals", "gone"), ("feathers", "gone")]
    assert {event.data.get("animal") for event in events} == {None, pk}


def test_set_null_is_an_update_of_the_row_that_stays(animal, keeper):
    """A row that loses its keeper is sent as it is now, and leaves the keeper's group."""
    pk = keeper.pk
    with watching({**ANIMALS, "fields": ["name", "keeper"]}, {**BY_KEEPER, "stream": "kept"}) as events:
        keeper.delete()
    assert changes(events) == [
        ("animals", animal.pk, [("animals", "update")]), ("kept", animal.pk, [(f"keeper-{pk}", "delete")]),
    ]  # fmt: skip
    assert [event.data for event in events] == [{"name": "Owl", "keeper": None}, {}]


def test_row_that_is_set_null_and_deleted_in_one_go_is_only_deleted(animal, keeper):
    """A deleted row is not reported as updated first."""
    animal.owner = User.objects.create(username="ann")
    animal.save()
    collector = Collector(using="default")
    collector.collect([animal.owner])
    collector.collect([keeper])
    with watching(ANIMALS) as events:
        collector.delete()
    assert [event.kind for event in events] == ["gone"]


def test_protected_row_stays_and_is_not_announced(animal):
    """A deletion that Django refuses leaves no event."""
    Cage.objects.create(animal=animal)
    with watching(ANIMALS) as events, pytest.raises(models.ProtectedError):
        animal.delete()
    assert events == []


def test_thousands_of_rows_can_be_deleted_at_once(settings):
    """The limit on a statement's parameters must not affect the host."""
    settings.DECLBIND = {"BULK_LIMIT": 10_000}
    Keeper.objects.bulk_create([Keeper(name=f"k{number}") for number in range(4_000)])
    with watching(KEEPERS) as events:
        Keeper.objects.all().delete()
    assert len(events) == 4_000
    assert Keeper.objects.count() == 0


def test_write_of_a_pre_delete_receiver_is_reported_first(animal):
    """A receiver's write before the delete is reported first."""

    def write(instance, **kwargs):
        Food.objects.create(name="last meal")

    pre_delete.connect(write, sender=Animal)
    try:
        with watching(ANIMALS, {"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
            animal.delete()
    finally:
        pre_delete.disconnect(write, sender=Animal)
    assert [event.stream for event in events] == ["foods", "animals"]


# Many-to-many -------------------------------------------------------------------------------------------------------


@pytest.fixture
def foods():
    return [Food.objects.create(name=name) for name in ("hay", "fish", "nuts")]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda animal, foods: animal.foods.add(foods[1], foods[2]), [0, 1, 2]),
        (lambda animal, foods: animal.foods.remove(foods[0]), []),
        (lambda animal, foods: animal.foods.clear(), []),
        (lambda animal, foods: animal.foods.set([foods[0], foods[1]]), [0, 1]),
        (lambda animal, foods: foods[1].animal_set.add(animal), [0, 1]),
        (lambda animal, foods: foods[0].animal_set.remove(animal), []),
        (lambda animal, foods: foods[0].animal_set.clear(), []),
        (lambda animal, foods: foods[2].animal_set.set([animal]), [0, 2]),
        (lambda animal, foods: foods[0].delete(), []),
        (lambda animal, foods: Food.objects.filter(name="hay").delete(), []),
        (lambda animal, foods: Animal.foods.through.objects.all().delete(), []),
    ],
    ids=["add", "remove", "clear", "set", "their add", "their remove", "their clear", "their set", "their delete",
         "their query set", "through"],
)  # fmt: skip
def test_changed_list_is_an_update_of_the_row_that_has_it(animal, foods, change, left):
    """From whichever side a list changes, its owner is announced once, with the whole list as it is now."""
    animal.foods.add(foods[0])
    pks = [food.pk for food in foods]
    with watching(FED) as events:
        change(animal, foods)
    assert actions(events) == [("fed", animal.pk, ["update"])]
    assert events[0].data == {"name": "Owl", "foods": [pks[index] for index in left]}


@pytest.mark.parametrize(
    "change",
    [
        lambda animal, foods: animal.foods.add(foods[0]),
        lambda animal, foods: animal.foods.remove(foods[1]),
        lambda animal, foods: animal.foods.set([foods[0]]),
        lambda animal, foods: foods[1].animal_set.clear(),
        lambda animal, foods: foods[1].delete(),
    ],
    ids=["add again", "remove absent", "set same", "clear empty", "delete unlisted"],
)
def test_unchanged_list_leaves_no_event(animal, foods, change):
    """No row of the through table was inserted or deleted."""
    animal.foods.add(foods[0])
    with watching(FED) as events:
        change(animal, foods)
    assert events == []


def test_unbound_list_leaves_no_event(animal, foods):
    """A binding that does not send the list sends nothing."""
    with watching(ANIMALS) as events:
        animal.foods.add(foods[0])
        animal.foods.clear()
    assert events == []


def test_list_is_reported_by_bindings_that_send_it(animal, foods):
    """Another binding of the model has no event, although it reports other writes of the row."""
    with watching(ANIMALS, FED) as events:
        animal.foods.add(foods[0])
        animal.save()
        foods[0].delete()
    assert sorted(event.stream for event in events) == ["animals", "fed", "fed", "fed"]


def test_list_of_a_row_outside_of_where_leaves_no_event(animal, foods):
    """The row does not exist for this binding."""
    with watching({**FED, "where": {"status": "closed"}}) as events:
        animal.foods.add(foods[0])
        animal.foods.clear()
    assert events == []


def test_deleted_owner_is_not_updated(animal, foods):
    """A row that is deleted with its list has only a delete, whose data still has the list."""
    animal.foods.add(foods[0])
    with watching(FED) as events:
        animal.delete()
    assert [(event.kind, event.data["foods"]) for event in events] == [("gone", [foods[0].pk])]


def test_both_ends_of_a_symmetrical_list_are_reported():
    """Neighbours are mutual: adding one to the other changes two lists."""
    one, two = (Herd.objects.create(name=name) for name in "ab")
    with watching({"stream": "h", "model": "zoo.Herd", "fields": ["neighbours"]}) as events:
        one.neighbours.add(two)
        one.neighbours.clear()
    lists = [(event.pk, event.data["neighbours"]) for event in events]
    assert sorted(lists[:2]) == [(one.pk, [two.pk]), (two.pk, [one.pk])]
    assert sorted(lists[2:]) == [(one.pk, []), (two.pk, [])]


def test_list_with_a_model_of_its_own_between_follows_that_model(animal):
    """Saving, moving or deleting memberships changes the lists of their herds."""
    one, two = (Herd.objects.create(name=name) for name in "ab")
    with watching({"stream": "h", "model": "zoo.Herd", "fields": ["members"]}) as events:
        membership = Membership.objects.create(herd=one, animal=animal)
        membership.herd = two
        membership.save()
        membership.delete()
        one.members.add(animal)
        animal.delete()
    assert [(event.pk, len(event.data["members"])) for event in events] == [
        (one.pk, 1), (one.pk, 0), (two.pk, 1), (two.pk, 0), (one.pk, 1), (one.pk, 0),
    ]  # fmt: skip


# Transactions -------------------------------------------------------------------------------------------------------


def test_rolled_back_work_leaves_no_event():
    """The event is a row of the same transaction."""
    with watching(KEEPERS) as events, contextlib.suppress(LookupError), transaction.atomic():
        Keeper.objects.create(name="Ann").delete()
        raise LookupError
    assert events == []


def test_rolled_back_savepoint_leaves_no_event():
    """Writes around the savepoint are kept."""
    with watching(KEEPERS) as events, transaction.atomic():
        Keeper.objects.create(name="Ann")
        with contextlib.suppress(LookupError), transaction.atomic():
            Keeper.objects.create(name="Bob")
            raise LookupError
        Keeper.objects.create(name="Cid")
    assert [event.data["name"] for event in events] == ["Ann", "Cid"]


@pytest.mark.django_db(transaction=True)
def test_write_that_the_database_refuses_in_autocommit_leaves_no_event():
    """An error of the write itself ends the transaction that capture opened."""
    Food.objects.create(name="hay")
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
        with pytest.raises(IntegrityError):
            Food.objects.create(name="hay")
        Food.objects.create(name="fish")
    assert [event.data["name"] for event in events] == ["fish"]
    assert not connection.in_atomic_block


@pytest.mark.django_db(transaction=True)
def test_caught_error_behaves_as_without_declbind():
    """A unique violation inside ``atomic`` can be caught around it, and the transaction continues."""
    Food.objects.create(name="hay")
    with watching({"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events, transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Food.objects.create(name="hay")
        Food.objects.create(name="fish")
    assert [event.data["name"] for event in events] == ["fish"]


@pytest.mark.django_db(transaction=True)
def test_save_in_autocommit_is_over_when_it_returns(keeper):
    """Capture leaves no transaction open after the write."""
    with watching(KEEPERS) as events:
        keeper.save()
        assert not connection.in_atomic_block
        assert Event.objects.count() == 1
    assert len(events) == 1


# Fixtures -----------------------------------------------------------------------------------------------------------


def load_fixture(*rows):
    for loaded in serializers.deserialize("json", json.dumps(rows)):
        loaded.save()


def test_loaded_fixture_is_captured():
    """Rows that ``loaddata`` writes are announced like any write: created, then updated by loading again."""
    row = {"model": "zoo.keeper", "pk": 5, "fields": {"name": "Ann", "retired": False}}
    with watching(KEEPERS) as events:
        load_fixture(row)
        load_fixture({**row, "fields": {"name": "Bob", "retired": True}})
    assert changes(events) == [("keepers", 5, [("keepers", "create")]), ("keepers", 5, [("keepers", "update")])]
    assert events[1].data == {"name": "Bob", "retired": True}


def test_loaded_fixture_moves_rows_between_groups(keeper):
    """The group diff applies to fixtures too."""
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        load_fixture({"model": "zoo.keeper", "pk": keeper.pk, "fields": {"name": "Bob"}})
    assert events[0].changes == [("n-Ann", "delete"), ("n-Bob", "create")]


def test_setting_turns_capture_of_fixtures_off(settings):
    """A project that loads a million rows may not want a million events."""
    settings.DECLBIND = {"CAPTURE_RAW": False}
    with watching(KEEPERS) as events:
        load_fixture({"model": "zoo.keeper", "pk": 5, "fields": {"name": "Ann"}})
        Keeper.objects.create(name="Bob")
    assert [event.data["name"] for event in events] == ["Bob"]


def test_loaded_child_has_its_parents_fields():
    """A fixture holds a parent and its child as two rows; the child's event has the fields of both."""
    with watching({"stream": "t", "model": "zoo.Truck", "fields": ["plate", "load"]}) as events:
        load_fixture(
            {"model": "zoo.vehicle", "pk": 5, "fields": {"plate": "X"}},
            {"model": "zoo.truck", "pk": 5, "fields": {"load": 3}},
        )
    assert [(event.pk, event.data) for event in events] == [(5, {"plate": "X", "load": 3})]


# Inheritance --------------------------------------------------------------------------------------------------------

VEHICLES = {"stream": "vehicles", "model": "zoo.Vehicle", "fields": ["plate"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"]}


@pytest.mark.parametrize("cls", [Truck, Lorry])
def test_parents_binding_reports_children(cls):
    """A binding of the parent reports saves and deletes of a child, with the parent's name and fields."""
    with watching(VEHICLES) as events:
        child = cls.objects.create(plate="A", load=1)
        pk = child.pk
        child.plate = "B"
        child.save()
        child.delete()
    assert actions(events) == [("vehicles", pk, [action]) for action in ("create", "update", "delete")]
    assert [(event.model, event.data) for event in events] == [
        ("zoo.vehicle", {"plate": plate}) for plate in ("A", "B", "B")
    ]


@pytest.mark.parametrize("cls", [Truck, Lorry])
def test_child_sends_its_parents_fields(cls):
    """The columns of the parent's table are fields of the child, in every action."""
    with watching(TRUCKS) as events:
        child = cls.objects.create(plate="A", load=1)
        child.plate = "B"
        child.save()
        child.delete()
    assert [event.data for event in events] == [
        {"plate": "A", "load": 1}, {"plate": "B", "load": 1}, {"plate": "B", "load": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("update_fields", [None, ["plate"]])
def test_child_moves_by_a_group_on_its_parents_column(update_fields):
    """The old group depends on a table that Django writes before the child's own."""
    truck = Truck.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        truck.plate = "B"
        truck.save(update_fields=update_fields)
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-B", "create")])]


@pytest.mark.parametrize("update_fields", [None, ["plate"]])
def test_middle_of_a_chain_moves_by_a_group_on_its_parents_column(update_fields):
    """The bound model is in the middle: the top's table, which holds its group's column, is written before its own."""
    lorry = Lorry.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        lorry.plate = "B"
        lorry.save(update_fields=update_fields)
        lorry.save(update_fields=["trailers"])
    assert changes(events) == [("trucks", lorry.pk, [("p-A", "delete"), ("p-B", "create")])]


def test_middle_of_a_chain_is_found_by_the_childs_link():
    """Django copies the key up from link to link, which happens too late for capture."""
    lorry = Lorry.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        Lorry(truck_ptr_id=lorry.pk, plate="B").save()
    assert changes(events) == [("trucks", lorry.pk, [("p-A", "delete"), ("p-B", "create")])]


def test_saving_only_a_childs_field_leaves_no_event_of_the_parent():
    """With ``update_fields`` the parent's table is not written."""
    truck = Truck.objects.create(plate="A")
    with watching(VEHICLES, TRUCKS) as events:
        truck.save(update_fields=["load"])
    assert [event.stream for event in events] == ["trucks"]


def test_failed_save_of_a_child_leaves_nothing_behind_for_the_next():
    """Values read for one row must never be used for another row at the same address in memory."""
    Truck.objects.create(plate="A")
    other = Truck.objects.create(plate="B")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}):
        other.plate = "A"
        with pytest.raises(IntegrityError), transaction.atomic():
            other.save()
        assert writes._under_way(connections["default"]) == []


def check_that_a_save_that_was_left_half_done_is_forgotten():
    truck = Truck.objects.create(plate="A")

    def fail_at_the_childs_table(self, *args, cls=None, **kwargs):
        if cls is not Vehicle:
            raise LookupError("The child's table is not written.")
        return super(Truck, self)._save_table(*args, cls=cls, **kwargs)

    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        with (
            patch.object(Truck, "_save_table", fail_at_the_childs_table, create=True),
            pytest.raises(LookupError),
            transaction.atomic(),
        ):
            truck.save()
        Truck.objects.filter(pk=truck.pk).update(plate="B")
        truck.save_base(raw=True)
    assert changes(events)[1:] == [("trucks", truck.pk, [("p-B", "update")])]


def test_save_that_was_left_half_done_is_forgotten():
    """The values read before the parents' tables were written are dropped at the end of the save's transaction block.

    No call of capture follows the error, and a raw save writes only the child's table.
    """
    check_that_a_save_that_was_left_half_done_is_forgotten()


def test_state_kept_after_its_block_is_detected(monkeypatch):
    """Control: the state of a write is not dropped at the end of the block in which it began."""
    monkeypatch.setattr(writes.CapturedWrite, "_is_begun", True)
    with pytest.raises(AssertionError):
        check_that_a_save_that_was_left_half_done_is_forgotten()
    writes._under_way(connections["default"]).clear()


def test_child_made_of_an_existing_parent_is_created():
    """The parent's row existed, the child's did not."""
    vehicle = Vehicle.objects.create(plate="A")
    with watching(VEHICLES, TRUCKS) as events:
        Truck(vehicle_ptr=vehicle, plate="B", load=2).save()
    assert actions(events) == [("vehicles", vehicle.pk, ["update"]), ("trucks", vehicle.pk, ["create"])]


def test_deleting_a_parent_is_reported_by_the_childs_binding():
    """The child's row is deleted too."""
    truck = Truck.objects.create(plate="A", load=1)
    with watching(TRUCKS) as events:
        Vehicle.objects.get(pk=truck.pk).delete()
    assert (actions(events), events[0].data) == ([("trucks", truck.pk, ["delete"])], {"plate": "A", "load": 1})


@pytest.mark.parametrize("bound", ["zoo.Vehicle", "zoo.Tractor"])
def test_proxy_and_model_report_each_others_writes(bound):
    """A proxy is the same row under another name; the frame has the binding's model."""
    with watching({**VEHICLES, "model": bound}) as events:
        Tractor.objects.create(plate="A")
        Vehicle.objects.create(plate="B").delete()
    assert [[action for _, action in event.changes] for event in events] == [["create"], ["create"], ["delete"]]
    assert {event.model for event in events} == {bound.lower()}


# By hand ------------------------------------------------------------------------------------------------------------


def test_touch_announces_rows_that_no_hook_saw(keeper):
    """The rows of a query set or a list of instances are announced as if each had been saved unchanged."""
    bob = Keeper.objects.create(name="Bob")
    with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
        assert declbind.touch(Keeper.objects.order_by("pk")) == 2
        assert declbind.touch([bob]) == 1
        assert declbind.touch([]) == 0
        assert declbind.touch([Keeper(name="unsaved")]) == 0
        assert declbind.touch(Food.objects.all()) == 0
    assert changes(events) == [
        ("keepers", pk, [(f"n-{name}", "update")])
        for pk, name in ((keeper.pk, "Ann"), (bob.pk, "Bob"), (bob.pk, "Bob"))
    ]


def test_touch_sends_what_is_stored(keeper):
    """For a changed, unsaved instance, the stored row is announced."""
    with watching(KEEPERS) as events:
        keeper.name = "Not stored"
        declbind.touch([keeper])
    assert events[0].data["name"] == "Ann"


# Python bindings ----------------------------------------------------------------------------------------------------


class KeeperBinding(WebsocketBinding):
    model = Keeper
    stream = "coded"
    fields = ["name"]

    @classmethod
    def group_names(cls, instance):
        return ["all", "retired" if instance.retired else "active"]


def test_groups_that_are_code_move_by_the_stored_row(keeper):
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


def test_own_payload_is_kept_per_action(keeper):
    """A binding that makes whole payloads makes one for each action, but not for the delete that hides a row."""

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


# Which bindings -----------------------------------------------------------------------------------------------------


def test_removed_binding_sends_nothing(keeper):
    """Each write follows the registry in force."""
    with capture_events() as events:
        with override_bindings(KEEPERS):
            keeper.save()
        keeper.save()
        with override_bindings({**KEEPERS, "stream": "second"}):
            keeper.save()
    assert [event.stream for event in events] == ["keepers", "second"]


def test_event_names_the_version_that_it_was_made_under(keeper):
    """Readers with a newer configuration can detect it."""
    with override_bindings(KEEPERS):
        version = get_registry().version
        keeper.save()
    assert Event.objects.order_by("-id")[0].version == version


# What it costs ------------------------------------------------------------------------------------------------------


def statements(write):
    """Return the SQL of a write without numbers and times, because keys and clocks advance."""
    with CaptureQueriesContext(connection) as captured:
        write()
    return [re.sub(r"[0-9]+", "N", query["sql"]) for query in captured]


def write_everything():
    food = Food.objects.create(name="hay")
    owner = Animal.objects.create(name="Owl")
    owner.foods.add(food)
    owner.legs = 3
    owner.save()
    Feather.objects.create(animal=owner, colour="grey")
    Feather.objects.all().delete()
    owner.foods.clear()
    owner.delete()
    food.delete()
    Truck.objects.create(plate="A").delete()


def test_unbound_models_cost_no_query():
    """Saves, lists, cascades and fast deletes of unbound models run exactly the same statements."""
    with override_bindings(KEEPERS):
        with_hooks = statements(write_everything)
        with uncaptured():
            without = statements(write_everything)
    assert with_hooks == without


def test_the_comparison_sees_capture():
    """The check above is not vacuous: a bound model among the written ones makes a difference."""
    with override_bindings(ANIMALS):
        with_hooks = statements(write_everything)
        with uncaptured():
            without = statements(write_everything)
    assert with_hooks != without


def test_binding_a_model_leaves_fast_deletes_to_others(animal):
    """No receiver for deletes is connected, which would disable fast deletes for the whole site."""
    with override_bindings(ANIMALS, FED):
        assert Collector(using="default").can_fast_delete(Feather.objects.all())
        assert not pre_delete.has_listeners(Feather)


#: The statements of a save of a bound row: on PostgreSQL there is only one.
WRITES = ["WITH"] if connection.vendor == "postgresql" else ["UPDATE", "INSERT"]


def test_save_with_a_constant_group_costs_one_insert(keeper):
    """The row is not read, neither before nor after: the event is the only additional statement."""
    with override_bindings(KEEPERS), CaptureQueriesContext(connection) as captured:
        keeper.save()
    assert [query["sql"].split()[0] for query in captured] == WRITES


def test_save_with_a_moving_group_costs_one_select_of_its_columns(animal):
    """Only the columns that decide are read, and the row is locked if the database can."""
    with override_bindings(BY_KEEPER), CaptureQueriesContext(connection) as captured:
        animal.save()
    assert [query["sql"].split()[0] for query in captured] == ["SELECT", *WRITES]
    select = captured[0]["sql"]
    assert connection.ops.quote_name("keeper_id") in select
    assert connection.ops.quote_name("name") not in select
    assert ("FOR UPDATE" in select) == connection.features.has_select_for_update


def test_creating_with_a_moving_group_reads_nothing(keeper):
    """A new row has no old groups."""
    with override_bindings(BY_KEEPER), CaptureQueriesContext(connection) as captured:
        Animal.objects.create(name="Owl", keeper=keeper)
    assert [query["sql"].split()[0] for query in captured] == ["INSERT", "INSERT"]


def test_lock_covers_the_parents_of_a_child():
    """A group may depend on the parent's column, which another transaction may be changing."""
    truck = Truck.objects.create(plate="A")
    with override_bindings({**TRUCKS, "groups": ["p-{plate}"]}), CaptureQueriesContext(connection) as captured:
        truck.save()
    if connection.features.has_select_for_update:
        # The rows of all joined tables are locked.
        assert connection.ops.quote_name("zoo_vehicle") in captured[0]["sql"]
        assert captured[0]["sql"].endswith("FOR UPDATE")


# Another database ---------------------------------------------------------------------------------------------------


def test_writes_to_another_database_are_logged_once(keeper, caplog, monkeypatch):
    """A write of a bound model to another database than the log's is logged once, and succeeds."""
    monkeypatch.setattr(places, "_reported", set())
    written = []

    def write(self, raw, cls, *args):
        written.append(cls)
        return True

    save = saves.capture_save_table(write)
    with override_bindings(KEEPERS):
        for _ in range(2):
            assert save(keeper, cls=Keeper, using="elsewhere") is True
        assert save(Feather(), cls=Feather, using="elsewhere") is True
    assert written == [Keeper, Keeper, Feather]
    [record] = caplog.records
    assert record.getMessage() == (
        "Writes of zoo.Keeper to database 'elsewhere' are not captured: the log is in 'default', and an event is "
        "stored in the transaction of its write. Bound by: 'keepers'. Write to 'default', or route declbind's models "
        "to the database of the bound ones."
    )


def test_deletes_in_another_database_are_logged(keeper, caplog, monkeypatch):
    """Deletes are writes too."""
    monkeypatch.setattr(places, "_reported", set())
    collector: Any = Collector(using="elsewhere")
    collector.add([keeper])
    with override_bindings(KEEPERS):
        deletes.capture_delete(lambda collector: None)(collector)
    assert "zoo.Keeper to database 'elsewhere'" in caplog.text
