"""Batch: the rows that one call writes, read before and after it, and the events that tell of them.

Up to ``BULK_LIMIT`` rows of a model are told of one by one. Above that there is one event of kind "bulk" for each
binding: it has the groups that held such a row, or hold it now, take a snapshot. What cannot be found out is said as
well: a binding that lost track has all of its groups take one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db import models, transaction

from declbind.batches import in_batches
from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP
from declbind.serializers.lists import load_lists

from . import entries, log
from .drafts import Groups, draft_bulk, draft_delete, draft_hidden, draft_write, groups_of
from .locks import ends_transaction
from .plans import Outlet, Plan
from .rows import load_rows, narrow, stream_rows

logger = logging.getLogger("declbind")

#: The rows that are meant, by their keys: a query (see ``rows.keys_of``), or the keys themselves.
Chosen = models.QuerySet[Any] | Sequence[Any]


@dataclass
class _Part:
    """What is known of the rows of one model."""

    plan: Plan
    #: By key, the row as it was and its groups. Both are ``None`` where no such row was to be seen.
    before: dict[Any, tuple[Any, Groups | None]] = field(default_factory=dict)
    #: Keys of rows that stay in their groups, and who hears of them.
    kept: dict[Any, frozenset[Outlet]] = field(default_factory=dict)
    #: The events of rows that go, by key.
    gone: dict[Any, list[entries.Draft]] = field(default_factory=dict)
    #: Above the limit: the groups that are told, by binding.
    touched: dict[Outlet, dict[str, None]] | None = None
    #: Above the limit: keys of rows with who hears of them, and whether their groups are to be read after the write.
    many: dict[Any, frozenset[Outlet]] = field(default_factory=dict)
    moves: bool = False
    #: Rows as they are after the write, where they need not be read again.
    after: dict[Any, Any] | None = None
    #: Nothing more is to be found out.
    is_lost: bool = False

    @property
    def count(self) -> int:
        return len(self.before) + len(self.kept) + len(self.gone)

    @cached_property
    def everybody(self) -> frozenset[Outlet]:
        return frozenset(self.plan.outlets)


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

        def keep(row: Any) -> None:
            part.before[row.pk] = row, groups_of(plan, row, self.using) if plan.needs_old else {}

        part.moves |= moves
        self._read(part, chosen, lookup, plan.group_fields if plan.needs_old else (), keep)
        if part.touched is None:
            return list(part.before)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def will_delete(self, plan: Plan, chosen: Chosen) -> list[Any] | None:
        """Read rows that are about to go; return their keys, ``None`` where there are too many to tell."""
        part = self._part(plan)

        def keep(row: Any) -> None:
            if row.pk not in part.gone:
                part.gone[row.pk] = draft_delete(plan, row, self.using)

        self._read(part, chosen, "pk", plan.fields, keep)
        if part.touched is None:
            return list(part.gone)
        return list(part.many) if plan.needs_old and not part.is_lost else None

    def keep(self, plan: Plan, keys: Iterable[Any], outlets: Iterable[Outlet] | None = None) -> None:
        """Note rows of which something changes that does not decide their groups, such as a list.

        ``outlets`` are those who send it, for nobody else hears of it; ``None`` stands for all.
        """
        part = self._part(plan)
        hearing = part.everybody if outlets is None else frozenset(outlets)
        part.kept.update((key, part.kept.get(key, hearing) | hearing) for key in keys)
        self._check_limit(part)

    def unwritten(self, plan: Plan, keys: Container[Any]) -> list[Any]:
        """Return the keys of rows that were read before the write and are not among ``keys``."""
        return [key for key in self._part(plan).before if key not in keys]

    def create(self, plan: Plan, keys: Iterable[Any]) -> None:
        """Note rows that are new, unless they were read before the write; to be called after it."""
        part = self._part(plan)
        part.before.update((key, (None, None)) for key in keys if key not in part.before)
        self._check_limit(part)

    def lose_track(self, plan: Plan) -> None:
        """Note that it cannot be told which rows of a model were written, or where they were."""
        part = self._part(plan)
        part.is_lost = True
        part.touched = {outlet: {EVERY_GROUP: None} for outlet in plan.outlets}
        part.before, part.kept, part.gone, part.many = {}, {}, {}, {}

    def _part(self, plan: Plan) -> _Part:
        # A model has another plan for a table that its triggers report.
        return self._parts.setdefault(id(plan), _Part(plan))

    def _read(
        self,
        part: _Part,
        chosen: Chosen,
        lookup: str,
        fields: Sequence[Any] | None,
        keep: Callable[[Any], None],
    ) -> None:
        plan = part.plan
        if part.is_lost:
            return
        with self._guarded(part):
            if part.touched is None:
                room = settings.BULK_LIMIT - part.count
                if isinstance(chosen, models.QuerySet) or len(chosen) <= room:
                    found = [
                        row
                        for rows in _base_rows(plan, chosen, lookup, self.using)
                        for row in narrow(rows, fields, self.using)[: room + 1]
                    ]
                    if len(found) <= room:
                        for row in found:
                            keep(row)
                        return
                self._overflow(part)
            if not plan.needs_old:
                self._touch_constant(part)
                return
            for rows in _base_rows(plan, chosen, lookup, self.using):
                for row in stream_rows(narrow(rows, plan.group_fields, self.using)):
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
        for _, groups in part.before.values():
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
            part.moves |= bool(part.kept) or any(row is None for row, _ in part.before.values())
            hearing = [(key, part.everybody) for key in part.before] + list(part.kept.items())
            for key, outlets in hearing:
                part.many[key] = part.many.get(key, outlets) | outlets
            if not part.plan.needs_old:
                self._touch_constant(part, frozenset().union(*(outlets for _, outlets in hearing)))
        part.before, part.kept, part.gone = {}, {}, {}

    def _touch_constant(self, part: _Part, outlets: frozenset[Outlet] | None = None) -> None:
        assert part.touched is not None
        for outlet in part.plan.outlets:
            if outlets is None or outlet in outlets:
                part.touched[outlet].update(dict.fromkeys(outlet.constant_groups or ()))

    def _touch(self, part: _Part, row: Any, outlets: frozenset[Outlet]) -> None:
        assert part.touched is not None
        for outlet, names in groups_of(part.plan, row, self.using, outlets).items():
            part.touched[outlet].update(dict.fromkeys(names))

    @contextlib.contextmanager
    def _guarded(self, part: _Part) -> Iterator[None]:
        """Keep what goes wrong in reading from the writer; the clients are told that something is missing."""
        plan = part.plan
        try:
            # A base manager of the project's own may query what does not exist, which would end the transaction.
            with contextlib.nullcontext() if plan.shows_all else transaction.atomic(using=self.using):
                yield
        except Exception as error:
            if ends_transaction(error, self.using):
                raise
            logger.exception("What was written to %s cannot be told row by row: %s", plan.model._meta.label, error)
            self.lose_track(plan)

    # --- after it ----------------------------------------------------------------------------------------------------

    def is_by_group(self, plan: Plan) -> bool:
        """Tell whether no row of a model is told of by itself any more."""
        return self._part(plan).touched is not None

    def take(self, plan: Plan, rows: Sequence[Any]) -> None:
        """Take all rows of a model that were written as they are now stored, so that they need not be read again."""
        load_lists(rows, plan.m2m, self.using)
        self._part(plan).after = {row.pk: row for row in rows}

    def append(self) -> None:
        """Append the events of all that was gathered, rows that went first."""
        log.append(self.drafts(), self.using)

    def drafts(self) -> list[entries.Draft]:
        """Return the events of all that was gathered; reads the rows as they are now."""
        drafts = [draft for part in self._parts.values() for events in part.gone.values() for draft in events]
        for part in self._parts.values():
            written: list[entries.Draft] = []
            with self._guarded(part):
                if part.touched is None:
                    written = self._draft_rows(part)
                else:
                    self._touch_moved(part)
            drafts += written if part.touched is None else draft_bulk(part.plan, part.touched)
        return drafts

    def _draft_rows(self, part: _Part) -> list[entries.Draft]:
        plan, drafts = part.plan, []
        keys = [key for key in {**part.before, **part.kept} if key not in part.gone]
        rows = load_rows(plan, keys, plan.fields, self.using) if part.after is None else part.after
        for key in keys:
            row = rows.get(key)
            earlier, old = part.before.get(key, (None, None))
            hearing = None
            if row is None:
                if earlier is not None:
                    drafts += draft_hidden(plan, earlier, key, old, self.using)
                continue
            if key in part.kept and old is None:
                hearing = part.kept[key] if key not in part.before else hearing
                old = groups_of(plan, row, self.using, hearing)
            drafts += draft_write(plan, row, key, old, self.using, hearing)
        return drafts

    def _touch_moved(self, part: _Part) -> None:
        if part.plan.needs_old and part.moves:
            for rows in _base_rows(part.plan, list(part.many), "pk", self.using):
                for row in stream_rows(narrow(rows, part.plan.group_fields, self.using)):
                    self._touch(part, row, part.many[row.pk])


def _base_rows(plan: Plan, chosen: Chosen, lookup: str, using: str) -> Iterator[models.QuerySet[Any]]:
    """Yield query sets of the base manager which together are the rows that are meant."""
    rows = plan.model._base_manager.using(using)
    if isinstance(chosen, models.QuerySet):
        # As a subquery: rows may be chosen by joins and aggregates, and no database locks the result of those.
        yield rows.filter(**{f"{lookup}__in": chosen.using(using)})
        return
    for some in in_batches(chosen, using):
        yield rows.filter(**{f"{lookup}__in": some})


__all__ = ["Batch"]
