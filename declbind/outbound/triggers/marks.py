"""Conversion of trigger marks to events.

A mark carries the old and new values of one table's columns. Anything else that a binding needs (a parent's columns,
lists, columns added after the trigger was installed) is read from the database. If it no longer exists there, all
groups of the binding are sent a resync.

Nothing here takes a lock. The process that makes events holds the lock of the log's head, and writers must never wait
for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import connections, models, transaction

from declbind.core.groups import diff
from declbind.django_types import Column, Connection, Converter, Key, RowValues, column_name, concrete_model
from declbind.models import Event
from declbind.outbound import tenants
from declbind.outbound.batch import Batch
from declbind.outbound.drafts import UNKNOWN, draft_delete, draft_write, groups_of
from declbind.outbound.entries import Draft
from declbind.outbound.index import current_index
from declbind.outbound.plans import Outlet, Plan
from declbind.outbound.rows import all_rows, read_rows, shows_every_row
from declbind.serializers.lists import list_columns
from declbind.stored_rows import StoredRow

from . import postgresql, sqlite
from .histories import Histories
from .reporting import EVERY_TABLE, split_call
from .tables import SIDES, CapturedTable, Image, captured_tables

if TYPE_CHECKING:
    from django.db.models.expressions import Expression

logger = logging.getLogger("declbind")

Reader = Callable[[type[models.Model], list[str], list[str], Connection], list[Image]]
_READERS: dict[str, Reader] = {
    "postgresql": postgresql.read_images,
    "sqlite": sqlite.read_images,
}


@dataclass(frozen=True)
class Mark:
    """A trigger's mark: its id in the log, and its content as JSON text (``data``)."""

    id: int
    data: str


@dataclass
class _Write:
    """One write of one row, as read from a mark.

    ``op`` is the kind of write. ``old`` and ``new`` are the row before and after it, by attribute name; ``None`` if the
    row did not exist.
    """

    op: str
    old: RowValues | None
    new: RowValues | None


def convert(marks: Sequence[Mark], using: str) -> list[list[Draft]]:
    """Return the events of each mark, in order.

    The list of a mark is empty if no binding listens to its table any more.
    """
    tables = captured_tables(current_index())
    found: list[list[Draft]] = [[] for _ in marks]
    calls: list[str] = []
    by_table: dict[str, list[int]] = {}
    for place, mark in enumerate(marks):
        note = json.loads(mark.data)
        call, unreported = split_call(str(note.get("call") or ""))
        calls.append(call)
        if unreported.isdisjoint({note["table"], EVERY_TABLE}) and note["op"] != sqlite.CANDIDATE:
            by_table.setdefault(note["table"], []).append(place)
    read: list[tuple[CapturedTable, list[int], list[_Write]]] = []
    shown: dict[int, bool] = {}
    histories = Histories()
    for name, places in by_table.items():
        for captured in tables.get(name, ()):
            with _guarded(captured, places, found, using):
                writes = _read_writes(captured, [marks[place].data for place in places], using)
                _remember(captured, places, writes, histories)
                read.append((captured, places, writes))
    for captured, places, writes in read:
        with _guarded(captured, places, found, using):
            drafted = [
                _draft(captured, write, _Place(place, histories, using, shown))
                for place, write in zip(places, writes, strict=True)
            ]
            for place, drafts in zip(places, drafted, strict=True):
                found[place] += drafts
    joined = _joined(found, calls)
    return [list(tenants.without_rows(drafts, using)) for drafts in joined] if tenants.are_mixed(using) else joined


@dataclass(frozen=True)
class _Place:
    """The position of a mark in its batch, and what is known about the batch."""

    number: int
    histories: Histories
    using: str
    #: Cache of ``shows_every_row``: the ids of plans, and the results.
    shown: dict[int, bool]

    def shows_every_row(self, plan: Plan) -> bool:
        """Return whether the base manager of a plan's model hides no row."""
        found = self.shown.get(id(plan))
        if found is None:
            found = self.shown[id(plan)] = shows_every_row(plan, self.using)
        return found


def _remember(captured: CapturedTable, places: list[int], writes: list[_Write], histories: Histories) -> None:
    options = captured.model._meta
    for place, write in zip(places, writes, strict=True):
        sides = [(side, None if side is None else side[options.pk.attname]) for side in (write.old, write.new)]
        for key in dict.fromkeys(key for side, key in sides if side is not None):
            old, new = (side if found == key else None for side, found in sides)
            histories.add(concrete_model(captured.model), key, place, old, new)


