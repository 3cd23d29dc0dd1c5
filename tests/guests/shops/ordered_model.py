"""django-ordered-model: an order that moving a row changes in other rows by ``update``."""

from __future__ import annotations

from django.db import models
from ordered_model.models import OrderedModel

from tests.guests.steps import Steps


class Shelf(models.Model):
    number = models.IntegerField()


class Item(OrderedModel):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    shelf = models.ForeignKey(Shelf, null=True, on_delete=models.CASCADE)
    order_with_respect_to = "shelf"

    class Meta(OrderedModel.Meta):
        pass


def make(title, room):
    shelf, _ = Shelf.objects.get_or_create(number=1)
    return Item.objects.create(title=title, room=room, shelf=shelf)


def a(number):
    return Item.objects.get(title=f"ordered {number}")


step = Steps()


@step
def rows_in_order():
    for number in range(4):
        make(f"ordered {number}", 1)


@step
def steps_up_and_down():
    a(3).up()
    a(0).down()
    a(1).top()
    a(2).bottom()


@step
def move_above_and_to():
    a(0).above(a(1))
    a(3).to(0)
    a(2).below(a(0))


@step
def swap():
    Item.objects.filter(title="ordered 0").first().swap(a(3))


@step
def save_that_moves_to_another_order():
    row = a(1)
    row.shelf = Shelf.objects.create(number=2)
    row.save()


@step
def bulk_create_in_order():
    Item.objects.bulk_create([Item(title=f"ordered {number}", room=3) for number in (5, 6)])


@step
def delete_that_closes_the_gap():
    a(0).delete()
    Item.objects.filter(title__startswith="ordered").delete()
