"""Batch: the rows that one call writes, read before and after it, and the events that tell of them.

Up to ``BULK_LIMIT`` rows of a model are told of one by one. Above that there is one event of kind "bulk" for each
binding: it has the groups that held such a row, or hold it now, take a snapshot (see ``written_rows``). What cannot be
found out is said as well: a binding that lost track has all of its groups take one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator, Sequence

from django.db import models

from declbind.conf import settings
from declbind.serializers.lists import load_lists
from declbind.stored_rows import StoredRow

from . import log
from .catalog import facts_of, savepoint_for
from .django_types import Key, through_of
from .drafts import UNKNOWN, draft_delete, groups_of, unread
from .entries import Draft
from .plans import Outlet, Plan
from .rows import load_rows, reading
from .written_rows import Chosen, WrittenRows, outlets_with_code


class Batch:
    """Gather what one call does to rows of bound models. Belongs to the call's transaction."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._parts: dict[int, WrittenRows] = {}

    def _part(self, plan: Plan) -> WrittenRows:
        # A model has another plan for a table that its triggers report.
        return self._parts.setdefault(id(plan), WrittenRows(plan, self.using))

    # --- before the write --------------------------------------------------------------------------------------------

    def will_change(self, plan: Plan, chosen: Chosen, lookup: str = "pk", moves: bool = True) -> list[Key] | None:
        """Read rows that are about to be written; return their keys, ``None`` where there are too many to tell.

        ``lookup`` is the field that keys are of. ``moves`` tells whether the write may change the rows' groups.
        """
        part = self._part(plan)
        fields = part.fields_before(plan.group_fields if plan.needs_old else ())

        def keep(row: StoredRow) -> None:
            if fields is part.image_fields:
                part.images.setdefault(row.pk, row)
            part.before[row.pk] = groups_of(plan, row, self.using) if plan.needs_old else {}

        part.moves |= moves
        if not part.is_lost:
            with self.guarded([plan]):
                part.read(chosen, lookup, fields, keep)
        if part.touched is None:
            return list(part.before)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def will_delete(self, plan: Plan, chosen: Chosen) -> list[Key] | None:
        """Read rows that are about to go, or, if a trigger or a rule of the database says so, to be changed.

        Returns their keys, ``None`` if there are too many to tell.
        """
        part = self._part(plan)
        may_stay = not facts_of(plan.model, self.using).is_ordinary
        fields = part.fields_before(plan.fields)

        def keep(row: StoredRow) -> None:
            if row.pk not in part.gone:
                part.gone[row.pk] = draft_delete(plan, row, self.using)
                if may_stay and row.pk not in part.before:
                    part.before[row.pk] = groups_of(plan, row, self.using) if plan.needs_old else {}
                    if fields is part.image_fields:
                        part.images[row.pk] = row

        if not part.is_lost:
            with self.guarded([plan]):
                part.read(chosen, "pk", fields, keep)
        if part.touched is None:
            return list(part.gone)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def keep(self, plan: Plan, keys: Iterable[Key], outlets: Iterable[Outlet] | None = None) -> None:
        """Note rows of which something changes that does not decide their groups, such as a list.

        ``outlets`` are those who send it, for nobody else hears of it; ``None`` stands for all.
        """
        part = self._part(plan)
        hearing = part.everybody if outlets is None else frozenset(outlets)
        part.kept.update((key, part.kept.get(key, hearing) | hearing) for key in keys)
        part.check_limit()

    def keep_related(self, plan: Plan, keys: Iterable[Key], outlets: Iterable[Outlet], is_after: bool) -> None:
        """Note rows like ``keep`` that are related to rows which are written.

        Their groups may hang on those if code makes them. Where a row was that is known only ``is_after`` the write
        cannot be told.
        """
        found, hearing = list(keys), list(outlets)
        if not is_after:
            self.remember(plan, found, hearing)
        elif unknown := self._part(plan).unknown(found, hearing):
            part, lost = self._part(plan), dict.fromkeys(outlets_with_code(hearing), UNKNOWN)
            if part.touched is None:
                part.places.update((key, {**lost, **part.places.get(key, {})}) for key in unknown)
            else:
                self.lose_track(plan)
        self.keep(plan, found, hearing)

    def remember(self, plan: Plan, keys: Iterable[Key], outlets: Iterable[Outlet]) -> None:
        """Read the groups of rows before the write, if code makes them, for they may hang on what is written."""
        part, hearing = self._part(plan), list(outlets)
        unknown = part.unknown(keys, hearing)
        if not unknown:
            return
        if part.touched is not None or len(unknown) + part.count > settings.BULK_LIMIT:
            self.lose_track(plan)
            return
        with self.guarded([plan]):
            for key, row in load_rows(plan, unknown, plan.group_fields, self.using).items():
                groups = groups_of(plan, row, self.using, outlets_with_code(hearing))
                part.places[key] = {**groups, **part.places.get(key, {})}

    def unwritten(self, plan: Plan, keys: Container[Key]) -> list[Key]:
        """Return the keys of rows that were read before the write and are not among ``keys``."""
        return [key for key in self._part(plan).before if key not in keys]

    def note_written(self, plan: Plan, keys: Iterable[Key]) -> None:
        """Note which of the rows that were read before the write its statements have written: these and no others."""
        self._part(plan).written = frozenset(keys)

    def create(self, plan: Plan, keys: Iterable[Key]) -> None:
        """Note rows that are new, unless they were read before the write; to be called after it."""
        part = self._part(plan)
        part.before.update((key, None) for key in keys if key not in part.before)
        part.check_limit()

    def lose_track(self, plan: Plan) -> None:
        """Note that it cannot be told which rows of a model were written, or where they were."""
        self._part(plan).lose_track()

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

    # --- after it ----------------------------------------------------------------------------------------------------

    def is_by_group(self, plan: Plan) -> bool:
        """Return whether no row of a model is told of by itself any more."""
        return self._part(plan).touched is not None

    def take(self, plan: Plan, rows: Sequence[StoredRow]) -> None:
        """Take all rows of a model that were written as they are now stored, so that they need not be read again."""
        with self.guarded([plan], map(through_of, plan.m2m)):
            load_lists(rows, plan.m2m, self.using)
        self._part(plan).after = {row.pk: row for row in rows}

    def append(self) -> None:
        """Append the events of all that was gathered, rows that went first."""
        log.append(self.drafts(), self.using)

    def drafts(self) -> list[Draft]:
        """Return the events of all that was gathered; reads the rows as they are now."""
        for part in self._parts.values():
            with self.guarded([part.plan]):
                part.forget_staying()
        drafts = [draft for part in self._parts.values() for events in part.gone.values() for draft in events]
        for part in self._parts.values():
            written: list[Draft] = []
            with self.guarded([part.plan]):
                written = part.draft_written()
            # What cannot be read has become an event for all groups.
            drafts += written if part.touched is None else part.draft_groups()
        return drafts


__all__ = ["Batch"]
