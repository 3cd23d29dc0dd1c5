"""Ways to change foreign keys from their other side, and lists."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from tests.matrix.models import Label

from .way import all_but, only, way

# foreign keys from their other side ---------------------------------------------------------------------------------


@way(moves=False)
def reverse_add(sample):
    sample.reverse(sample.shelves[1], "shelf").add(sample.row("a"), sample.row("s"))


@way(moves=False, is_one_call=False)
def reverse_add_one_by_one(sample):
    sample.reverse(sample.shelves[1], "shelf").add(sample.row("a"), sample.row("b"), bulk=False)


@way(moves=False)
def reverse_remove(sample):
    rows = sample.reverse(sample.shelves[0], "shelf")
    rows.remove(*rows.all()[:1])


@way(moves=False)
def reverse_clear(sample):
    sample.reverse(sample.shelves[0], "shelf").clear()


@way(moves=False, is_one_call=False)
def reverse_clear_one_by_one(sample):
    sample.reverse(sample.shelves[0], "shelf").clear(bulk=False)


@way(moves=False)
def reverse_clear_async(sample):
    async_to_sync(sample.reverse(sample.shelves[0], "shelf").aclear)()


@way(moves=False, is_one_call=False)
def reverse_set(sample):
    sample.reverse(sample.shelves[1], "shelf").set([sample.row("a"), sample.row("b"), sample.row("s")])


@way(moves=False, is_one_call=False)
def reverse_set_async(sample):
    async_to_sync(sample.reverse(sample.shelves[1], "shelf").aset)([sample.row("b")])


@way(all_but("child", "grandchild", "child bound by parent", "two parents", "two children"), least=12, moves=False)
def reverse_create(sample):
    sample.reverse(sample.shelves[1], "shelf").create(**sample.new_values(sample.new_name()))


@way(all_but("child", "grandchild", "child bound by parent", "two parents", "two children"), least=12, moves=False)
def reverse_update_or_create(sample):
    row = sample.row("a")
    shelf = sample.shelves[0]
    sample.reverse(shelf, "shelf").update_or_create(name=row.name, defaults={"room": 8})


# lists ---------------------------------------------------------------------------------------------------------------


@way(moves=False)
def list_add(sample):
    sample.row("b").labels.add(*sample.labels)


@way(moves=False)
def list_add_by_key(sample):
    sample.row("c").labels.add(sample.labels[0].pk, sample.labels[1].pk)


@way(moves=False)
def list_add_what_is_there(sample):
    sample.row("a").labels.add(sample.labels[0])


@way(moves=False)
def list_add_async(sample):
    async_to_sync(sample.row("c").labels.aadd)(sample.labels[2])


@way(moves=False)
def list_remove(sample):
    row = sample.row("a")
    row.labels.remove(*sample.labels)


@way(moves=False)
def list_clear(sample):
    sample.row("a").labels.clear()


@way(moves=False)
def list_set(sample):
    sample.row("a").labels.set(sample.labels[1:])


@way(moves=False)
def list_set_anew(sample):
    sample.row("a").labels.set(sample.labels[1:], clear=True)


@way(moves=False)
def list_set_async(sample):
    async_to_sync(sample.row("b").labels.aset)(sample.labels[2:])


@way(moves=False)
def list_create(sample):
    sample.row("a").labels.create(name="label new")


@way(moves=False)
def list_add_from_the_other_side(sample):
    sample.reverse(sample.labels[2], "labels").add(*sample.rows)


@way(moves=False)
def list_remove_from_the_other_side(sample):
    sample.reverse(sample.labels[0], "labels").remove(sample.row("a"), sample.row("b"))


@way(moves=False)
def list_clear_from_the_other_side(sample):
    sample.reverse(sample.labels[0], "labels").clear()


@way(moves=False)
def list_set_from_the_other_side(sample):
    sample.reverse(sample.labels[1], "labels").set([sample.row("b"), sample.row("c")])


@way(moves=False)
def list_loses_a_row(sample):
    sample.labels[0].delete()


@way(moves=False)
def list_loses_rows_of_a_query_set(sample):
    Label.objects.all().delete()


@way(only("tree"), least=1, moves=False)
def symmetrical_add(sample):
    sample.row("c").neighbours.add(sample.row("b"), sample.row("s"))


@way(only("tree"), least=1, moves=False)
def symmetrical_remove(sample):
    sample.row("a").neighbours.remove(sample.row("b"))


@way(only("tree"), least=1, moves=False)
def symmetrical_clear(sample):
    sample.row("a").neighbours.clear()


@way(only("tree"), least=1, moves=False)
def symmetrical_set(sample):
    sample.row("a").neighbours.set([sample.row("s")])