@contextlib.contextmanager
def _guarded(captured: CapturedTable, places: list[int], found: list[list[Draft]], using: str) -> Iterator[None]:
    """Log an error in the block, and draft a resync for the marks of the table, so that it does not hold up the log."""
    try:
        with transaction.atomic(using=using):
            yield
    except Exception as error:
        logger.exception(
            "The marks that triggers made for table %r cannot be converted to events: %s",
            captured.model._meta.db_table,
            error,
        )
        found[places[0]] += _lost(captured, using)


def _joined(found: list[list[Draft]], calls: list[str]) -> list[list[Draft]]:
    """Join the events of one row that come from one ORM call, such as a save of a row in several tables.

    The joined event replaces the last of them; the others are removed.
    """
    earlier: dict[tuple[str, str, str], tuple[int, Draft]] = {}
    for place, call in enumerate(calls):
        for draft in list(found[place]) if call else ():
            key = call, draft.stream, draft.object_pk
            if draft.kind not in (Event.ROW, Event.GONE):
                earlier.pop(key, None)
                continue
            if key in earlier:
                at, before = earlier[key]
                found[at].remove(before)
                joined = _join(before, draft)
                spot = found[place].index(draft)
                found[place][spot : spot + 1] = [joined] if joined.changes else []
                draft = joined
            if draft.changes:
                earlier[key] = place, draft
            else:
                del earlier[key]
    return found


def _join(before: Draft, after: Draft) -> Draft:
    """Return one event with the effect of two successive events of one row."""
    first, last = dict(before.changes), dict(after.changes)
    was = {group for group in (*first, *last) if first.get(group, last.get(group)) != "create"}
    is_now = {group for group in (*first, *last) if last.get(group, first.get(group)) != "delete"}
    order = list(dict.fromkeys((*first, *last)))
    changes = diff([group for group in order if group in was], [group for group in order if group in is_now])
    return after._replace(changes=changes)


def _read_writes(captured: CapturedTable, notes: list[str], using: str) -> list[_Write]:
    """Return the writes that the marks of one table describe, with database values converted to Python values."""
    connection = connections[using]
    options = captured.model._meta
    fields = {column_name(field): field for field in options.local_concrete_fields}
    contents = [json.loads(note) for note in notes]
    writes = [_Write(content["op"], None, None) for content in contents]
    carried = {name for content in contents for side in SIDES for name in content.get(side) or ()}
    names = [name for name in fields if name in carried]
    if not names:
        return writes
    converters = {name: _converters(fields[name], options.db_table, connection) for name in names}
    for place, side, values in _READERS[connection.vendor](captured.model, names, notes, connection):
        row: RowValues = {}
        for name, value in zip(names, values, strict=True):
            if name in contents[place][side]:
                expression, functions = converters[name]
                for convert_value in functions:
                    value = convert_value(value, expression, connection)
                row[fields[name].attname] = value
        setattr(writes[place], side, row)
    return writes


def _converters(field: Column, table: str, connection: Connection) -> tuple[Expression, tuple[Converter, ...]]:
    expression = field.get_col(table)
    return expression, (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection))


def _draft(captured: CapturedTable, write: _Write, place: _Place) -> list[Draft]:
    """Return the events of one marked write."""
    using = place.using
    if write.op == "MANY":
        return _lost(captured, using)
    options = captured.model._meta
    key = options.pk.attname
    drafts: list[Draft] = []
    for plan, lookup in captured.listeners.family:
        if lookup != "pk":
            drafts += _draft_children(plan, lookup, captured.model, write, place)
        elif write.old and write.new and write.old[key] != write.new[key]:
            drafts += _draft_own(plan, _Write("DELETE", write.old, None), key, place)
            drafts += _draft_own(plan, _Write("INSERT", None, write.new), key, place)
        else:
            drafts += _draft_own(plan, write, key, place)
    for plan, listed in captured.listeners.lists:
        owner, _ = list_columns(listed)
        owners = {side[owner] for side in (write.old, write.new) if side is not None} - {None}
        for row in _rows_now(plan, "pk", owners, using):
            drafts += _draft_kept(plan, row, plan.outlets_of(listed), using)
    return drafts + _draft_related(captured, write, using)


