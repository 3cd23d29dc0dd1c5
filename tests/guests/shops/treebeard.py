"""django-treebeard: trees of each of its three kinds, moved by SQL of the package."""

from __future__ import annotations

from django.db import models
from treebeard.al_tree import AL_Node
from treebeard.mp_tree import MP_Node
from treebeard.ns_tree import NS_Node

from tests.guests.steps import Steps


class Item(MP_Node):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


class Nested(NS_Node):
    name = models.CharField(max_length=50)


class Listed(AL_Node):
    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", null=True, related_name="children_set", on_delete=models.CASCADE, db_index=True)
    sib_order = models.PositiveIntegerField()


def make(title, room):
    return Item.add_root(title=title, room=room)


#: Rows without a place in the tree cannot be stored.
WITHOUT = frozenset({"bulk_create", "bulk_create_that_ignores_conflicts"})
RECORDS = [
    {"stream": "nested", "model": "mysite.Nested", "fields": ["name", "lft", "rgt", "tree_id", "depth"]},
    {"stream": "listed", "model": "mysite.Listed", "fields": ["name", "parent", "sib_order"]},
]
step = Steps()


@step(is_raw=True)
def materialized_paths():
    root = make("root", 1)
    for number in range(3):
        Item.objects.get(pk=root.pk).add_child(title=f"child {number}", room=1)


@step(is_raw=True)
def move_of_a_branch():
    make("other", 1)
    Item.objects.get(title="child 1").move(Item.objects.get(title="other"), "first-child")
    Item.objects.get(title="other").move(Item.objects.get(title="root"), "left")


@step(is_raw=True)
def bulk_load():
    Item.load_bulk([{"data": {"title": "loaded", "room": 2}, "children": [{"data": {"title": "under", "room": 3}}]}])


@step(is_raw=True)
def repair():
    Item.objects.filter(title="root").update(numchild=9)
    Item.fix_tree()


@step(is_raw=True)
def delete_of_a_branch():
    Item.objects.get(title="loaded").delete()
    Item.objects.filter(title__in=["root", "other"]).delete()


@step(is_raw=True)
def nested_sets():
    root = Nested.add_root(name="root")
    for number in range(3):
        Nested.objects.get(pk=root.pk).add_child(name=f"child {number}")
    Nested.objects.get(name="child 2").move(Nested.objects.get(name="child 0"), "left")
    Nested.objects.get(name="child 1").delete()


@step(is_raw=True)
def adjacency_lists():
    root = Listed.add_root(name="root")
    for number in range(3):
        Listed.objects.get(pk=root.pk).add_child(name=f"child {number}")
    Listed.objects.get(name="child 2").move(Listed.objects.get(name="child 0"), "left")


@step(is_raw=True)
def cleared():
    for row in Nested.get_root_nodes():
        row.delete()
    Listed.objects.all().delete()
