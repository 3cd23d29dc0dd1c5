"""The ways to write that the ORM has, each as a function of a stage.

A way returns the rows that it wrote without perhaps changing them, as instances, or nothing. What it wants made
beforehand is made by its ``prepare``, out of capture's sight.
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
from .stage import Stage

Run = Callable[[Stage], Iterable[Any] | None]


@dataclass(frozen=True)
class Way:
    """One way. ``fits`` says for which kinds it makes sense, ``least`` for how many that must be."""

    name: str
    run: Run
    fits: Callable[[Kind], bool]
    least: int
    #: Whether it writes the stage's ``changes``; one that does not has no use for more than one of them.
    moves: bool
    #: Moves that it cannot make.
    without: frozenset[str]
    #: Whether it is one call, which tells of each row once.
    is_one_call: bool
    #: Whether it may be said to every group, for nobody can know the rows.
    may_lose_track: bool
    prepare: Callable[[Stage], Any] | None


WAYS: dict[str, Way] = {}

#: A row that its base manager hides cannot be saved: Django looks for it there, and inserts it again.
HIDDEN = frozenset({"sleep"})
#: Django's ``bulk_update`` takes the keys of a second parent's table for those of the row's.
SECOND = frozenset({"crown"})


def _any(kind: Kind) -> bool:
    return True


def _one_table(kind: Kind) -> bool:
    """Return whether a row lies in one table, as Django's bulk inserts ask."""
    return not kind.has_parents


def _alone(kind: Kind) -> bool:
    """Return whether a row of the written model has no child row, which would keep it from going alone."""
    return not kind.has_children


def _whole(kind: Kind) -> bool:
    """Return whether Django deletes all of a row: of a parent's other children it knows nothing."""
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
    prepare: Callable[[Stage], Any] | None = None,
) -> Callable[[Run], Run]:
    """Put a function into ``WAYS`` under its name in words."""

    def add(run: Run) -> Run:
        name = run.__name__.strip("_").replace("_", " ")
        WAYS[name] = Way(name, run, fits, least, moves, without, is_one_call, may_lose_track, prepare)
        return run

    return add


def free_labels(stage: Stage) -> None:
    """Let no through row keep a row from being deleted raw."""
    stage.through.objects.all()._raw_delete("default")


# save ----------------------------------------------------------------------------------------------------------------


@way()
def save(stage):
    row = stage.change(stage.row("a"))
    row.save()
    return [row]


@way()
def save_where_nothing_changed(stage):
    row = stage.row("b")
    row.save()
    return [row]


@way()
def save_new(stage):
    stage.make().save()


@way()
def save_forced_to_insert(stage):
    stage.make().save(force_insert=True)


@way()
def save_forced_to_update(stage):
    row = stage.change(stage.row("c"))
    row.save(force_update=True)
    return [row]


@way()
def save_update_fields(stage):
    row = stage.change(stage.row("a"))
    row.name = "never stored"
    row.save(update_fields=list(stage.changes))
    return [row]


@way()
def save_a_row_read_by_only(stage):
    row = stage.objects.only("pk", "name").get(pk=stage.row("b").pk)
    stage.change(row).save()
    return [row]


@way()
def save_a_row_read_by_defer(stage):
    row = stage.objects.defer("room", "is_open", "shelf").get(pk=stage.row("a").pk)
    row.value = 77
    row.save()


# Where the key has a default, Django inserts without a look: there it is no way to update.
@way(_not("uuid"))
def save_under_a_known_key(stage):
    stored = stage.row("a")
    fields = {field.attname: getattr(stored, field.attname) for field in stage.model._meta.concrete_fields}
    stage.change(stage.model(**fields)).save()
    return [stored]


@way()
def save_a_copy_without_key(stage):
    row = stage.change(stage.row("a"))
    row.name = stage.new_name()
    for field in stage.model._meta.concrete_fields:
        if field.primary_key or field.name.endswith("_ptr"):
            setattr(row, field.attname, None)
    row.pk = None
    row._state.adding = True
    values = stage.new_values(row.name)
    for name in set(values) - {"about"} - set(stage.changes):
        setattr(row, name, values[name])
    row.save()


