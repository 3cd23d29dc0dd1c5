"""django-polymorphic: query sets that return instances of child models, through joined tables."""

from __future__ import annotations

from django.db import models
from polymorphic.models import PolymorphicModel

from tests.guests.steps import Steps


class Item(PolymorphicModel):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


class Book(Item):
    pages = models.IntegerField(default=0)


class Record(Item):
    artist = models.CharField(max_length=50, default="nobody")


def make(title, room):
    kinds = (Item, Book, Record)
    return kinds[Item.objects.count() % 3].objects.create(title=title, room=room)


FIELDS = ["title", "room"]
RECORDS = [
    {"stream": "books", "model": "mysite.Book", "fields": ["title", "room", "pages"]},
    {"stream": "records", "model": "mysite.Record", "fields": ["title", "artist"], "groups": ["by-{artist}"]},
]
step = Steps()


@step
def children():
    Book.objects.create(title="a book", pages=3)
    Record.objects.create(title="a record", artist="someone")


@step
def save_of_a_child_found_by_its_parent():
    for row in Item.objects.filter(title__startswith="a "):
        row.title += "!"
        row.room = 2
        row.save()


@step
def save_of_the_childs_own_column():
    row = Item.objects.instance_of(Book).get(title="a book!")
    row.pages = 9
    row.save(update_fields=["pages"])


@step
def update_of_the_parents_columns():
    Item.objects.instance_of(Book).update(room=3)


@step
def update_of_a_childs_columns():
    Record.objects.filter(title="a record!").update(artist="another", title="renamed")


@step
def save_of_the_parent_alone():
    row = Item.objects.non_polymorphic().get(title="a book!")
    row.title = "a book?"
    row.save()


@step
def delete_by_the_parent():
    Item.objects.get(title="a book?").delete()
    Item.objects.filter(Record___artist="another").delete()
