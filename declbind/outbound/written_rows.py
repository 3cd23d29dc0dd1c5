"""The rows of one model that one call writes, with one event for each row or, above a limit, one for their groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from django.db import models

from declbind.batches import in_batches
from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP
from declbind.django_types import Column, Key, Rows, Selection
from declbind.stored_rows import StoredRow
from declbind.stored_values import is_stock

from .catalog import facts_of
from .drafts import Groups, draft_bulk, draft_hidden, draft_write, groups_of
from .entries import ALL_TENANTS, Draft
from .plans import Outlet, Plan
from .rows import all_rows, load_rows, read_rows, stream_rows

#: The chosen rows, by their keys: a query (see ``rows.keys_of``), or the keys themselves.
Chosen: TypeAlias = "Selection | Sequence[Key]"


@dataclass
class WrittenRows:
    """The rows of one model that one call writes, as far as they are known.

    Up to ``BULK_LIMIT`` rows have an event each. Above the limit the rows are dropped, and only their groups are
    collected (``touched``). Methods that read may raise errors of the database or of a manager; ``Batch`` handles them.
    """

    plan: Plan
    using: str
    #: By key, the groups of the row before the write; ``None`` if no such row was visible.
    before: dict[Key, Groups | None] = field(default_factory=dict)
    #: Keys of rows that change in something other than their columns, and the bindings that send the change.
    kept: dict[Key, frozenset[Outlet]] = field(default_factory=dict)
    #: The groups before the write of those kept rows whose groups are computed by project code.
    places: dict[Key, Groups] = field(default_factory=dict)
    #: The events of deleted rows, by key.
    gone: dict[Key, list[Draft]] = field(default_factory=dict)
    #: Above the limit: the affected groups, by binding.
    touched: dict[Outlet, dict[str, None]] | None = None
    #: Above the limit: keys of rows with their bindings, whose groups may have to be read after the write.
    many: dict[Key, frozenset[Outlet]] = field(default_factory=dict)
    moves: bool = False
    #: Rows as they are after the write, if they need not be read again.
    after: dict[Key, StoredRow] | None = None
    #: If a trigger or a rule may cancel a write: rows before the write, by key, with the columns that can be compared.
    images: dict[Key, StoredRow] = field(default_factory=dict)
    #: The keys of the rows that statements wrote, if these are known.
    written: frozenset[Key] | None = None
    #: The keys of rows that were to be deleted and still exist.
    staying: set[Key] = field(default_factory=set)
    #: Whether the written rows can no longer be determined.
    is_lost: bool = False
    #: Whether rows of other tenants, which cannot be read, are affected too.
    is_for_all_tenants: bool = False

    @property
    def count(self) -> int:
        """Return the number of rows that will have events of their own."""
        return len(self.before) + len(self.kept) + len(self.gone)

    @cached_property
    def all_outlets(self) -> frozenset[Outlet]:
        """Return all bindings of the model."""
        return frozenset(self.plan.outlets)

    @cached_property
    def image_fields(self) -> tuple[Column, ...]:
        """Return the columns to compare: those that are sent, and other columns whose fields run no project code."""
        others = (column for column in self.plan.model._meta.concrete_fields if is_stock(column))
        return tuple(dict.fromkeys((*self.plan.fields, *others)))

    # --- before the write --------------------------------------------------------------------------------------------

    def fields_before(self, fields: Sequence[Column] | None) -> Sequence[Column] | None:
        """Return the columns that are read before a write: ``fields``, or more if the write may be cancelled."""
        facts = facts_of(self.plan.model, self.using)
        is_enough = facts.is_ordinary or facts.missing or not self.plan.shows_all
        return fields if is_enough else self.image_fields

    def read(
        self, chosen: Chosen, lookup: str, fields: Sequence[Column] | None, keep: Callable[[StoredRow], None]
    ) -> None:
        """Read rows and pass each to ``keep``. Above the limit, only their groups are recorded."""
        plan = self.plan
        if self.touched is None:
            room = settings.BULK_LIMIT - self.count
            if isinstance(chosen, models.QuerySet) or len(chosen) <= room:
                found = [row for rows in self._find(chosen, lookup) for row in read_rows(plan, rows, fields, room)]
                if len(found) <= room:
                    for row in found:
                        keep(row)
                    return
            self._overflow()
        if not plan.needs_old:
            self._touch_constant()
            return
        for rows in self._find(chosen, lookup):
            for row in stream_rows(plan, rows, plan.group_fields):
                self._touch(row, self.all_outlets)
                self.many[row.pk] = self.all_outlets

    def unknown(self, keys: Iterable[Key], outlets: Iterable[Outlet]) -> list[Key]:
        """Return the keys of rows whose groups before the write are needed and unknown."""
        moving = outlets_with_code(outlets)
        if not moving or self.is_lost:
            return []
        return [key for key in keys if not moving <= self.places.get(key, {}).keys()]

    def lose_track(self) -> None:
        """Record that the written rows, or their old groups, cannot be determined."""
        self.is_lost = True
        self.touched = {outlet: {EVERY_GROUP: None} for outlet in self.plan.outlets}
        self.before, self.kept, self.places, self.gone, self.many = {}, {}, {}, {}, {}

    def check_limit(self) -> None:
        """Switch from rows to groups if there are more rows than the limit."""
        if self.touched is not None:
            self._to_groups()
        elif self.count > settings.BULK_LIMIT:
            self._overflow()

    def _find(self, chosen: Chosen, lookup: str) -> Iterator[Rows]:
        """Yield query sets which together are the chosen rows."""
        rows = all_rows(self.plan.model, self.using)
        if isinstance(chosen, models.QuerySet):
            # The keys are a subquery, because rows may be chosen by joins and aggregates, whose results no database can
            # lock.
            yield rows.filter(**{f"{lookup}__in": chosen.using(self.using)})
            return
        for some in in_batches(chosen, self.using):
            yield rows.filter(**{f"{lookup}__in": some})

    def _overflow(self) -> None:
        """Switch from rows to groups."""
        self.touched = {outlet: {} for outlet in self.plan.outlets}
        if self.gone and not self.plan.needs_old:
            self._touch_constant()
        for groups in (*self.before.values(), *self.places.values()):
            for outlet, names in (groups or {}).items():
                self.touched[outlet].update(dict.fromkeys(names))
        for drafts in self.gone.values():
            for draft in drafts:
                outlet = next(outlet for outlet in self.plan.outlets if outlet.stream == draft.stream)
                self.touched[outlet].update((group, None) for group, _ in draft.changes)
        self._to_groups()

    def _to_groups(self) -> None:
        if not self.is_lost:
            # Rows that were not read before the write are read after it.
            self.moves |= bool(self.kept) or any(groups is None for groups in self.before.values())
            reporting = [(key, self.all_outlets) for key in self.before] + list(self.kept.items())
            for key, outlets in reporting:
                self.many[key] = self.many.get(key, outlets) | outlets
            if not self.plan.needs_old:
                self._touch_constant(frozenset().union(*(outlets for _, outlets in reporting)))
        self.before, self.kept, self.places, self.gone = {}, {}, {}, {}

    def _touch_constant(self, outlets: frozenset[Outlet] | None = None) -> None:
        assert self.touched is not None
        for outlet in self.plan.outlets:
            if outlets is None or outlet in outlets:
                self.touched[outlet].update(dict.fromkeys(outlet.constant_groups or ()))

    def _touch(self, row: StoredRow, outlets: frozenset[Outlet]) -> None:
        assert self.touched is not None
        for outlet, names in groups_of(self.plan, row, self.using, outlets).items():
            self.touched[outlet].update(dict.fromkeys(names))

    # --- after the write
    # ------------------------------------------------------------------------------------------------

    def forget_staying(self) -> None:
        """Leave out the events of rows that were to be deleted and still exist."""
        if self.gone and not facts_of(self.plan.model, self.using).is_ordinary:
            for some in in_batches(self.gone, self.using):
                stored = all_rows(self.plan.model, self.using).filter(pk__in=some)
                for key in stored.values_list("pk", flat=True):
                    self.gone.pop(key, None)
                    self.staying.add(key)

    def draft_written(self) -> list[Draft]:
        """Return the events of existing rows after the write.

        Above the limit there are none, and only groups are collected.
        """
        if self.touched is None:
            return self._draft_rows()
        self._touch_moved()
        return []

    def draft_groups(self) -> list[Draft]:
        """Return the events that replace those of single rows above the limit; none below it."""
        drafts = [] if self.touched is None else draft_bulk(self.plan, self.touched)
        return [draft._replace(tenant=ALL_TENANTS) for draft in drafts] if self.is_for_all_tenants else drafts

    def _draft_rows(self) -> list[Draft]:
        plan, drafts = self.plan, []
        cancelled = self._cancelled()
        keys = [key for key in {**self.before, **self.kept} if key not in self.gone and key not in cancelled]
        rows = load_rows(plan, keys, plan.fields, self.using) if self.after is None else self.after
        for key in keys:
            row, reporting = rows.get(key), None
            old = self.before.get(key, self.places.get(key))
            if row is None:
                drafts += draft_hidden(plan, key, old, self.using)
                continue
            if key not in self.before or (key in self.kept and old is None):
                reporting = self.kept[key] if key not in self.before else None
                old = {**groups_of(plan, row, self.using, reporting), **(old or {})}
            drafts += draft_write(plan, row, row.pk, old, self.using, reporting)
        return drafts

    def _cancelled(self) -> set[Key]:
        """Return the keys of rows that are unchanged because a trigger or a rule cancelled their write."""
        written = self.images.keys() if self.written is None else self.written
        kept_back = [
            key
            for key in self.images
            if key not in self.kept and key not in self.gone and (key in self.staying or key not in written)
        ]
        if not kept_back:
            return set()
        now = load_rows(self.plan, kept_back, self.image_fields, self.using)
        return {key for key, row in now.items() if row.values == self.images[key].values}

    def _touch_moved(self) -> None:
        if self.plan.needs_old and self.moves:
            for rows in self._find(list(self.many), "pk"):
                for row in stream_rows(self.plan, rows, self.plan.group_fields):
                    self._touch(row, self.many[row.pk])


def outlets_with_code(outlets: Iterable[Outlet]) -> frozenset[Outlet]:
    """Return the bindings whose groups are computed by project code, so that they may depend on other rows."""
    return frozenset(outlet for outlet in outlets if outlet.has_group_code)
