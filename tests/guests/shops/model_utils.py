"""django-model-utils: trackers that store field values, descriptors over columns, and managers of its own."""

from __future__ import annotations

from django.db import models
from model_utils import Choices, FieldTracker
from model_utils.fields import MonitorField, UrlsafeTokenField
from model_utils.managers import InheritanceManager
from model_utils.models import SoftDeletableModel, StatusModel, TimeStampedModel, UUIDModel

from tests.guests.steps import Steps


class Item(TimeStampedModel, StatusModel):
    STATUS = Choices("draft", "published")

    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    published_at = MonitorField(monitor="status", when=["published"], null=True, default=None)
    tracker = FieldTracker()


class Key(UUIDModel):
    name = models.CharField(max_length=20)
    code = UrlsafeTokenField(max_length=16)


class Place(models.Model):
    name = models.CharField(max_length=20)
    objects = InheritanceManager()


class Shop(Place):
    size = models.IntegerField(default=0)


class Soft(SoftDeletableModel):
    name = models.CharField(max_length=20)


def make(title, room):
    return Item.objects.create(title=title, room=room)


FIELDS = ["title", "room", "status", "created", "modified", "published_at"]
RECORDS = [
    {"stream": "keys", "model": "mysite.Key", "fields": ["name", "code"]},
    {"stream": "places", "model": "mysite.Place", "fields": ["name"]},
    {"stream": "shops", "model": "mysite.Shop", "fields": ["name", "size"]},
    {"stream": "soft", "model": "mysite.Soft", "fields": ["name", "is_removed"]},
]
step = Steps()


@step
def tracked_change():
    row = make("tracked", 1)
    row.title = "changed"
    assert row.tracker.has_changed("title")
    row.save()
    assert not row.tracker.changed()


@step
def tracked_change_of_a_deferred_row():
    row = Item.objects.only("room").get(title="changed")
    row.room = 2
    row.save()


@step
def monitored_status():
    row = Item.objects.get(title="changed")
    row.status = "published"
    row.save()
    Item.published.filter(title="changed").update(room=3)


@step
def own_keys():
    row = Key.objects.create(name="a")
    row.name = "b"
    row.save()


@step
def subclasses():
    Shop.objects.create(name="shop", size=3)
    row = Place.objects.select_subclasses().get(name="shop")
    row.size, row.name = 4, "bigger"
    row.save()


@step
def soft_delete():
    row = Soft(name="a")
    row.save()
    row.delete()
    Soft.all_objects.filter(name="a").update(name="b")


@step
def cleared():
    Place.objects.all().delete()
    Key.objects.all().delete()
    for row in Soft.all_objects.all():
        row.delete(soft=False)