@way(is_one_call=False, without=HIDDEN)
def save_twice_in_one_transaction(stage):
    row = stage.row("a")
    with transaction.atomic():
        row.value = 61
        row.save()
        stage.change(row).save()


@way(moves=False)
def save_an_expression(stage):
    row = stage.row("a")
    row.value, row.room = F("value") + 1, F("room") + 1
    row.save()


@way(_not("hiding"), moves=False)
def save_an_expression_of_a_null(stage):
    row = stage.row("s")
    row.name = Concat("name", Value("!"))
    row.save(update_fields=["name"])


@way(_one_table, least=10)
def save_base_raw(stage):
    row = stage.change(stage.row("a"))
    row.save_base(raw=True)
    return [row]


@way()
def save_async(stage):
    row = stage.change(stage.row("a"))
    async_to_sync(row.asave)()
    return [row]


# managers ------------------------------------------------------------------------------------------------------------


@way()
def create(stage):
    stage.objects.create(**stage.new_values(stage.new_name()))


@way()
def create_async(stage):
    async_to_sync(stage.objects.acreate)(**stage.new_values(stage.new_name()))


@way()
def get_or_create_what_is_new(stage):
    values = stage.new_values(stage.new_name())
    stage.objects.get_or_create(name=values.pop("name"), defaults=values)


@way(moves=False)
def get_or_create_what_is_there(stage):
    stage.objects.get_or_create(name=stage.row("a").name, defaults={"room": 9})


@way()
def get_or_create_async(stage):
    values = stage.new_values(stage.new_name())
    async_to_sync(stage.objects.aget_or_create)(name=values.pop("name"), defaults=values)


@way()
def update_or_create_what_is_new(stage):
    values = stage.new_values(stage.new_name())
    stage.objects.update_or_create(name=values.pop("name"), defaults=values)


@way()
def update_or_create_what_is_there(stage):
    row, _ = stage.objects.update_or_create(name=stage.row("a").name, defaults=stage.changes)
    return [row]


@way()
def update_or_create_async(stage):
    row, _ = async_to_sync(stage.objects.aupdate_or_create)(name=stage.row("b").name, defaults=stage.changes)
    return [row]


# update --------------------------------------------------------------------------------------------------------------


@way()
def update_one(stage):
    row = stage.row("a")
    stage.objects.filter(pk=row.pk).update(**stage.changes)
    return [row]


@way()
def update_many(stage):
    rows = list(stage.rows)
    stage.rows.update(**stage.changes)
    return rows


@way()
def update_async(stage):
    rows = list(stage.rows)
    async_to_sync(stage.rows.aupdate)(**stage.changes)
    return rows


@way()
def update_of_rows_found_by_what_it_changes(stage):
    rows = list(stage.rows)
    stage.rows.filter(value=0, is_open__in=[True, False]).update(**stage.changes)
    return rows


@way()
def update_of_rows_found_by_a_relation(stage):
    shelf = stage.shelves[0]
    rows = list(stage.rows.filter(shelf=shelf))
    stage.rows.filter(shelf__name=shelf.name).update(**stage.changes)
    return rows


@way()
def update_of_rows_found_by_a_list(stage):
    rows = list(stage.rows)
    stage.rows.filter(labels__in=stage.labels[:2]).distinct().update(**stage.changes)
    return rows


@way(moves=False)
def update_by_an_expression(stage):
    stage.rows.update(value=F("value") + 1, room=F("room") + 1)


@way(moves=False)
def update_of_a_relation(stage):
    rows = list(stage.rows)
    stage.rows.update(shelf=stage.shelves[1])
    return rows


@way()
def update_of_locked_rows(stage):
    rows = list(stage.rows)
    stage.rows.select_for_update().update(**stage.changes)
    return rows


