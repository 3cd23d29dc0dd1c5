"""Capture ``QuerySet.bulk_create``, and with it what ``add()`` and ``set()`` of many-to-many lists end in.

Not ``m2m_changed`` for the latter: it tells nothing of the mirrored rows of a symmetrical list, and a listener costs
each ``add`` a query.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.db import connections, models, transaction

from declbind.batches import in_batches

from .also import both_ways, keep_coming, keep_watching
from .batch import Batch
from .catalog import facts_of
from .hearers import Hearers, database_of
from .hooks import Arguments, note_unread
from .index import current_index, known_index
from .known_values import stored_row
from .lists import keep_owners, remember_owners
from .locks import take_write_lock
from .places import is_logged
from .plans import Plan
from .returning import INSERT, returning
from .rows import all_rows, keys_of
from .seams import HOOKED
from .triggers.quiet import quiet


def capture_bulk_create(original: Any) -> Any:
    """Wrap ``QuerySet.bulk_create``."""

    @functools.wraps(original)
    def bulk_create(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = known_index()
        if known is not None and not known.heard[self.model]:
            return original(self, *args, **kwargs)
        call = Arguments(HOOKED["bulk_create"], args, kwargs)
        if "objs" not in call.named:
            note_unread(HOOKED["bulk_create"])
            return original(self, *args, **kwargs)
        objs, unique_fields = call.get("objs"), call.get("unique_fields")
        ignore_conflicts, update_conflicts = call.get("ignore_conflicts"), call.get("update_conflicts")

        def write(rows: Any) -> Any:
            given = call.replace(objs=rows)
            return original(self, *given.args, **given.kwargs)

        index = current_index()
        hearers = Hearers.of(self.model, index) or Hearers(None, (), ())
        # A row that is there already may have a child's row, which has the same columns.
        family = index.family_of(self.model) if update_conflicts else ()
        if not (any(hearers) or family) or not is_logged(self.model, using := database_of(self)):
            return write(objs)
        rows, model = list(objs), self.model._meta.concrete_model
        with transaction.atomic(using=using, savepoint=False):
            take_write_lock(using)
            batch = Batch(using)
            met = _met(model, rows, unique_fields, using) if update_conflicts else []
            for member, lookup in family:
                if met is None:
                    batch.lose_track(member)
                for stored in met or ():
                    batch.will_change(member, keys_of(stored, using), lookup)
                    if lookup == "pk" and not member.shows_all:
                        # Who is hidden may be seen afterwards.
                        batch.create(member, stored.values_list("pk", flat=True))
            for stored in met or ():
                keep_owners(batch, hearers.lists, stored)
                keep_watching(batch, both_ways(hearers.watches), model, stored)
            keep_coming(batch, hearers.watches, rows)
            remember_owners(batch, hearers.lists, rows)
            # A rule, or a view, may have no rows to return.
            can_return = facts_of(model, using).is_ordinary
            if ignore_conflicts and can_return:
                with returning(model, (), INSERT, using) as returned, quiet(index, using):
                    created = write(rows)
                keys = [row.pk for row in returned.rows] if returned.is_complete else None
            else:
                with quiet(index, using):
                    created = write(rows)
                keys = None if ignore_conflicts else [row.pk for row in rows]
            if met and update_conflicts and hearers.plan is not None and _met_unseen(batch, hearers.plan, keys or ()):
                for member, _ in family:
                    batch.lose_track(member)
            is_new = not (ignore_conflicts or update_conflicts)
            _note_created(batch, model, hearers, rows, None if met is None else keys, is_new)
            batch.append()
        return created

    return bulk_create


def _note_created(
    batch: Batch, model: Any, hearers: Hearers, rows: list[Any], keys: list[Any] | None, is_new: bool
) -> None:
    """Note rows that were given to be created, with the keys that they have if these are known."""
    plan, lists, watches = hearers
    is_known = keys is not None and not any(key is None or hasattr(key, "resolve_expression") for key in keys)
    if keys is None or not is_known:
        for lost in [*([plan] if plan is not None else ()), *(watcher for watcher, _ in watches)]:
            batch.lose_track(lost)
    else:
        if plan is not None:
            pk, is_plain = plan.model._meta.pk, plan.is_plain and not (plan.m2m or watches)
            batch.create(plan, map(pk.to_python, keys))
            if is_new and is_plain:
                stored = [stored_row(plan, row, pk, batch.using) for row in rows]
                if None not in stored:
                    batch.take(plan, [row for row in stored if row is not None])
        keep_watching(batch, watches, model, keys, is_after=True)
    if lists:
        through = all_rows(lists[0][1].remote_field.through, batch.using)
        for some in [None] if keys is None else in_batches(keys, batch.using):
            keep_owners(batch, lists, rows if some is None else through.filter(pk__in=some), came=True)


def _met_unseen(batch: Batch, plan: Plan, keys: Sequence[Any]) -> bool:
    """Tell whether an upsert met a row that was not there when it was looked for: committed since, by somebody else.

    Where that row was is not known. PostgreSQL marks a row that was updated with the transaction that did it.
    """
    if connections[batch.using].vendor != "postgresql":
        return False  # Nobody writes in between on SQLite; MySQL is not asked for rows that are met.
    stored: models.QuerySet[Any] = models.QuerySet(plan.model, using=batch.using)
    return any(
        stored.filter(pk__in=some).extra(where=["xmax::text <> '0'"]).exists()
        for some in in_batches(batch.unseen(plan, keys), batch.using)
    )


def _met(model: Any, rows: Sequence[Any], unique_fields: Any, using: str) -> list[models.QuerySet[Any]] | None:
    """Return queries for the stored rows that an upsert will update; ``None`` where it cannot be told."""
    options = model._meta
    if not unique_fields or not connections[using].features.can_return_rows_from_bulk_insert:
        return None
    names = [options.pk.attname if name == "pk" else options.get_field(name).attname for name in unique_fields]
    values = [tuple(getattr(row, name) for name in names) for row in rows]
    if any(hasattr(value, "resolve_expression") for some in values for value in some):
        return None
    # A row with a null meets no other.
    whole = [some for some in values if None not in some]
    stored: models.QuerySet[Any] = models.QuerySet(model, using=using)
    if len(names) == 1:
        single = (some for (some,) in whole)
        return [stored.filter(**{f"{names[0]}__in": some}) for some in in_batches(single, using)]
    step = 500
    return [
        stored.filter(reduce(or_, (models.Q(**dict(zip(names, some, strict=True))) for some in whole[at : at + step])))
        for at in range(0, len(whole), step)
    ]
