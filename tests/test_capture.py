"""Capture of `save()`: the right events, with the right groups and data."""

import uuid

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save

from declbind.models import Event
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.captured_events import ANIMALS, BY_KEEPER, KEEPERS, actions, changes, watching
from tests.zoo.models import Animal, Bear, Country, Crate, Keeper, Profile, Sample

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def animal(keeper):
    return Animal.objects.create(name="Owl", keeper=keeper)


# Saving ---------------------------------------------------------------------------------------------------------------


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


def test_row_that_moves_is_deleted_in_the_old_group_and_created_in_the_new_one(animal, keeper):
    """Groups that the row leaves get a delete, groups that it enters get a create, in this order."""
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


def test_row_that_enters_where_is_created_and_one_that_leaves_is_deleted(animal):
    """A row outside ``where`` does not exist for the binding. The delete has no data."""
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
def test_where_matches_null(value):
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


def test_update_fields_sends_the_stored_values(keeper):
    """The other attributes were not saved, so they must not be sent."""
    with watching(KEEPERS) as events:
        keeper.name, keeper.retired = "Not stored", True
        keeper.save(update_fields=["retired"])
    assert events[0].data == {"name": "Ann", "retired": True}


def test_update_fields_does_not_move_a_row_by_an_unsaved_attribute(animal, keeper):
    """The group of an unsaved attribute would be wrong."""
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


def test_row_that_is_saved_as_hidden_is_deleted_for_clients():
    """The manager decides, not the instance. A binding with constant groups reports it too."""
    bears = {"stream": "bears", "model": "zoo.Bear", "fields": ["name"]}
    bear = Bear.awake.create(name="Pooh", den=1)
    with watching(bears, {**bears, "stream": "dens", "groups": ["den-{den}"]}) as events:
        Bear(name="Born awake").save()
        Bear(name="Born asleep", asleep=True).save()
        bear.asleep = True
        bear.save()
    assert actions(events)[2:] == [("bears", bear.pk, ["delete"]), ("dens", bear.pk, ["delete"])]
    assert [event.data for event in events[2:]] == [{}, {}]


# Bindings in force ----------------------------------------------------------------------------------------------------


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
