"""The ways to write with the ORM, each as a function of the sample.

A way returns the rows that it wrote without necessarily changing them, as instances, or nothing. Rows that it needs
beforehand are made by its ``prepare``, without capture.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from .kinds import Kind
from .models import Box, Holder, Host, Label, Shelf
from .sample import Sample

Run = Callable[[Sample], Iterable[Any] | None]


@dataclass(frozen=True)
class Way:
    """One way. ``fits`` says for which kinds it makes sense, ``least`` how many kinds that must be at least."""

    name: str
    run: Run
    fits: Callable[[Kind], bool]
    least: int
    #: Whether it writes the sample's ``changes``; if not, it needs only one of them.
    moves: bool
    #: Moves that it cannot make.
    without: frozenset[str]
    #: Whether it is one call, which reports each row once.
    is_one_call: bool
    #: Whether all groups may be resynced, because the written rows cannot be determined.
    may_lose_track: bool
    prepare: Callable[[Sample], Any] | None


WAYS: dict[str, Way] = {}

#: A row that its base manager hides cannot be saved: Django does not find it, and inserts it again.
HIDDEN = frozenset({"sleep"})
#: Django's ``bulk_update`` takes the keys of a second parent's table for those of the row's.
SECOND = frozenset({"crown"})


def _any(kind: Kind) -> bool:
    return True


def _one_table(kind: Kind) -> bool:
    """Return whether a row is in one table, as Django's bulk inserts require."""
    return not kind.has_parents


def _alone(kind: Kind) -> bool:
    """Return whether a row of the written model has no child row, which would prevent its deletion alone."""
    return not kind.has_children


def _whole(kind: Kind) -> bool:
    """Return whether Django deletes all of a row: it does not know a parent's other children."""
    return kind.beside is None


