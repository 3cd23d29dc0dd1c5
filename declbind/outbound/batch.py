"""Batch: the rows that one call writes, read before and after it, and the events that tell of them.

Up to ``BULK_LIMIT`` rows of a model are told of one by one. Above that there is one event of kind "bulk" for each
binding: it has the groups that held such a row, or hold it now, take a snapshot. What cannot be found out is said as
well: a binding that lost track has all of its groups take one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db import models

from declbind.batches import in_batches
from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP
from declbind.serializers.lists import load_lists
from declbind.stored_rows import StoredRow
from declbind.stored_values import is_stock

from . import entries, log
from .catalog import facts_of, savepoint_for
from .drafts import UNKNOWN, Groups, draft_bulk, draft_delete, draft_hidden, draft_write, groups_of, unread
from .plans import Outlet, Plan
from .rows import all_rows, load_rows, read_rows, reading, stream_rows

#: The rows that are meant, by their keys: a query (see ``rows.keys_of``), or the keys themselves.
Chosen = models.QuerySet[Any] | Sequence[Any]


@dataclass
class _Part:
    """What is known of the rows of one model."""

    plan: Plan
    #: By key, the groups of the row as it was; ``None`` where no such row was to be seen.
    before: dict[Any, Groups | None] = field(default_factory=dict)
    #: Keys of rows that are changed by something else than their columns, and the bindings that are told.
    kept: dict[Any, frozenset[Outlet]] = field(default_factory=dict)
    #: The groups before the write of rows that were kept and that code puts into groups.
    places: dict[Any, Groups] = field(default_factory=dict)
    #: The events of rows that go, by key.
    gone: dict[Any, list[entries.Draft]] = field(default_factory=dict)
    #: Above the limit: the groups that are told, by binding.
    touched: dict[Outlet, dict[str, None]] | None = None
    #: Above the limit: keys of rows with who hears of them, and whether their groups are to be read after the write.
    many: dict[Any, frozenset[Outlet]] = field(default_factory=dict)
    moves: bool = False
    #: Rows as they are after the write, where they need not be read again.
    after: dict[Any, StoredRow] | None = None
    #: Where a trigger or a rule may cancel a write: rows as they were, by key, with the columns that can be compared.
    images: dict[Any, StoredRow] = field(default_factory=dict)
    #: The keys of the rows that statements wrote, if these are known.
    written: frozenset[Any] | None = None
    #: The keys of rows that were to go and are still there.
    staying: set[Any] = field(default_factory=set)
    #: Nothing more is to be found out.
    is_lost: bool = False

    @property
    def count(self) -> int:
        return len(self.before) + len(self.kept) + len(self.gone)

    @cached_property
    def everybody(self) -> frozenset[Outlet]:
        return frozenset(self.plan.outlets)

    @cached_property
    def image_fields(self) -> tuple[Any, ...]:
        """The columns that are compared: those that are sent, and all others that no code of a field reads."""
        others = (column for column in self.plan.model._meta.concrete_fields if is_stock(column))
        return tuple(dict.fromkeys((*self.plan.fields, *others)))


class Batch:
    """Gather what one call does to rows of bound models. Belongs to the call's transaction."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._parts: dict[int, _Part] = {}

    # --- before the write --------------------------------------------------------------------------------------------

    def will_change(self, plan: Plan, chosen: Chosen, lookup: str = "pk", moves: bool = True) -> list[Any] | None:
        """Read rows that are about to be written; return their keys, ``None`` where there are too many to tell.

        ``lookup`` is the field that keys are of. ``moves`` tells whether the write may change the rows' groups.
        """
        part = self._part(plan)
        fields = self._fields_before(part, plan.group_fields if plan.needs_old else ())

        def keep(row: StoredRow) -> None:
            if fields is part.image_fields:
                part.images.setdefault(row.pk, row)
            part.before[row.pk] = groups_of(plan, row, self.using) if plan.needs_old else {}

        part.moves |= moves
        self._read(part, chosen, lookup, fields, keep)
        if part.touched is None:
            return list(part.before)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def will_delete(self, plan: Plan, chosen: Chosen) -> list[Any] | None:
        """Read rows that are about to go, or, if a trigger or a rule of the database says so, to be changed.

        Returns their keys, ``None`` if there are too many to tell.
        """
        part = self._part(plan)
        may_stay = not facts_of(plan.model, self.using).is_ordinary

        def keep(row: StoredRow) -> None:
            if row.pk not in part.gone:
                part.gone[row.pk] = draft_delete(plan, row, self.using)
                if may_stay and row.pk not in part.before:
                    part.before[row.pk] = groups_of(plan, row, self.using) if plan.needs_old else {}
                    if fields is part.image_fields:
                        part.images[row.pk] = row

        fields = self._fields_before(part, plan.fields)
        self._read(part, chosen, "pk", fields, keep)
        if part.touched is None:
            return list(part.gone)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def _fields_before(self, part: _Part, fields: Sequence[Any] | None) -> Sequence[Any] | None:
        """Return the columns that are read before a write: ``fields``, or more if the write may be cancelled."""
        facts = facts_of(part.plan.model, self.using)
        is_enough = facts.is_ordinary or facts.missing or not part.plan.shows_all
        return fields if is_enough else part.image_fields

    def keep(self, plan: Plan, keys: Iterable[Any], outlets: Iterable[Outlet] | None = None) -> None:
        """Note rows of which something changes that does not decide their groups, such as a list.

        ``outlets`` are those who send it, for nobody else hears of it; ``None`` stands for all.
        """
        part = self._part(plan)
        hearing = part.everybody if outlets is None else frozenset(outlets)
        part.kept.update((key, part.kept.get(key, hearing) | hearing) for key in keys)
        self._check_limit(part)

    def keep_related(self, plan: Plan, keys: Iterable[Any], outlets: Iterable[Outlet], is_after: bool) -> None:
        """Note rows like ``keep`` that are related to rows which are written.

        Their groups may hang on those if code makes them. Where a row was that is known only ``is_after`` the write
        cannot be told.
        """
        found, hearing = list(keys), list(outlets)
        if not is_after:
            self.remember(plan, found, hearing)
        elif unknown := self._unknown(plan, found, hearing):
            part, lost = self._part(plan), dict.fromkeys(_moving(hearing), UNKNOWN)
            if part.touched is None:
                part.places.update((key, {**lost, **part.places.get(key, {})}) for key in unknown)
            else:
                self.lose_track(plan)
        self.keep(plan, found, hearing)

    def remember(self, plan: Plan, keys: Iterable[Any], outlets: Iterable[Outlet]) -> None:
        """Read the groups of rows before the write, if code makes them, for they may hang on what is written."""
        part, hearing = self._part(plan), list(outlets)
        unknown = self._unknown(plan, keys, hearing)
        if not unknown:
            return
        if part.touched is not None or len(unknown) + part.count > settings.BULK_LIMIT:
            self.lose_track(plan)
            return
        with self.guarded([plan]):
            for key, row in load_rows(plan, unknown, plan.group_fields, self.using).items():
                groups = groups_of(plan, row, self.using, _moving(hearing))
                part.places[key] = {**groups, **part.places.get(key, {})}

    def _unknown(self, plan: Plan, keys: Iterable[Any], outlets: Iterable[Outlet]) -> list[Any]:
        """Return the keys of rows whose groups before the write would have to be known and are not."""
        part, moving = self._part(plan), _moving(outlets)
        if not moving or part.is_lost:
            return []
        return [key for key in keys if not moving <= part.places.get(key, {}).keys()]

    def unwritten(self, plan: Plan, keys: Container[Any]) -> list[Any]:
        """Return the keys of rows that were read before the write and are not among ``keys``."""
        return [key for key in self._part(plan).before if key not in keys]

    def note_written(self, plan: Plan, keys: Iterable[Any]) -> None:
        """Note which of the rows that were read before the write its statements have written: these and no others."""
        self._part(plan).written = frozenset(keys)

    def create(self, plan: Plan, keys: Iterable[Any]) -> None:
        """Note rows that are new, unless they were read before the write; to be called after it."""
        part = self._part(plan)
        part.before.update((key, None) for key in keys if key not in part.before)
        self._check_limit(part)

    def lose_track(self, plan: Plan) -> None:
        """Note that it cannot be told which rows of a model were written, or where they were."""
        part = self._part(plan)
        part.is_lost = True
        part.touched = {outlet: {EVERY_GROUP: None} for outlet in plan.outlets}
        part.before, part.kept, part.places, part.gone, part.many = {}, {}, {}, {}, {}

    @contextlib.contextmanager
    def guarded(self, plans: Iterable[Plan], tables: Iterable[type[models.Model]] = ()) -> Iterator[None]:
        """Keep a read that fails from the writer; the bindings that it concerns are sent a ``resync``.

        ``plans`` are those whose rows are read, or found by reading ``tables``.
        """
        known = list(plans)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(savepoint_for(tables, self.using))
                for plan in known:
                    stack.enter_context(reading(plan, self.using))
                yield
        except Exception as error:
            for plan in known:
                unread(plan, self.using, error)
                self.lose_track(plan)

    def _part(self, plan: Plan) -> _Part:
        # A model has another plan for a table that its triggers report.
        return self._parts.setdefault(id(plan), _Part(plan))

    def _read(
        self,
        part: _Part,
        chosen: Chosen,
        lookup: str,
        fields: Sequence[Any] | None,
        keep: Callable[[StoredRow], None],
    ) -> None:
        plan = part.plan
        if part.is_lost:
            return
        with self.guarded([plan]):
            if part.touched is None:
                room = settings.BULK_LIMIT - part.count
                if isinstance(chosen, models.QuerySet) or len(chosen) <= room:
                    found = [
                        row
                        for rows in _rows_of(plan, chosen, lookup, self.using)
                        for row in read_rows(plan, rows, fields, room)
                    ]
                    if len(found) <= room:
                        for row in found:
                            keep(row)
                        return
                self._overflow(part)
            if not plan.needs_old:
                self._touch_constant(part)
                return
            for rows in _rows_of(plan, chosen, lookup, self.using):
                for row in stream_rows(plan, rows, plan.group_fields):
                    self._touch(part, row, part.everybody)
                    part.many[row.pk] = part.everybody

    def _check_limit(self, part: _Part) -> None:
        if part.touched is not None:
            self._to_groups(part)
        elif part.count > settings.BULK_LIMIT:
            self._overflow(part)

    def _overflow(self, part: _Part) -> None:
        """Go over from rows to groups."""
        part.touched = {outlet: {} for outlet in part.plan.outlets}
        if part.gone and not part.plan.needs_old:
            self._touch_constant(part)
        for groups in (*part.before.values(), *part.places.values()):
            for outlet, names in (groups or {}).items():
                part.touched[outlet].update(dict.fromkeys(names))
        for drafts in part.gone.values():
            for draft in drafts:
                outlet = next(outlet for outlet in part.plan.outlets if outlet.stream == draft.stream)
                part.touched[outlet].update((group, None) for group, _ in draft.changes)
        self._to_groups(part)

    def _to_groups(self, part: _Part) -> None:
        if not part.is_lost:
            # Those that were not looked at before the write are looked at after it.
            part.moves |= bool(part.kept) or any(groups is None for groups in part.before.values())
            hearing = [(key, part.everybody) for key in part.before] + list(part.kept.items())
            for key, outlets in hearing:
                part.many[key] = part.many.get(key, outlets) | outlets
            if not part.plan.needs_old:
                self._touch_constant(part, frozenset().union(*(outlets for _, outlets in hearing)))
        part.before, part.kept, part.places, part.gone = {}, {}, {}, {}

    def _touch_constant(self, part: _Part, outlets: frozenset[Outlet] | None = None) -> None:
        assert part.touched is not None
        for outlet in part.plan.outlets:
            if outlets is None or outlet in outlets:
                part.touched[outlet].update(dict.fromkeys(outlet.constant_groups or ()))

    def _touch(self, part: _Part, row: StoredRow, outlets: frozenset[Outlet]) -> None:
        assert part.touched is not None
        for outlet, names in groups_of(part.plan, row, self.using, outlets).items():
            part.touched[outlet].update(dict.fromkeys(names))

    # --- after it ----------------------------------------------------------------------------------------------------

    def is_by_group(self, plan: Plan) -> bool:
        """Tell whether no row of a model is told of by itself any more."""
        return self._part(plan).touched is not None

    def take(self, plan: Plan, rows: Sequence[StoredRow]) -> None:
        """Take all rows of a model that were written as they are now stored, so that they need not be read again."""
        with self.guarded([plan], [listed.remote_field.through for listed in plan.m2m]):
            load_lists(rows, plan.m2m, self.using)
        self._part(plan).after = {row.pk: row for row in rows}

    def append(self) -> None:
        """Append the events of all that was gathered, rows that went first."""
        log.append(self.drafts(), self.using)

    def drafts(self) -> list[entries.Draft]:
        """Return the events of all that was gathered; reads the rows as they are now."""
        for part in self._parts.values():
            with self.guarded([part.plan]):
                self._forget_staying(part)
        drafts = [draft for part in self._parts.values() for events in part.gone.values() for draft in events]
        for part in self._parts.values():
            written: list[entries.Draft] = []
            with self.guarded([part.plan]):
                if part.touched is None:
                    written = self._draft_rows(part)
                else:
                    self._touch_moved(part)
            drafts += written if part.touched is None else draft_bulk(part.plan, part.touched)
        return drafts

    def _forget_staying(self, part: _Part) -> None:
        """Leave the events out of rows that were to go and are still there."""
        if part.gone and not facts_of(part.plan.model, self.using).is_ordinary:
            for some in in_batches(part.gone, self.using):
                stored = all_rows(part.plan.model, self.using).filter(pk__in=some)
                for key in stored.values_list("pk", flat=True):
                    part.gone.pop(key, None)
                    part.staying.add(key)

    def _draft_rows(self, part: _Part) -> list[entries.Draft]:
        plan, drafts = part.plan, []
        cancelled = self._cancelled(part)
        keys = [key for key in {**part.before, **part.kept} if key not in part.gone and key not in cancelled]
        rows = load_rows(plan, keys, plan.fields, self.using) if part.after is None else part.after
        for key in keys:
            row, hearing = rows.get(key), None
            old = part.before.get(key, part.places.get(key))
            if row is None:
                drafts += draft_hidden(plan, key, old, self.using)
                continue
            if key not in part.before or (key in part.kept and old is None):
                hearing = part.kept[key] if key not in part.before else None
                old = {**groups_of(plan, row, self.using, hearing), **(old or {})}
            drafts += draft_write(plan, row, row.pk, old, self.using, hearing)
        return drafts

    def _cancelled(self, part: _Part) -> set[Any]:
        """Return the keys of rows whose write a trigger or a rule has cancelled, and which are what they were."""
        written = part.images.keys() if part.written is None else part.written
        kept_back = [
            key
            for key in part.images
            if key not in part.kept and key not in part.gone and (key in part.staying or key not in written)
        ]
        if not kept_back:
            return set()
        now = load_rows(part.plan, kept_back, part.image_fields, self.using)
        return {key for key, row in now.items() if row.values == part.images[key].values}

    def _touch_moved(self, part: _Part) -> None:
        if part.plan.needs_old and part.moves:
            for rows in _rows_of(part.plan, list(part.many), "pk", self.using):
                for row in stream_rows(part.plan, rows, part.plan.group_fields):
                    self._touch(part, row, part.many[row.pk])


def _moving(outlets: Iterable[Outlet]) -> frozenset[Outlet]:
    return frozenset(outlet for outlet in outlets if outlet.has_group_code)


def _rows_of(plan: Plan, chosen: Chosen, lookup: str, using: str) -> Iterator[models.QuerySet[Any]]:
    """Yield query sets which together are the rows that are meant."""
    rows = all_rows(plan.model, using)
    if isinstance(chosen, models.QuerySet):
        # As a subquery: rows may be chosen by joins and aggregates, and no database locks the result of those.
        yield rows.filter(**{f"{lookup}__in": chosen.using(using)})
        return
    for some in in_batches(chosen, using):
        yield rows.filter(**{f"{lookup}__in": some})


__all__ = ["Batch"]
