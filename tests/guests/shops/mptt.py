"""django-mptt: trees by numbers that SQL of the package shifts in rows other than the saved one."""

from __future__ import annotations

from django.db import models
from mptt.models import MPTTModel, TreeForeignKey

from tests.guests.steps import Steps


class Item(MPTTModel):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    parent = TreeForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")


def make(title, room):
    return Item.objects.create(title=title, room=room)


def a(title):
    return Item.objects.get(title=title)


#: Rows without a place in the tree cannot be stored.
WITHOUT = frozenset({"bulk_create", "bulk_create_that_ignores_conflicts"})
step = Steps()


@step(is_raw=True)
def tree():
    root = make("root", 1)
    for number in range(3):
        Item.objects.create(title=f"child {number}", parent=root)
    Item.objects.create(title="leaf", parent=a("child 0"))


@step(is_raw=True)
def insert_before():
    Item.objects.insert_node(Item(title="first"), a("root"), position="first-child", save=True)


@step(is_raw=True)
def move():
    a("leaf").move_to(a("child 2"), "first-child")
    a("child 1").move_to(None)


@step(is_raw=True)
def save_that_moves_in_the_tree():
    row = a("child 0")
    row.parent = a("child 1")
    row.save()


@step
def save_that_stays_in_the_tree():
    row = a("leaf")
    row.room = 2
    row.save()


@step(is_raw=True)
def delayed_updates():
    with Item.objects.delay_mptt_updates():
        for number in range(3):
            Item.objects.create(title=f"late {number}", parent=a("root"))


@step(is_raw=True)
def rebuild():
    Item.objects.filter(title="late 1").update(lft=0, rght=0)
    Item.objects.rebuild()


@step(is_raw=True)
def delete_of_a_branch():
    a("child 1").delete()
    a("root").delete()