def _draft_related(captured: CapturedTable, write: _Write, using: str) -> list[Draft]:
    """Return the events of rows that are sent again because a row related to them was written."""
    drafts: list[Draft] = []
    for plan, hop in captured.listeners.watches:
        # The relation may lead to a child model of this table. Parent and child rows have the same key.
        column = captured.model._meta.pk.attname if hop.column == "pk" else hop.column
        values = {side[column] for side in (write.old, write.new) if side is not None and column in side} - {None}
        for row in _rows_now(plan, hop.lookup, values, using):
            drafts += _draft_kept(plan, row, plan.outlets_watching(hop), using)
    return drafts


def _draft_kept(plan: Plan, row: StoredRow, reporting: tuple[Outlet, ...], using: str) -> list[Draft]:
    """Return the events of a row that stays in its groups, for the outlets in ``reporting``.

    If project code computes the groups of an outlet, the old groups are unknown, because they may depend on the row
    that was written.
    """
    unknown = [outlet for outlet in reporting if outlet.has_group_code]
    known = groups_of(plan, row, using, [outlet for outlet in reporting if outlet not in unknown])
    return draft_write(plan, row, row.pk, {**known, **dict.fromkeys(unknown, UNKNOWN)}, using, reporting)


def _draft_own(plan: Plan, write: _Write, key: str, place: _Place) -> list[Draft]:
    """Return the events of a write to the plan's own table."""
    using = place.using
    sides = [side for side in (write.new, write.old) if side is not None]
    pk, now = sides[0][key], None
    others = place.histories.columns_at(plan.model, pk, place.number) if plan.model._meta.parents else {}
    shows_all = place.shows_every_row(plan)
    if not shows_all or any(
        field.attname not in side and field.attname not in others for side in sides for field in plan.fields
    ):
        now = next(iter(_rows_now(plan, "pk", [pk], using)), None)
    # A base manager can only be asked about the present row, not about the row before the write.
    is_known = shows_all or (write.old is None and now is not None)
    old, new = (_overlaid(plan, now, others, side, using) for side in (write.old, write.new))
    if not is_known or (old is None) != (write.old is None) or (new is None) != (write.new is None):
        return _lost_plans([plan], using)
    if new is None:
        return [] if old is None else draft_delete(plan, old, using)
    return draft_write(plan, new, pk, None if old is None else groups_of(plan, old, using), using)


def _draft_children(plan: Plan, lookup: str, parent: type[models.Model], write: _Write, place: _Place) -> list[Draft]:
    """Return the events of child rows whose parent row was updated.

    Inserts and deletes of child rows are reported by the marks of the child's own table.
    """
    if write.old is None or write.new is None:
        return []
    using, histories, pk = place.using, place.histories, write.new[parent._meta.pk.attname]
    rows: dict[Key, StoredRow | None] = {row.pk: row for row in _rows_now(plan, lookup, [pk], using)}
    for child in histories.keys_of_children(plan.model, parent, pk, place.number):
        rows.setdefault(child, None)
    drafts: list[Draft] = []
    for child, row in rows.items():
        others = histories.columns_at(plan.model, child, place.number)
        old, new = (_overlaid(plan, row, others, side, using) for side in (write.old, write.new))
        if old is None or new is None:
            drafts += _lost_plans([plan], using)
        else:
            drafts += draft_write(plan, new, child, groups_of(plan, old, using), using)
    return drafts


def _lost(captured: CapturedTable, using: str) -> list[Draft]:
    return _lost_plans(captured.listeners.plans, using)


def _lost_plans(plans: Iterable[Plan], using: str) -> list[Draft]:
    batch = Batch(using)
    for plan in plans:
        batch.lose_track(plan)
    return batch.drafts()


def _rows_now(plan: Plan, lookup: str, keys: Iterable[Key], using: str) -> list[StoredRow]:
    """Return the present rows whose field ``lookup`` has one of the values ``keys``, without locking them."""
    # A lookup across a to-many relation returns duplicate rows, so the keys are selected in a subquery.
    found = all_rows(plan.model, using).filter(**{f"{lookup}__in": list(keys)}).values("pk")
    return read_rows(plan, all_rows(plan.model, using).filter(pk__in=found), plan.fields, is_locked=False)


def _overlaid(
    plan: Plan, now: StoredRow | None, others: Mapping[str, object], side: Mapping[str, object] | None, using: str
) -> StoredRow | None:
    """Return the row of a mark, with missing columns taken from other marks or from the present row.

    Returns ``None`` if a column is in neither.
    """
    if side is None:
        return None
    options = plan.model._meta
    values = {**({} if now is None else now.values), **others, **side}
    if any(field.attname not in values for field in (options.pk, *plan.fields)):
        return None
    return StoredRow(plan.model, values, using)


__all__ = ["Mark", "convert"]
