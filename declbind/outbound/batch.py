"""Batches: the rows that one call writes, read before and after the write, and the resulting events.

Up to ``BULK_LIMIT`` rows of a model have an event each. Above that there is one event of kind "bulk" for each
binding. It makes the subscribers of the rows' old and new groups take a snapshot (see ``written_rows``). If the
affected rows cannot be determined, all groups of the binding take a snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Iterator, Sequence

from django.db import models

from declbind.conf import settings
from declbind.django_types import Key, through_of
from declbind.serializers.lists import load_lists
from declbind.stored_rows import StoredRow

from . import log
from .catalog import facts_of, savepoint_for
from .drafts import UNKNOWN, draft_delete, groups_of, unread
from .entries import Draft
from .plans import Outlet, Plan
from .rows import load_rows, reading
from .written_rows import Chosen, WrittenRows, outlets_with_code


class Batch:
    """The rows of bound models that one call writes. Belongs to the call's transaction."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._parts: dict[int, WrittenRows] = {}

    def _part(self, plan: Plan) -> WrittenRows:
        # A model has another plan for a table whose triggers report it.
        return self._parts.setdefault(id(plan), WrittenRows(plan, self.using))

    # --- before the write --------------------------------------------------------------------------------------------

    def will_change(self, plan: Plan, chosen: Chosen, lookup: str = "pk", moves: bool = True) -> list[Key] | None:
        """Read rows that are about to be written.

        Args:
            plan: The plan of the rows' model.
            chosen: The rows, as a query or as keys.
            lookup: The field that the keys are values of.
            moves: Whether the write may change the rows' groups.

        Returns:
            The keys of the rows, or ``None`` if there are too many for one event each.
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
        """Read rows that are about to be deleted. A database trigger or rule may change them instead.

        Returns:
            The keys of the rows, or ``None`` if there are too many for one event each.
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
        """Record rows that change in something other than their columns, such as a many-to-many list.

        The rows stay in their groups. ``outlets`` are the bindings that send the changed value; ``None`` means all
        bindings.
        """
        part = self._part(plan)
        reporting = part.all_outlets if outlets is None else frozenset(outlets)
        part.kept.update((key, part.kept.get(key, reporting) | reporting) for key in keys)
        part.check_limit()

    def keep_related(self, plan: Plan, keys: Iterable[Key], outlets: Iterable[Outlet], is_after: bool) -> None:
        """Record rows that are related to written rows, like ``keep``.

        If project code computes their groups, these may depend on the written rows. If ``is_after`` (the write has been
        carried out) and such a row was not recorded before, its old groups are unknown.
        """
        found, reporting = list(keys), list(outlets)
        if not is_after:
            self.remember(plan, found, reporting)
        elif unknown := self._part(plan).unknown(found, reporting):
            part, lost = self._part(plan), dict.fromkeys(outlets_with_code(reporting), UNKNOWN)
            if part.touched is None:
                part.places.update((key, {**lost, **part.places.get(key, {})}) for key in unknown)
            else:
                self.lose_track(plan)
        self.keep(plan, found, reporting)

    def remember(self, plan: Plan, keys: Iterable[Key], outlets: Iterable[Outlet]) -> None:
        """Read groups that project code computes before the write, because they may depend on what is written."""
        part, reporting = self._part(plan), list(outlets)
        unknown = part.unknown(keys, reporting)
        if not unknown:
            return
        if part.touched is not None or len(unknown) + part.count > settings.BULK_LIMIT:
            self.lose_track(plan)
            return
        with self.guarded([plan]):
            for key, row in load_rows(plan, unknown, plan.group_fields, self.using).items():
                groups = groups_of(plan, row, self.using, outlets_with_code(reporting))
                part.places[key] = {**groups, **part.places.get(key, {})}

    def unwritten(self, plan: Plan, keys: Container[Key]) -> list[Key]:
        """Return the keys of rows that were read before the write and are not among ``keys``."""
        return [key for key in self._part(plan).before if key not in keys]

    def note_written(self, plan: Plan, keys: Iterable[Key]) -> None:
        """Record which of the rows read before the write were actually written by its statements."""
        self._part(plan).written = frozenset(keys)

    def create(self, plan: Plan, keys: Iterable[Key]) -> None:
        """Record new rows, unless they were read before the write. Call it after the write."""
        part = self._part(plan)
        part.before.update((key, None) for key in keys if key not in part.before)
        part.check_limit()

    def include_all_tenants(self, plan: Plan) -> None:
        """Record that the write may change a model's rows in every tenant. Rows of other tenants cannot be read."""
        part = self._part(plan)
        part.is_for_all_tenants = True
        part.lose_track()

    def is_for_all_tenants(self, plan: Plan) -> bool:
        """Return whether subscribers of all tenants are made to take a snapshot of a model's rows."""
        return self._part(plan).is_for_all_tenants

    def lose_track(self, plan: Plan) -> None:
        """Record that the written rows of a model, or their old groups, cannot be determined."""
        self._part(plan).lose_track()

    @contextlib.contextmanager
    def guarded(self, plans: Iterable[Plan], tables: Iterable[type[models.Model]] = ()) -> Iterator[None]:
        """Keep a failing read from breaking the write; the bindings concerned are sent a ``resync``.

        ``plans`` are the plans of the rows that are read, or that are found by reading ``tables``.
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

    # --- after the write
    # ------------------------------------------------------------------------------------------------

    def is_by_group(self, plan: Plan) -> bool:
        """Return whether a model has too many written rows for one event each."""
        return self._part(plan).touched is not None

    def take(self, plan: Plan, rows: Sequence[StoredRow]) -> None:
        """Accept the written rows of a model as they are now stored, so that they need not be read again."""
        with self.guarded([plan], map(through_of, plan.m2m)):
            load_lists(rows, plan.m2m, self.using)
        self._part(plan).after = {row.pk: row for row in rows}

    def append(self) -> None:
        """Append the events of all recorded rows to the log, those of deleted rows first."""
        log.append(self.drafts(), self.using)

    def drafts(self) -> list[Draft]:
        """Return the events of all recorded rows. Reads the rows as they are after the write."""
        for part in self._parts.values():
            with self.guarded([part.plan]):
                part.forget_staying()
        drafts = [draft for part in self._parts.values() for events in part.gone.values() for draft in events]
        for part in self._parts.values():
            written: list[Draft] = []
            with self.guarded([part.plan]):
                written = part.draft_written()
            # A failed read has become an event for all groups.
            drafts += written if part.touched is None else part.draft_groups()
        return drafts


__all__ = ["Batch"]
