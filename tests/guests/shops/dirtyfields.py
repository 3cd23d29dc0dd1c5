"""django-dirtyfields: a base class whose ``__init__`` and ``save`` store each row's values."""

from __future__ import annotations

from dirtyfields import DirtyFieldsMixin
from django.db import models

from tests.guests.steps import Steps


class Item(DirtyFieldsMixin, models.Model):
    ENABLE_M2M_CHECK = True

    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    labels = models.ManyToManyField("Label")


class Label(models.Model):
    name = models.CharField(max_length=20)


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [{"stream": "listed", "model": "mysite.Item", "fields": ["title", "labels"]}]
step = Steps()


@step
def save_of_dirty_fields():
    row = make("dirty", 1)
    row.title = "clean"
    assert row.get_dirty_fields() == {"title": "dirty"}
    row.save_dirty_fields()
    assert not row.is_dirty()


@step
def save_of_a_deferred_row():
    row = Item.objects.only("room").get(title="clean")
    row.room = 3
    row.save_dirty_fields()


@step
def list_of_a_tracked_row():
    row = Item.objects.get(title="clean")
    row.labels.add(*(Label.objects.create(name=name) for name in "ab"))
    row.labels.remove(row.labels.first())
    row.labels.clear()
