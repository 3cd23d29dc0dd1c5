"""The rows that result when a client creates, updates or deletes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.db.models.signals import post_save, pre_save

from declbind import WebsocketBinding, registry
from declbind.core.errors import ClientError
from declbind.models import Event
from tests.factories import AnimalFactory, FoodFactory, KeeperFactory, UserFactory
from tests.zoo.clients import OPEN, connect
from tests.zoo.models import Animal, Country, Crate, Truck

pytestmark = pytest.mark.django_db


def test_a_create_stores_a_row_and_returns_its_key():
    """Sent values and lists are stored, other fields get their defaults, and a sent key is ignored."""
    keeper, hay = KeeperFactory.create(), FoodFactory.create()
    data = {"name": " Ada ", "kind": "fish", "legs": 0, "keeper": keeper.pk, "foods": [hay.pk], "id": 77, "pk": 78}
    reply = connect().send("create", 99, data)
    row = Animal.objects.get()
    assert reply == {"pk": row.pk}
    assert row.pk not in (77, 78, 99)
    assert (row.name, row.kind, row.legs, row.weight, row.keeper) == ("Ada", "fish", 0, None, keeper)
    assert list(row.foods.all()) == [hay]


def test_an_update_stores_only_the_sent_fields():
    """A column that another writer has changed keeps that value."""
    row = AnimalFactory.create(legs=2)

    def change_meanwhile(sender: object, instance: Model, **kwargs: object) -> None:
        Animal.objects.filter(pk=instance.pk).update(legs=4, secret_token="theirs")

    pre_save.connect(change_meanwhile, sender=Animal)
    try:
        reply = connect().send("update", row.pk, {"name": "Bea"})
    finally:
        pre_save.disconnect(change_meanwhile, sender=Animal)
    changed = row.changed
    row.refresh_from_db()
    assert reply == {"pk": row.pk}
    assert (row.name, row.legs, row.secret_token) == ("Bea", 4, "theirs")
    assert row.changed > changed, "auto_now fields move with each save"


def test_a_delete_uses_the_model():
    """The row is deleted, and the answer has the key as it was sent."""
    row = AnimalFactory.create()
    assert connect().send("delete", str(row.pk)) == {"pk": str(row.pk)}
    assert not Animal.objects.exists()


@pytest.mark.parametrize(
    "fields", [{"fields": "__all__"}, {"fields": ["__all__"]}, {"fields": ("__all__",)}, {"exclude": ["legs"]}]
)
def test_fault_6_all_fields_can_be_written_and_lists_too(fields):
    """``"__all__"`` in each of its forms, and ``exclude``, work inbound as outbound, many-to-many included."""
    keys = {"model": Animal, "stream": "animals", "permissions": OPEN, **fields}
    binding = type("Animals", (WebsocketBinding,), keys)
    hay, bread = FoodFactory.create(), FoodFactory.create()
    client = connect(binding)
    pk = client.send("create", data={"name": "Ada", "foods": [hay.pk]})["pk"]
    assert list(Animal.objects.get(pk=pk).foods.all()) == [hay]
    client.send("update", pk, {"name": "Bea", "foods": [bread.pk, hay.pk]})
    row = Animal.objects.get(pk=pk)
    assert (row.name, set(row.foods.all())) == ("Bea", {hay, bread})
    client.send("update", pk, {"foods": []})
    assert not row.foods.exists()


def check_create_obeys_whitelist(create: Callable[..., object]) -> None:
    """Assert that a create sets no other fields than the writable ones."""
    with pytest.raises(ClientError) as caught:
        create({"username": "eve", "is_superuser": True})
    assert (caught.value.code, list(caught.value.fields)) == ("invalid", ["is_superuser"])
    assert not User.objects.filter(username="eve").exists()
    create({"username": "eve"})
    assert not User.objects.get(username="eve").is_superuser


def test_fault_2_a_create_obeys_the_whitelist():
    """A binding of the username alone makes no superuser."""
    client = connect({"stream": "users", "model": "auth.User", "fields": ["username"], "permissions": OPEN})
    check_create_obeys_whitelist(lambda data: client.send("create", data=data))


def test_a_create_without_the_whitelist_is_detected():
    """Negative control: ``Model.objects.create(**data)``, which the original called, fails the previous test."""
    with pytest.raises(pytest.fail.Exception):
        check_create_obeys_whitelist(lambda data: User.objects.create(**data))


def test_fault_2_a_create_calls_the_models_save():
    """``save`` sets the slug, ``auto_now_add`` the time, and signals are sent."""
    saved: list[bool] = []

    def note(sender: object, created: bool, **kwargs: object) -> None:
        saved.append(created)

    post_save.connect(note, sender=Animal)
    try:
        connect().send("create", data={"name": "Ada"})
    finally:
        post_save.disconnect(note, sender=Animal)
    row = Animal.objects.get()
    assert (row.slug, saved) == ("ada-bird", [True])
    assert row.created is not None


def test_fault_2_an_update_without_allowed_fields_saves_nothing():
    """A refused or empty update causes neither a save nor an event."""
    row = AnimalFactory.create()
    client = connect()
    before = Event.objects.count()
    with registry.override(client.binding):
        assert client.refused("update", row.pk, {"secret_token": "x"}).code == "invalid"
        assert client.refused("update", row.pk, {}).code == "invalid"
        assert client.refused("update", row.pk).code == "invalid"
    changed = row.changed
    row.refresh_from_db()
    assert row.changed == changed
    assert Event.objects.count() == before


def test_the_event_of_a_write_names_its_user():
    """The log has the user of each event."""
    user = UserFactory.create(username="ann")
    client = connect(user=user)
    with registry.override(client.binding):
        client.send("create", data={"name": "Ada"})
    assert [event.actor for event in Event.objects.filter(stream="animals")] == ["ann"]


def test_keys_of_each_kind():
    """Generated keys are returned as JSON, other keys are refused, and rows are never overwritten."""
    crate = connect({"stream": "c", "model": "zoo.Crate", "fields": ["label"], "permissions": OPEN})
    pk = crate.send("create", data={"label": "a"})["pk"]
    assert pk == str(Crate.objects.get().pk)
    crate.send("update", pk, {"label": "b"})
    assert Crate.objects.get().label == "b"
    assert crate.refused("update", "no-uuid", {"label": "c"}).code == "not_found"

    country = connect({"stream": "l", "model": "zoo.Country", "fields": ["name"], "permissions": OPEN})
    assert country.refused("create", data={"name": "Chad", "code": "td"}).code == "invalid"
    assert not Country.objects.exists()

    truck = connect({"stream": "t", "model": "zoo.Truck", "fields": ["plate", "load"], "permissions": OPEN})
    pk = truck.send("create", data={"plate": "A1", "load": 3})["pk"]
    truck.send("update", pk, {"plate": "A2"})
    assert (Truck.objects.get().plate, Truck.objects.get().load) == ("A2", 3)

    tractor = connect({"stream": "p", "model": "zoo.Tractor", "fields": ["plate"], "permissions": OPEN})
    assert tractor.send("update", pk, {"plate": "A3"}) == {"pk": pk}
    assert tractor.refused("create", data={"plate": "A3"}).fields == {
        "plate": ["Vehicle with this Plate already exists."]
    }
