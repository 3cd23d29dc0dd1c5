"""django-taggit: a manager of tags over a generic relation."""

from __future__ import annotations

from django.db import models
from taggit.managers import TaggableManager

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    tags = TaggableManager()


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [
    {"stream": "tags", "model": "taggit.Tag", "fields": ["name", "slug"]},
    {"stream": "tagged", "model": "taggit.TaggedItem", "fields": ["tag", "object_id"]},
]
step = Steps()


@step
def tags_added():
    row = make("tagged", 1)
    row.tags.add("red", "green", "blue")


@step
def tags_set_and_removed():
    row = Item.objects.get(title="tagged")
    row.tags.set(["green", "yellow"])
    row.tags.remove("green")


@step
def save_of_a_tagged_row():
    row = Item.objects.get(title="tagged")
    row.room = 2
    row.save()


@step
def tags_cleared():
    Item.objects.get(title="tagged").tags.clear()


@step
def delete_of_a_tagged_row():
    row = Item.objects.get(title="tagged")
    row.tags.add("last")
    row.delete()
