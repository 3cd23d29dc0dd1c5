"""Ways to delete rows."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from tests.matrix.models import Box, Holder, Shelf
from tests.matrix.sample import Sample

from .way import has_no_child, is_deleted_whole, only, way


def free_labels(sample: Sample) -> None:
    """Remove the through rows that would prevent a row from being deleted raw."""
    sample.through.objects.all()._raw_delete("default")


@way(is_deleted_whole, moves=False)
def delete(sample):
    sample.row("b").delete()


@way(is_deleted_whole, moves=False)
def delete_of_a_changed_instance(sample):
    row = sample.row("c")
    row.room, row.value, row.name = 8, 99, "never stored"
    row.delete()


@way(is_deleted_whole, moves=False)
def delete_async(sample):
    async_to_sync(sample.row("b").adelete)()


@way(is_deleted_whole, moves=False)
def delete_of_a_query_set(sample):
    sample.rows.delete()


@way(is_deleted_whole, moves=False)
def delete_of_a_query_set_found_by_relations(sample):
    sample.rows.filter(shelf__name="shelf 0", labels__in=sample.labels).delete()


@way(is_deleted_whole, moves=False)
def delete_of_a_query_set_async(sample):
    async_to_sync(sample.rows.filter(room=1).adelete)()


@way(moves=False)
def delete_of_nothing(sample):
    sample.rows.filter(name="nobody").delete()


@way(has_no_child, least=12, moves=False, prepare=free_labels)
def raw_delete(sample):
    sample.objects.filter(name=sample.row("s").name)._raw_delete("default")


@way(lambda kind: has_no_child(kind) and kind.name != "tree", least=12, moves=False, prepare=free_labels)
def raw_delete_of_many(sample):
    sample.rows._raw_delete("default")


@way(lambda kind: kind.has_parents, least=3, moves=False)
def delete_that_keeps_parents(sample):
    sample.row("b").delete(keep_parents=True)


@way(moves=False)
def cascade(sample):
    sample.boxes[0].delete()


@way(moves=False)
def cascade_of_a_query_set(sample):
    Box.objects.all().delete()


@way(moves=False)
def set_null(sample):
    sample.shelves[0].delete()


@way(moves=False)
def set_null_of_a_query_set(sample):
    Shelf.objects.filter(name__startswith="shelf").delete()


@way(only("one to one"), least=1, moves=False)
def cascade_by_the_key(sample):
    sample.row("a").holder.delete()


@way(only("one to one"), least=1, moves=False)
def cascade_by_the_key_of_a_query_set(sample):
    Holder.objects.filter(pk__in=[row.pk for row in sample.rows]).delete()


@way(only("tree"), least=1, moves=False)
def cascade_within_the_model(sample):
    sample.row("a").delete()