def _is(*names: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.name in names


def _not(*names: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.name not in names


def way(
    fits: Callable[[Kind], bool] = _any,
    *,
    least: int = 15,
    moves: bool = True,
    without: frozenset[str] = frozenset(),
    is_one_call: bool = True,
    may_lose_track: bool = False,
    prepare: Callable[[Sample], Any] | None = None,
) -> Callable[[Run], Run]:
    """Register a function in ``WAYS``, with underscores replaced by spaces in its name."""

    def add(run: Run) -> Run:
        name = run.__name__.strip("_").replace("_", " ")
        WAYS[name] = Way(name, run, fits, least, moves, without, is_one_call, may_lose_track, prepare)
        return run

    return add


def free_labels(sample: Sample) -> None:
    """Remove the through rows that would prevent a row from being deleted raw."""
    sample.through.objects.all()._raw_delete("default")


# save ----------------------------------------------------------------------------------------------------------------


@way()
def save(sample):
    row = sample.change(sample.row("a"))
    row.save()
    return [row]


@way()
def save_where_nothing_changed(sample):
    row = sample.row("b")
    row.save()
    return [row]


@way()
def save_new(sample):
    sample.make().save()


@way()
def save_forced_to_insert(sample):
    sample.make().save(force_insert=True)


@way()
def save_forced_to_update(sample):
    row = sample.change(sample.row("c"))
    row.save(force_update=True)
    return [row]


@way()
def save_update_fields(sample):
    row = sample.change(sample.row("a"))
    row.name = "never stored"
    row.save(update_fields=list(sample.changes))
    return [row]


@way()
def save_a_row_read_by_only(sample):
    row = sample.objects.only("pk", "name").get(pk=sample.row("b").pk)
    sample.change(row).save()
    return [row]


@way()
def save_a_row_read_by_defer(sample):
    row = sample.objects.defer("room", "is_open", "shelf").get(pk=sample.row("a").pk)
    row.value = 77
    row.save()


# If the key has a default, Django inserts without looking for the row, so this is not an update there.
@way(_not("uuid"))
def save_under_a_known_key(sample):
    stored = sample.row("a")
    fields = {field.attname: getattr(stored, field.attname) for field in sample.model._meta.concrete_fields}
    sample.change(sample.model(**fields)).save()
    return [stored]


@way()
def save_a_copy_without_key(sample):
    row = sample.change(sample.row("a"))
    row.name = sample.new_name()
    for field in sample.model._meta.concrete_fields:
        if field.primary_key or field.name.endswith("_ptr"):
            setattr(row, field.attname, None)
    row.pk = None
    row._state.adding = True
    values = sample.new_values(row.name)
    for name in set(values) - {"about"} - set(sample.changes):
        setattr(row, name, values[name])
    row.save()


@way(is_one_call=False, without=HIDDEN)
def save_twice_in_one_transaction(sample):
    row = sample.row("a")
    with transaction.atomic():
        row.value = 61
        row.save()
        sample.change(row).save()


@way(moves=False)
def save_an_expression(sample):
    row = sample.row("a")
    row.value, row.room = F("value") + 1, F("room") + 1
    row.save()


@way(_not("hiding"), moves=False)
def save_an_expression_of_a_null(sample):
    row = sample.row("s")
    row.name = Concat("name", Value("!"))
    row.save(update_fields=["name"])


@way(_one_table, least=10)
def save_base_raw(sample):
    row = sample.change(sample.row("a"))
    row.save_base(raw=True)
    return [row]


@way()
def save_async(sample):
    row = sample.change(sample.row("a"))
    async_to_sync(row.asave)()
    return [row]


# managers ------------------------------------------------------------------------------------------------------------


@way()
def create(sample):
    sample.objects.create(**sample.new_values(sample.new_name()))


@way()
def create_async(sample):
    async_to_sync(sample.objects.acreate)(**sample.new_values(sample.new_name()))


@way()
def get_or_create_what_is_new(sample):
    values = sample.new_values(sample.new_name())
    sample.objects.get_or_create(name=values.pop("name"), defaults=values)


@way(moves=False)
def get_or_create_what_is_there(sample):
    sample.objects.get_or_create(name=sample.row("a").name, defaults={"room": 9})


@way()
def get_or_create_async(sample):
    values = sample.new_values(sample.new_name())
    async_to_sync(sample.objects.aget_or_create)(name=values.pop("name"), defaults=values)


@way()
def update_or_create_what_is_new(sample):
    values = sample.new_values(sample.new_name())
    sample.objects.update_or_create(name=values.pop("name"), defaults=values)


@way()
def update_or_create_what_is_there(sample):
    row, _ = sample.objects.update_or_create(name=sample.row("a").name, defaults=sample.changes)
    return [row]


@way()
def update_or_create_async(sample):
    row, _ = async_to_sync(sample.objects.aupdate_or_create)(name=sample.row("b").name, defaults=sample.changes)
    return [row]


# update --------------------------------------------------------------------------------------------------------------


@way()
def update_one(sample):
    row = sample.row("a")
    sample.objects.filter(pk=row.pk).update(**sample.changes)
    return [row]


@way()
def update_many(sample):
    rows = list(sample.rows)
    sample.rows.update(**sample.changes)
    return rows


@way()
def update_async(sample):
    rows = list(sample.rows)
    async_to_sync(sample.rows.aupdate)(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_what_it_changes(sample):
    rows = list(sample.rows)
    sample.rows.filter(value=0, is_open__in=[True, False]).update(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_a_relation(sample):
    shelf = sample.shelves[0]
    rows = list(sample.rows.filter(shelf=shelf))
    sample.rows.filter(shelf__name=shelf.name).update(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_a_list(sample):
    rows = list(sample.rows)
    sample.rows.filter(labels__in=sample.labels[:2]).distinct().update(**sample.changes)
    return rows


@way(moves=False)
def update_by_an_expression(sample):
    sample.rows.update(value=F("value") + 1, room=F("room") + 1)


@way(moves=False)
def update_of_a_relation(sample):
    rows = list(sample.rows)
    sample.rows.update(shelf=sample.shelves[1])
    return rows


@way()
def update_of_locked_rows(sample):
    rows = list(sample.rows)
    sample.rows.select_for_update().update(**sample.changes)
    return rows


@way()
def update_of_nothing(sample):
    sample.rows.filter(name="nobody").update(**sample.changes)


@way()
def update_of_rows_in_order(sample):
    rows = list(sample.rows)
    sample.rows.order_by("-name", "room").update(**sample.changes)
    return rows


@way()
def update_by_a_related_manager(sample):
    shelf = sample.shelves[0]
    rows = list(sample.objects.filter(shelf=shelf))
    changes = {name: value for name, value in sample.changes.items() if _is_in_piece(name)} or {"value": 8}
    sample.reverse(shelf, "shelf").update(**changes)
    return rows


@way(_is("text key", "uuid"), least=2, moves=False, may_lose_track=True, is_one_call=False)
def update_of_the_key(sample):
    row = sample.row("s")
    key = uuid.UUID(int=77 + sample.shift) if sample.kind.name == "uuid" else f"moved{sample.shift}"
    sample.objects.filter(pk=row.pk).update(**{sample.model._meta.pk.name: key})


def _is_in_piece(name: str) -> bool:
    return name in {"name", "value", "room", "is_open"}


# bulk_update ---------------------------------------------------------------------------------------------------------


@way(without=SECOND)
def bulk_update(sample):
    rows = [sample.change(row) for row in sample.rows]
    sample.objects.bulk_update(rows, list(sample.changes))
    return rows


@way(without=SECOND)
def bulk_update_in_batches(sample):
    rows = [sample.change(row) for row in sample.rows]
    sample.objects.bulk_update(rows, list(sample.changes), batch_size=1)
    return rows


@way(without=SECOND)
def bulk_update_of_one(sample):
    row = sample.change(sample.row("b"))
    sample.objects.bulk_update([row], list(sample.changes))
    return [row]


@way(without=SECOND)
def bulk_update_async(sample):
    rows = [sample.change(row) for row in sample.rows]
    async_to_sync(sample.objects.abulk_update)(rows, list(sample.changes))
    return rows


@way(moves=False)
def bulk_update_by_an_expression(sample):
    rows = list(sample.rows)
    for row in rows:
        row.room = F("room") + 1
    sample.objects.bulk_update(rows, ["room"])
    return rows


# bulk_create ---------------------------------------------------------------------------------------------------------


@way(_one_table, least=10)
def bulk_create(sample):
    sample.objects.bulk_create([sample.make() for _ in range(3)])


@way(_one_table, least=10)
def bulk_create_one(sample):
    sample.objects.bulk_create([sample.make()])


@way(_one_table, least=10)
def bulk_create_in_batches(sample):
    sample.objects.bulk_create([sample.make() for _ in range(3)], batch_size=2)


@way(_one_table, least=10)
def bulk_create_async(sample):
    async_to_sync(sample.objects.abulk_create)([sample.make() for _ in range(2)])


@way(_one_table, least=10, moves=False)
def bulk_create_of_expressions(sample):
    sample.objects.bulk_create([sample.make(value=Value(4) + 1, room="7") for _ in range(2)])


@way(_one_table, least=10)
def bulk_create_that_ignores_conflicts(sample):
    taken = sample.row("a").name
    sample.objects.bulk_create([sample.make(), sample.make(name=taken), sample.make()], ignore_conflicts=True)


#: MySQL and MariaDB are not told which column conflicts, so the rows of an upsert are not known beforehand.
HAS_NO_TARGET = connection.vendor == "mysql"


def upsert(sample, rows, name):
    """Insert rows, or update the rows that they conflict with."""
    target = None if HAS_NO_TARGET else [name]
    sample.objects.bulk_create(rows, update_conflicts=True, unique_fields=target, update_fields=list(sample.changes))


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_conflicts(sample):
    row = sample.row("a")
    rows = [sample.make(), sample.make(name=row.name)]
    upsert(sample, rows, "name")
    return [row]


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_many_conflicts(sample):
    stored = list(sample.rows)
    rows = [sample.make(), *(sample.make(name=row.name) for row in stored)]
    upsert(sample, rows, "name")
    return stored


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_by_key(sample):
    row = sample.row("a")
    keyed = sample.change(sample.objects.get(pk=row.pk))
    upsert(sample, [keyed], "pk")
    return [row]


@way(_one_table, least=10, moves=False)
def bulk_create_by_a_related_manager(sample):
    shelf = sample.shelves[1]
    sample.reverse(shelf, "shelf").bulk_create([sample.make(shelf=shelf) for _ in range(2)])


# delete --------------------------------------------------------------------------------------------------------------


@way(_whole, moves=False)
def delete(sample):
    sample.row("b").delete()


@way(_whole, moves=False)
def delete_of_a_changed_instance(sample):
    row = sample.row("c")
    row.room, row.value, row.name = 8, 99, "never stored"
    row.delete()


@way(_whole, moves=False)
def delete_async(sample):
    async_to_sync(sample.row("b").adelete)()


@way(_whole, moves=False)
def delete_of_a_query_set(sample):
    sample.rows.delete()


@way(_whole, moves=False)
def delete_of_a_query_set_found_by_relations(sample):
    sample.rows.filter(shelf__name="shelf 0", labels__in=sample.labels).delete()


@way(_whole, moves=False)
def delete_of_a_query_set_async(sample):
    async_to_sync(sample.rows.filter(room=1).adelete)()


@way(moves=False)
def delete_of_nothing(sample):
    sample.rows.filter(name="nobody").delete()


@way(_alone, least=12, moves=False, prepare=free_labels)
def raw_delete(sample):
    sample.objects.filter(name=sample.row("s").name)._raw_delete("default")


@way(lambda kind: _alone(kind) and kind.name != "tree", least=12, moves=False, prepare=free_labels)
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


@way(_is("one to one"), least=1, moves=False)
def cascade_by_the_key(sample):
    sample.row("a").holder.delete()


@way(_is("one to one"), least=1, moves=False)
def cascade_by_the_key_of_a_query_set(sample):
    Holder.objects.filter(pk__in=[row.pk for row in sample.rows]).delete()


@way(_is("tree"), least=1, moves=False)
def cascade_within_the_model(sample):
    sample.row("a").delete()


# foreign keys from their other side
# ----------------------------------------------------------------------------------


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


@way(_not("child", "grandchild", "child bound by parent", "two parents", "two children"), least=12, moves=False)
def reverse_create(sample):
    sample.reverse(sample.shelves[1], "shelf").create(**sample.new_values(sample.new_name()))


@way(_not("child", "grandchild", "child bound by parent", "two parents", "two children"), least=12, moves=False)
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


@way(_is("tree"), least=1, moves=False)
def symmetrical_add(sample):
    sample.row("c").neighbours.add(sample.row("b"), sample.row("s"))


@way(_is("tree"), least=1, moves=False)
def symmetrical_remove(sample):
    sample.row("a").neighbours.remove(sample.row("b"))


@way(_is("tree"), least=1, moves=False)
def symmetrical_clear(sample):
    sample.row("a").neighbours.clear()


@way(_is("tree"), least=1, moves=False)
def symmetrical_set(sample):
    sample.row("a").neighbours.set([sample.row("s")])


# through rows --------------------------------------------------------------------------------------------------------


@way(moves=False)
def through_save(sample):
    sample.through(**{f"{sample.owner_column}_id": sample.row("c").pk, "label": sample.labels[0]}).save()


@way(moves=False)
def through_save_that_moves(sample):
    row = sample.through_rows("ab").first()
    setattr(row, f"{sample.owner_column}_id", sample.row("c").pk)
    row.save()


@way(moves=False)
def through_bulk_create(sample):
    column = f"{sample.owner_column}_id"
    rows = [sample.through(**{column: sample.row(letter).pk}, label=sample.labels[2]) for letter in "abc"]
    sample.through.objects.bulk_create(rows)


@way(moves=False)
def through_update(sample):
    sample.through_rows("b").update(label=sample.labels[2])


@way(moves=False)
def through_update_that_moves(sample):
    sample.through_rows("b").update(**{f"{sample.owner_column}_id": sample.row("c").pk})


@way(moves=False)
def through_bulk_update(sample):
    rows = list(sample.through_rows("a"))
    for row in rows:
        setattr(row, f"{sample.owner_column}_id", sample.row("c").pk)
    sample.through.objects.bulk_update(rows, [sample.owner_column])


@way(moves=False)
def through_delete(sample):
    sample.through_rows("ab").first().delete()


@way(moves=False)
def through_delete_of_a_query_set(sample):
    sample.through_rows("ab").delete()


@way(moves=False)
def through_raw_delete(sample):
    sample.through_rows("ab")._raw_delete("default")


# fixtures ------------------------------------------------------------------------------------------------------------


def load(documents: list[dict[str, Any]]) -> None:
    """Store rows as ``loaddata`` does."""
    for loaded in serializers.deserialize("json", json.dumps(documents)):
        loaded.save()


def dump(sample: Sample, letter: str) -> list[dict[str, Any]]:
    """Return the fixture of a row, that of its parents first."""
    row = sample.row(letter)
    model = sample.model._meta.concrete_model
    parents = sorted(model._meta.get_parent_list(), key=lambda parent: len(parent._meta.get_parent_list()))
    rows = [parent._base_manager.get(pk=getattr(row, parent._meta.pk.attname)) for parent in parents]
    documents: list[dict[str, Any]] = json.loads(serializers.serialize("json", [*rows, row]))
    return documents


@way(is_one_call=False)
def fixture_of_a_known_row(sample):
    documents = dump(sample, "a")
    for document in documents:
        fields = document["fields"]
        fields |= {name: value for name, value in sample.changes.items() if name in fields}
    load(documents)
    return [sample.row("a")]


@way(_one_table, least=10, is_one_call=False)
def fixture_of_a_new_row(sample):
    [document] = dump(sample, "a")
    values = sample.new_values(sample.new_name())
    document["fields"] |= {name: value for name, value in values.items() if name in document["fields"]}
    made = {"text key": values.get("code"), "one to one": getattr(values.get("holder"), "pk", None)}
    document["pk"] = made.get(sample.kind.name) or ("5" * 32 if sample.kind.name == "uuid" else 5_000 + sample.shift)
    load([document])


# generic relations ---------------------------------------------------------------------------------------------------


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_add(sample):
    sample.hosts[1].notes.add(sample.row("a"), sample.row("b"))


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_add_one_by_one(sample):
    sample.hosts[1].notes.add(sample.row("a"), bulk=False)


@way(_is("generic"), least=1, moves=False)
def generic_create(sample):
    sample.hosts[1].notes.create(name=sample.new_name(), room=1)


@way(_is("generic"), least=1, moves=False)
def generic_remove(sample):
    sample.hosts[0].notes.remove(sample.row("a"))


@way(_is("generic"), least=1, moves=False)
def generic_clear(sample):
    sample.hosts[0].notes.clear()


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_set(sample):
    sample.hosts[1].notes.set([sample.row("a")])


@way(_is("generic"), least=1, moves=False)
def generic_update(sample):
    sample.hosts[0].notes.update(room=8)


@way(_is("generic"), least=1, moves=False)
def generic_cascade(sample):
    sample.hosts[0].delete()


@way(_is("generic"), least=1, moves=False)
def generic_cascade_of_a_query_set(sample):
    Host.objects.all().delete()