@way()
def update_of_nothing(stage):
    stage.rows.filter(name="nobody").update(**stage.changes)


@way()
def update_of_rows_in_order(stage):
    rows = list(stage.rows)
    stage.rows.order_by("-name", "room").update(**stage.changes)
    return rows


@way()
def update_by_a_related_manager(stage):
    shelf = stage.shelves[0]
    rows = list(stage.objects.filter(shelf=shelf))
    changes = {name: value for name, value in stage.changes.items() if _is_in_piece(name)} or {"value": 8}
    stage.reverse(shelf, "shelf").update(**changes)
    return rows


@way(_is("text key", "uuid"), least=2, moves=False, may_lose_track=True, is_one_call=False)
def update_of_the_key(stage):
    row = stage.row("s")
    key = uuid.UUID(int=77 + stage.turn) if stage.kind.name == "uuid" else f"moved{stage.turn}"
    stage.objects.filter(pk=row.pk).update(**{stage.model._meta.pk.name: key})


def _is_in_piece(name: str) -> bool:
    return name in {"name", "value", "room", "is_open"}


# bulk_update ---------------------------------------------------------------------------------------------------------


@way(without=SECOND)
def bulk_update(stage):
    rows = [stage.change(row) for row in stage.rows]
    stage.objects.bulk_update(rows, list(stage.changes))
    return rows


@way(without=SECOND)
def bulk_update_in_batches(stage):
    rows = [stage.change(row) for row in stage.rows]
    stage.objects.bulk_update(rows, list(stage.changes), batch_size=1)
    return rows


@way(without=SECOND)
def bulk_update_of_one(stage):
    row = stage.change(stage.row("b"))
    stage.objects.bulk_update([row], list(stage.changes))
    return [row]


@way(without=SECOND)
def bulk_update_async(stage):
    rows = [stage.change(row) for row in stage.rows]
    async_to_sync(stage.objects.abulk_update)(rows, list(stage.changes))
    return rows


@way(moves=False)
def bulk_update_by_an_expression(stage):
    rows = list(stage.rows)
    for row in rows:
        row.room = F("room") + 1
    stage.objects.bulk_update(rows, ["room"])
    return rows


# bulk_create ---------------------------------------------------------------------------------------------------------


@way(_one_table, least=10)
def bulk_create(stage):
    stage.objects.bulk_create([stage.make() for _ in range(3)])


@way(_one_table, least=10)
def bulk_create_one(stage):
    stage.objects.bulk_create([stage.make()])


@way(_one_table, least=10)
def bulk_create_in_batches(stage):
    stage.objects.bulk_create([stage.make() for _ in range(3)], batch_size=2)


@way(_one_table, least=10)
def bulk_create_async(stage):
    async_to_sync(stage.objects.abulk_create)([stage.make() for _ in range(2)])


@way(_one_table, least=10, moves=False)
def bulk_create_of_expressions(stage):
    stage.objects.bulk_create([stage.make(value=Value(4) + 1, room="7") for _ in range(2)])


@way(_one_table, least=10)
def bulk_create_that_ignores_conflicts(stage):
    taken = stage.row("a").name
    stage.objects.bulk_create([stage.make(), stage.make(name=taken), stage.make()], ignore_conflicts=True)


#: MySQL and MariaDB are not told by which column rows meet, so nobody knows beforehand which rows an upsert will meet.
HAS_NO_TARGET = connection.vendor == "mysql"


def upsert(stage, rows, name):
    """Insert rows, or update those that they meet."""
    target = None if HAS_NO_TARGET else [name]
    stage.objects.bulk_create(rows, update_conflicts=True, unique_fields=target, update_fields=list(stage.changes))


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_conflicts(stage):
    row = stage.row("a")
    rows = [stage.make(), stage.make(name=row.name)]
    upsert(stage, rows, "name")
    return [row]


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_many_conflicts(stage):
    stored = list(stage.rows)
    rows = [stage.make(), *(stage.make(name=row.name) for row in stored)]
    upsert(stage, rows, "name")
    return stored


