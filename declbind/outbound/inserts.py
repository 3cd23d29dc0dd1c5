"""Capture of ``QuerySet.bulk_create``, and so of ``add()`` and ``set()`` of many-to-many lists, which call it.

``m2m_changed`` is not used for lists: it does not report the mirrored rows of a symmetrical list, and a listener
costs each ``add`` a query.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_

from django.db import connections, models

from declbind.batches import in_batches
from declbind.django_types import Key, Method, Rows, concrete_model, through_of

from .also import both_ways, keep_future, keep_watching
from .batch import Batch
from .catalog import facts_of
from .hooks import Arguments, note_unknown_call
from .index import Relative, TableListeners, current_index, known_index
from .known_values import stored_row
from .lists import keep_owners, remember_owners
from .places import database_of, is_logged
from .rows import all_rows, keys_of
from .seams import HOOKED
from .statements import has_wrappers, returning_insert
from .writes import CapturedWrite, Result


def capture_bulk_create(original: Method) -> Method:
    """Wrap ``QuerySet.bulk_create``."""

    @functools.wraps(original)
    def bulk_create(self: Rows, *args: object, **kwargs: object) -> object:
        known = known_index()
        if known is not None and not known.bound[self.model]:
            return original(self, *args, **kwargs)
        call = Arguments(HOOKED["bulk_create"], args, kwargs)
        if "objs" not in call.named:
            note_unknown_call(HOOKED["bulk_create"])
            return original(self, *args, **kwargs)
        objs: Iterable[models.Model] = call.get("objs")
        unique_fields: Sequence[str] | None = call.get("unique_fields")
        ignore_conflicts, update_conflicts = call.get("ignore_conflicts"), call.get("update_conflicts")

        def write_rows(rows: Iterable[models.Model]) -> object:
            given = call.replace(objs=rows)
            return original(self, *given.args, **given.kwargs)

        using = database_of(self)
        if not is_logged(self.model, using):
            return write_rows(objs)
        write = CapturedWrite(connections[using], current_index())
        listeners = write.listeners_of(self.model)
        # An existing row may have a child's row, which has the same columns.
        family = (*listeners.family, *(Relative(twin, "pk") for twin in listeners.twins)) if update_conflicts else ()
        if listeners.plan is None and not (listeners.lists or listeners.watches or listeners.twins or family):
            return write.run(lambda: write_rows(objs))
        rows, model, batch = list(objs), concrete_model(self.model), write.batch
        with write:
            met = _met(model, rows, unique_fields, using) if update_conflicts else []
            earlier = _keys_before_upsert(met or (), using)
            _note_met(batch, model, listeners, family, met)
            keep_future(batch, listeners.watches, rows)
            remember_owners(batch, listeners.lists, rows)
            if ignore_conflicts:
                created, keys = _insert_ignoring(write, model, rows, lambda: write_rows(rows))
            else:
                created = write.run(lambda: write_rows(rows))
                keys = [row.pk for row in rows]
            if met and _was_updated_unseen(model, [key for key in keys or () if key not in earlier], using):
                for listener in listeners.plans:
                    batch.lose_track(listener)
            is_new = not (ignore_conflicts or update_conflicts)
            _note_created(batch, model, listeners, rows, None if met is None else keys, is_new)
            write.append()
        return created

    return bulk_create


def _note_met(
    batch: Batch,
    model: type[models.Model],
    listeners: TableListeners,
    family: Sequence[Relative],
    met: Sequence[Rows] | None,
) -> None:
    """Record the stored rows that an upsert may update. ``met`` is ``None`` if they are not known."""
    using = batch.using
    for member, lookup in family:
        if met is None:
            batch.lose_track(member)
        for stored in met or ():
            batch.will_change(member, keys_of(stored, using), lookup)
            if lookup == "pk" and not member.shows_all:
                # Rows that were hidden before the write may be visible after it.
                batch.create(member, stored.values_list("pk", flat=True))
    for stored in met or ():
        keep_owners(batch, listeners.lists, stored)
        keep_watching(batch, both_ways(listeners.watches), model, stored)


def _insert_ignoring(
    write: CapturedWrite, model: type[models.Model], rows: list[models.Model], insert: Callable[[], Result]
) -> tuple[Result, list[Key] | None]:
    """Insert rows, ignoring conflicts; return Django's result, and the keys of the new rows or ``None`` if unknown.

    A trigger may cancel an insert, or carry it out by another statement, which returns no row.
    """
    using, facts = write.using, facts_of(model, write.using)
    is_sqlite = connections[using].vendor == "sqlite"
    if not (facts.is_ordinary or facts.is_table):
        return write.run(insert), None  # a rule or a view may return no rows
    if is_sqlite and (not facts.is_ordinary or has_wrappers(connections[using])):
        stored = _KeysBefore(model, rows, using)
        return write.run(insert), stored.find_keys()
    before = _KeysBefore(model, rows, using) if facts.may_divert and not facts.is_ordinary else None
    with returning_insert(model, using) as inserted:
        created = write.run(insert)
    keys = inserted.find_keys()
    is_known = keys is not None and not (before is not None and before.has_others(keys))
    return created, keys if is_known else None


def _note_created(
    batch: Batch,
    model: type[models.Model],
    listeners: TableListeners,
    rows: list[models.Model],
    keys: list[Key] | None,
    is_new: bool,
) -> None:
    """Record the instances that were passed in for creation, with their keys if known."""
    plan, lists, watches = listeners.plan, listeners.lists, listeners.watches
    is_known = keys is not None and not any(key is None or hasattr(key, "resolve_expression") for key in keys)
    if keys is None or not is_known:
        for lost in [*([plan] if plan is not None else ()), *(watcher for watcher, _ in watches), *listeners.twins]:
            batch.lose_track(lost)
    else:
        if plan is not None:
            pk, is_plain = plan.model._meta.pk, plan.is_plain and not (plan.m2m or watches)
            batch.create(plan, map(pk.to_python, keys))
            if is_new and is_plain and plan.model is model:
                stored = [stored_row(plan, row, pk, batch.using) for row in rows]
                if None not in stored:
                    batch.take(plan, [row for row in stored if row is not None])
        for twin in listeners.twins:
            batch.create(twin, map(twin.model._meta.pk.to_python, keys))
        keep_watching(batch, watches, model, keys, is_after=True)
    if lists:
        through = all_rows(through_of(lists[0].field), batch.using)
        for some in [None] if keys is None else in_batches(keys, batch.using):
            keep_owners(batch, lists, rows if some is None else through.filter(pk__in=some), came=True)


class _KeysBefore:
    """The keys stored before an insert, which show afterwards which rows are new.

    This is used on SQLite, where no other transaction can write until this one ends. ``RETURNING`` is not used there: a
    wrapper of another package may roll back to a savepoint and repeat the insert, and SQLite refuses to roll back while
    a statement still has rows to return.
    """

    def __init__(self, model: type[models.Model], rows: Sequence[models.Model], using: str) -> None:
        self._stored = all_rows(model, using)
        self._using = using
        self._given = [row.pk for row in rows if row.pk is not None]
        self._met = set(self._existing())
        # Keys that SQLite assigns are greater than all earlier ones.
        self._counts = len(self._given) < len(rows)
        self._is_known = not self._counts or isinstance(model._meta.pk, models.AutoField)
        is_counted = self._counts and self._is_known and connections[using].vendor == "sqlite"
        self._number = len(rows)
        self._last = self._stored.aggregate(last=models.Max("pk"))["last"] if is_counted else None

    def find_keys(self) -> list[Key] | None:
        """Return the keys of the rows inserted since, or ``None`` if they cannot be determined."""
        if not self._is_known:
            return None
        keys = dict.fromkeys(key for key in self._existing() if key not in self._met)
        if self._counts:
            newer = self._stored if self._last is None else self._stored.filter(pk__gt=self._last)
            keys.update(dict.fromkeys(newer.values_list("pk", flat=True)))
        return list(keys)

    def has_others(self, keys: Sequence[Key]) -> bool:
        """Return whether rows other than those with ``keys``, which the insert has returned, may be new.

        Rows whose keys the database assigns cannot be searched for.
        """
        if self._counts and len(keys) < self._number:
            return True
        return not self._met.union(keys).issuperset(self._existing())

    def _existing(self) -> list[Key]:
        return [
            key
            for some in in_batches(self._given, self._using)
            for key in self._stored.filter(pk__in=some).values_list("pk", flat=True)
        ]


def _keys_before_upsert(met: Sequence[Rows], using: str) -> set[Key]:
    """Return the keys of the stored rows that an upsert will update. Other rows may be committed before it runs."""
    if connections[using].vendor != "postgresql":
        return set()  # on SQLite no other transaction can write in between; on MySQL the rows are not looked up
    return {key for stored in met for key in stored.values_list("pk", flat=True)}


def _was_updated_unseen(model: type[models.Model], keys: Sequence[Key], using: str) -> bool:
    """Return whether this transaction updated, rather than inserted, one of the rows with these keys.

    Another transaction committed such a row after the conflicting rows were looked up, so its old groups are unknown.
    PostgreSQL stores the id of the updating transaction in an updated row.
    """
    if connections[using].vendor != "postgresql":
        return False
    stored = all_rows(model, using)
    return any(
        stored.filter(pk__in=some).extra(where=["xmax::text <> '0'"]).exists() for some in in_batches(keys, using)
    )


def _met(
    model: type[models.Model], rows: Sequence[models.Model], unique_fields: Sequence[str] | None, using: str
) -> list[Rows] | None:
    """Return queries for the stored rows that an upsert will update, or ``None`` if they cannot be determined."""
    options = model._meta
    if not unique_fields or not connections[using].features.can_return_rows_from_bulk_insert:
        return None
    fields = [options.pk if name == "pk" else options.get_field(name) for name in unique_fields]
    names = [field.attname for field in fields if isinstance(field, models.Field)]
    if len(names) < len(fields):
        return None  # Django will raise an error.
    values = [tuple(getattr(row, name) for name in names) for row in rows]
    if any(hasattr(value, "resolve_expression") for some in values for value in some):
        return None
    # A row with a null conflicts with no other.
    whole = [some for some in values if None not in some]
    stored = all_rows(model, using)
    if len(names) == 1:
        single = (some for (some,) in whole)
        return [stored.filter(**{f"{names[0]}__in": some}) for some in in_batches(single, using)]
    step = 500
    return [
        stored.filter(reduce(or_, (models.Q(**dict(zip(names, some, strict=True))) for some in whole[at : at + step])))
        for at in range(0, len(whole), step)
    ]
