"""Ways to save one row, and to create one with a manager."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from .way import HIDDEN, all_but, has_one_table, way

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
@way(all_but("uuid"))
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


@way(all_but("hiding"), moves=False)
def save_an_expression_of_a_null(sample):
    row = sample.row("s")
    row.name = Concat("name", Value("!"))
    row.save(update_fields=["name"])


@way(has_one_table, least=10)
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