@way(_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_by_key(stage):
    row = stage.row("a")
    keyed = stage.change(stage.objects.get(pk=row.pk))
    upsert(stage, [keyed], "pk")
    return [row]


@way(_one_table, least=10, moves=False)
def bulk_create_by_a_related_manager(stage):
    shelf = stage.shelves[1]
    stage.reverse(shelf, "shelf").bulk_create([stage.make(shelf=shelf) for _ in range(2)])


# delete --------------------------------------------------------------------------------------------------------------


@way(_whole, moves=False)
def delete(stage):
    stage.row("b").delete()


@way(_whole, moves=False)
def delete_of_a_changed_instance(stage):
    row = stage.row("c")
    row.room, row.value, row.name = 8, 99, "never stored"
    row.delete()


@way(_whole, moves=False)
def delete_async(stage):
    async_to_sync(stage.row("b").adelete)()


@way(_whole, moves=False)
def delete_of_a_query_set(stage):
    stage.rows.delete()


@way(_whole, moves=False)
def delete_of_a_query_set_found_by_relations(stage):
    stage.rows.filter(shelf__name="shelf 0", labels__in=stage.labels).delete()


@way(_whole, moves=False)
def delete_of_a_query_set_async(stage):
    async_to_sync(stage.rows.filter(room=1).adelete)()


@way(moves=False)
def delete_of_nothing(stage):
    stage.rows.filter(name="nobody").delete()


@way(_alone, least=12, moves=False, prepare=free_labels)
def raw_delete(stage):
    stage.objects.filter(name=stage.row("s").name)._raw_delete("default")


@way(lambda kind: _alone(kind) and kind.name != "tree", least=12, moves=False, prepare=free_labels)
def raw_delete_of_many(stage):
    stage.rows._raw_delete("default")


@way(lambda kind: kind.has_parents, least=3, moves=False)
def delete_that_keeps_parents(stage):
    stage.row("b").delete(keep_parents=True)


@way(moves=False)
def cascade(stage):
    stage.boxes[0].delete()


@way(moves=False)
def cascade_of_a_query_set(stage):
    Box.objects.all().delete()


@way(moves=False)
def set_null(stage):
    stage.shelves[0].delete()


@way(moves=False)
def set_null_of_a_query_set(stage):
    Shelf.objects.filter(name__startswith="shelf").delete()


@way(_is("one to one"), least=1, moves=False)
def cascade_by_the_key(stage):
    stage.row("a").holder.delete()


@way(_is("one to one"), least=1, moves=False)
def cascade_by_the_key_of_a_query_set(stage):
    Holder.objects.filter(pk__in=[row.pk for row in stage.rows]).delete()


@way(_is("tree"), least=1, moves=False)
def cascade_within_the_model(stage):
    stage.row("a").delete()


# foreign keys from their other side ----------------------------------------------------------------------------------


@way(moves=False)
def reverse_add(stage):
    stage.reverse(stage.shelves[1], "shelf").add(stage.row("a"), stage.row("s"))


@way(moves=False, is_one_call=False)
def reverse_add_one_by_one(stage):
    stage.reverse(stage.shelves[1], "shelf").add(stage.row("a"), stage.row("b"), bulk=False)


@way(moves=False)
def reverse_remove(stage):
    rows = stage.reverse(stage.shelves[0], "shelf")
    rows.remove(*rows.all()[:1])


@way(moves=False)
def reverse_clear(stage):
    stage.reverse(stage.shelves[0], "shelf").clear()


@way(moves=False, is_one_call=False)
def reverse_clear_one_by_one(stage):
    stage.reverse(stage.shelves[0], "shelf").clear(bulk=False)


@way(moves=False)
def reverse_clear_async(stage):
    async_to_sync(stage.reverse(stage.shelves[0], "shelf").aclear)()


@way(moves=False, is_one_call=False)
def reverse_set(stage):
    stage.reverse(stage.shelves[1], "shelf").set([stage.row("a"), stage.row("b"), stage.row("s")])


@way(moves=False, is_one_call=False)
def reverse_set_async(stage):
    async_to_sync(stage.reverse(stage.shelves[1], "shelf").aset)([stage.row("b")])


@way(_not("child", "grandchild", "child heard by parent", "two parents", "two children"), least=12, moves=False)
def reverse_create(stage):
    stage.reverse(stage.shelves[1], "shelf").create(**stage.new_values(stage.new_name()))


@way(_not("child", "grandchild", "child heard by parent", "two parents", "two children"), least=12, moves=False)
def reverse_update_or_create(stage):
    row = stage.row("a")
    shelf = stage.shelves[0]
    stage.reverse(shelf, "shelf").update_or_create(name=row.name, defaults={"room": 8})


# lists ---------------------------------------------------------------------------------------------------------------


@way(moves=False)
def list_add(stage):
    stage.row("b").labels.add(*stage.labels)


@way(moves=False)
def list_add_by_key(stage):
    stage.row("c").labels.add(stage.labels[0].pk, stage.labels[1].pk)


@way(moves=False)
def list_add_what_is_there(stage):
    stage.row("a").labels.add(stage.labels[0])


@way(moves=False)
def list_add_async(stage):
    async_to_sync(stage.row("c").labels.aadd)(stage.labels[2])


@way(moves=False)
def list_remove(stage):
    row = stage.row("a")
    row.labels.remove(*stage.labels)


@way(moves=False)
def list_clear(stage):
    stage.row("a").labels.clear()


@way(moves=False)
def list_set(stage):
    stage.row("a").labels.set(stage.labels[1:])


@way(moves=False)
def list_set_anew(stage):
    stage.row("a").labels.set(stage.labels[1:], clear=True)


@way(moves=False)
def list_set_async(stage):
    async_to_sync(stage.row("b").labels.aset)(stage.labels[2:])


@way(moves=False)
def list_create(stage):
    stage.row("a").labels.create(name="label new")


@way(moves=False)
def list_add_from_the_other_side(stage):
    stage.reverse(stage.labels[2], "labels").add(*stage.rows)


@way(moves=False)
def list_remove_from_the_other_side(stage):
    stage.reverse(stage.labels[0], "labels").remove(stage.row("a"), stage.row("b"))


@way(moves=False)
def list_clear_from_the_other_side(stage):
    stage.reverse(stage.labels[0], "labels").clear()


@way(moves=False)
def list_set_from_the_other_side(stage):
    stage.reverse(stage.labels[1], "labels").set([stage.row("b"), stage.row("c")])


@way(moves=False)
def list_loses_a_row(stage):
    stage.labels[0].delete()


@way(moves=False)
def list_loses_rows_of_a_query_set(stage):
    Label.objects.all().delete()


@way(_is("tree"), least=1, moves=False)
def symmetrical_add(stage):
    stage.row("c").neighbours.add(stage.row("b"), stage.row("s"))


@way(_is("tree"), least=1, moves=False)
def symmetrical_remove(stage):
    stage.row("a").neighbours.remove(stage.row("b"))


@way(_is("tree"), least=1, moves=False)
def symmetrical_clear(stage):
    stage.row("a").neighbours.clear()


@way(_is("tree"), least=1, moves=False)
def symmetrical_set(stage):
    stage.row("a").neighbours.set([stage.row("s")])


# through rows --------------------------------------------------------------------------------------------------------


@way(moves=False)
def through_save(stage):
    stage.through(**{f"{stage.owner_column}_id": stage.row("c").pk, "label": stage.labels[0]}).save()


@way(moves=False)
def through_save_that_moves(stage):
    row = stage.through_rows("ab").first()
    setattr(row, f"{stage.owner_column}_id", stage.row("c").pk)
    row.save()


@way(moves=False)
def through_bulk_create(stage):
    column = f"{stage.owner_column}_id"
    rows = [stage.through(**{column: stage.row(letter).pk}, label=stage.labels[2]) for letter in "abc"]
    stage.through.objects.bulk_create(rows)


@way(moves=False)
def through_update(stage):
    stage.through_rows("b").update(label=stage.labels[2])


@way(moves=False)
def through_update_that_moves(stage):
    stage.through_rows("b").update(**{f"{stage.owner_column}_id": stage.row("c").pk})


@way(moves=False)
def through_bulk_update(stage):
    rows = list(stage.through_rows("a"))
    for row in rows:
        setattr(row, f"{stage.owner_column}_id", stage.row("c").pk)
    stage.through.objects.bulk_update(rows, [stage.owner_column])


@way(moves=False)
def through_delete(stage):
    stage.through_rows("ab").first().delete()


@way(moves=False)
def through_delete_of_a_query_set(stage):
    stage.through_rows("ab").delete()


@way(moves=False)
def through_raw_delete(stage):
    stage.through_rows("ab")._raw_delete("default")


# fixtures ------------------------------------------------------------------------------------------------------------


def load(documents: list[dict[str, Any]]) -> None:
    """Store rows as ``loaddata`` does."""
    for loaded in serializers.deserialize("json", json.dumps(documents)):
        loaded.save()


def dump(stage: Stage, letter: str) -> list[dict[str, Any]]:
    """Return the fixture of a row, that of its parents first."""
    row = stage.row(letter)
    model = stage.model._meta.concrete_model
    parents = sorted(model._meta.get_parent_list(), key=lambda parent: len(parent._meta.get_parent_list()))
    rows = [parent._base_manager.get(pk=getattr(row, parent._meta.pk.attname)) for parent in parents]
    documents: list[dict[str, Any]] = json.loads(serializers.serialize("json", [*rows, row]))
    return documents


@way(is_one_call=False)
def fixture_of_a_known_row(stage):
    documents = dump(stage, "a")
    for document in documents:
        fields = document["fields"]
        fields |= {name: value for name, value in stage.changes.items() if name in fields}
    load(documents)
    return [stage.row("a")]


@way(_one_table, least=10, is_one_call=False)
def fixture_of_a_new_row(stage):
    [document] = dump(stage, "a")
    values = stage.new_values(stage.new_name())
    document["fields"] |= {name: value for name, value in values.items() if name in document["fields"]}
    made = {"text key": values.get("code"), "one to one": getattr(values.get("holder"), "pk", None)}
    document["pk"] = made.get(stage.kind.name) or ("5" * 32 if stage.kind.name == "uuid" else 5_000 + stage.turn)
    load([document])


# generic relations ---------------------------------------------------------------------------------------------------


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_add(stage):
    stage.hosts[1].notes.add(stage.row("a"), stage.row("b"))


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_add_one_by_one(stage):
    stage.hosts[1].notes.add(stage.row("a"), bulk=False)


@way(_is("generic"), least=1, moves=False)
def generic_create(stage):
    stage.hosts[1].notes.create(name=stage.new_name(), room=1)


@way(_is("generic"), least=1, moves=False)
def generic_remove(stage):
    stage.hosts[0].notes.remove(stage.row("a"))


@way(_is("generic"), least=1, moves=False)
def generic_clear(stage):
    stage.hosts[0].notes.clear()


@way(_is("generic"), least=1, moves=False, is_one_call=False)
def generic_set(stage):
    stage.hosts[1].notes.set([stage.row("a")])


@way(_is("generic"), least=1, moves=False)
def generic_update(stage):
    stage.hosts[0].notes.update(room=8)


@way(_is("generic"), least=1, moves=False)
def generic_cascade(stage):
    stage.hosts[0].delete()


@way(_is("generic"), least=1, moves=False)
def generic_cascade_of_a_query_set(stage):
    Host.objects.all().delete()
