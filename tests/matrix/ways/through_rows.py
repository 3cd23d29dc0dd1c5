"""Ways to write the rows of a list's through model."""

from __future__ import annotations

from .way import way


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
