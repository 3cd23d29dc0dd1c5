"""The rows of the live page: events of the log and traffic of the processes, merged by time, newest first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from admin_ui import documents
from declbind.models import Event, Traffic
from declbind.outbound import history, log
from declbind.registry import database_alias

#: Rows of a page; more that come between two polls are counted and left out.
MAX_ROWS = 500
#: Groups that a row names before it only counts.
SHOWN_GROUPS = 6
MAX_UNSEQUENCED = 100
#: Where ids appear out of order, how far back a poll looks for traffic rows that were late.
LATE_ROWS, LATE_SECONDS = 300, 10

WORDS = {
    Traffic.REQUEST: "in",
    Traffic.REFUSED: "refused",
    Traffic.ERROR: "error",
    Traffic.CONNECTION: "connection",
}


@dataclass(frozen=True)
class Cursor:
    """How far a page has read: the log's epoch and offset, and the last traffic row."""

    epoch: str
    offset: int
    traffic: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}:{self.traffic}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read what ``str()`` wrote; None for anything else."""
        epoch, _, rest = text.partition(":")
        offset, _, traffic = rest.partition(":")
        if not (epoch and _is_number(offset) and _is_number(traffic)):
            return None
        return cls(epoch, int(offset), int(traffic))


@dataclass(frozen=True)
class Wanted:
    """What the viewer filters by, and what the viewer may read: ``models`` are lower-case labels."""

    stream: str = ""
    text: str = ""
    only_problems: bool = False
    models: frozenset[str] = frozenset()

    @property
    def is_filtered(self) -> bool:
        """Whether anything is left out."""
        return bool(self.stream or self.text or self.only_problems)


@dataclass(frozen=True)
class Row:
    """One line of the page. ``key`` is stable, so that a row that is read twice is shown once."""

    key: str
    at: datetime
    kind: str
    word: str
    stream: str = ""
    model: str = ""
    pk: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()
    more_groups: int = 0
    action: str = ""
    who: str = ""
    origin: str = ""
    outcome: str = ""
    message: str = ""
    milliseconds: float | None = None
    offset: int | None = None
    is_sequenced: bool = True
    payload: str = ""
    is_shape: bool = False
    connection: str = ""
    sort: tuple[Any, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Page:
    """What one look gives. ``rows`` are newest first; ``is_reset`` says that the log is another history now."""

    rows: list[Row]
    cursor: Cursor
    skipped: int = 0
    is_reset: bool = False


def readable_models(user: Any) -> frozenset[str]:
    """Return the models whose values the user may see: by the model's own view permission."""
    return frozenset(
        model._meta.label_lower
        for model in apps.get_models()
        if user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
    )


def load_page(wanted: Wanted, after: Cursor | None = None) -> Page:
    """Read the newest rows, or with ``after`` those that came since.

    The ends are read before the rows: what appears in between is read twice rather than never.
    """
    using = database_alias()
    head = log.load_head(using)
    last = Traffic.objects.using(using).aggregate(last=Max("pk"))["last"] or 0
    cursor = Cursor(head.epoch, head.offset, last)
    if after is not None and (after.epoch != head.epoch or after.offset > head.offset):
        return Page([], cursor, is_reset=True)
    found: list[Row] = []
    skipped = 0
    if not wanted.only_problems:
        events, missed = _load_events(wanted, after, using)
        found += [_event_row(event, wanted, using) for event in events]
        skipped += missed
    traffic = _narrow_traffic(Traffic.objects.using(using).order_by("-pk"), wanted)
    if after is not None:
        traffic = _since(traffic, after.traffic, using)
    requests = list(traffic[: MAX_ROWS + 1])
    if after is not None and len(requests) > MAX_ROWS:
        skipped += traffic.count() - MAX_ROWS
    found += [_traffic_row(row) for row in requests[:MAX_ROWS]]
    found.sort(key=lambda row: (row.at, row.sort), reverse=True)
    if after is not None:
        skipped += max(0, len(found) - MAX_ROWS)
    return Page(found[:MAX_ROWS], cursor, skipped)


def _load_events(wanted: Wanted, after: Cursor | None, using: str) -> tuple[list[Event], int]:
    events = _narrow_events(Event.objects.using(using), wanted)
    if after is None:
        return list(events.order_by("-pk")[:MAX_ROWS]), 0
    column = history.offset_column(using)
    fresh = events.filter(**{f"{column}__gt": after.offset}).order_by(f"-{column}")
    found = list(fresh[: MAX_ROWS + 1])
    skipped = fresh.count() - MAX_ROWS if len(found) > MAX_ROWS else 0
    found = found[:MAX_ROWS]
    if history.needs_sequencer(using):
        found += events.filter(seq__isnull=True).order_by("-pk")[:MAX_UNSEQUENCED]
    return found, skipped


def _since(rows: QuerySet[Traffic], last: int, using: str) -> QuerySet[Traffic]:
    fresh = Q(pk__gt=last)
    if history.needs_sequencer(using):
        fresh |= Q(pk__gt=last - LATE_ROWS, at__gte=timezone.now() - timedelta(seconds=LATE_SECONDS))
    return rows.filter(fresh)


# --- filters ---------------------------------------------------------------------------------------------------------


def _narrow_events(rows: QuerySet[Event], wanted: Wanted) -> QuerySet[Event]:
    if wanted.stream:
        rows = rows.filter(stream=wanted.stream)
    if wanted.text:
        text = wanted.text
        told = ("stream", "model", "object_pk", "changes", "actor", "origin")
        found = Q(kind=Event.CONTROL, data__icontains=text)
        for column in told:
            found |= Q(**{f"{column}__icontains": text})
        # That a row is found would tell its values to somebody who may not read them.
        found |= Q(model__in=wanted.models, data__icontains=text)
        rows = rows.filter(found)
    return rows


def _narrow_traffic(rows: QuerySet[Traffic], wanted: Wanted) -> QuerySet[Traffic]:
    if wanted.stream:
        rows = rows.filter(stream=wanted.stream)
    if wanted.only_problems:
        rows = rows.filter(kind__in=(Traffic.REFUSED, Traffic.ERROR))
    if wanted.text:
        text = wanted.text
        found = Q(username__icontains=text) | Q(user_pk=text)
        for column in ("stream", "action", "object_pk", "groups", "outcome", "message", "connection"):
            found |= Q(**{f"{column}__icontains": text})
        rows = rows.filter(found)
    return rows


# --- rows ------------------------------------------------------------------------------------------------------------


def _event_row(event: Event, wanted: Wanted, using: str) -> Row:
    sequenced = event.seq is not None or not history.needs_sequencer(using)
    common: dict[str, Any] = {
        "key": f"e{event.pk}",
        "at": event.created_at,
        "stream": event.stream,
        "who": event.actor,
        "origin": event.origin,
        "offset": (event.seq if event.seq is not None else event.pk) if sequenced else None,
        "is_sequenced": sequenced,
        "sort": ("e", event.pk),
    }
    if event.kind == Event.CONTROL:
        content = _read(event.data)
        kind = str(content.get("type", "control")) if isinstance(content, Mapping) else "control"
        return Row(kind="control", word="control", action=kind, payload=documents.dump(content), **common)
    changes = _read_changes(event.changes)
    content = _read(event.data)
    readable = event.model in wanted.models
    if not readable:
        content = shape(content, 2 if event.kind == Event.PAYLOAD else 1)
    return Row(
        kind="out",
        word="out",
        model=event.model,
        pk=str(_read(event.object_pk)),
        changes=changes[:SHOWN_GROUPS],
        more_groups=max(0, len(changes) - SHOWN_GROUPS),
        payload=documents.dump(content) if content else "",
        is_shape=not readable,
        **common,
    )


def _traffic_row(row: Traffic) -> Row:
    groups = [str(group) for group in row.groups] if isinstance(row.groups, list) else []
    who = row.username or (f"user {row.user_pk}" if row.user_pk else "")
    return Row(
        key=f"t{row.pk}",
        at=row.at,
        kind=row.kind,
        word=WORDS.get(row.kind, row.kind),
        stream=row.stream,
        pk=row.object_pk,
        groups=tuple(groups[:SHOWN_GROUPS]),
        more_groups=max(0, len(groups) - SHOWN_GROUPS),
        action=row.action,
        who=who or ("anonymous" if row.connection else ""),
        outcome=row.outcome,
        message=row.message,
        milliseconds=row.milliseconds,
        connection=row.connection,
        sort=("t", row.pk),
    )


def shape(value: Any, depth: int = 1) -> Any:
    """Return what a value looks like without saying it: types, lengths, and the keys of ``depth`` levels."""
    if isinstance(value, Mapping):
        if depth > 0:
            return {key: shape(item, depth - 1) for key, item in value.items()}
        return f"object, {len(value)} keys"
    if isinstance(value, list):
        return f"list, {len(value)} items"
    if isinstance(value, str):
        return f"text, {len(value)} characters"
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "number"


def _read(text: str) -> Any:
    try:
        return json.loads(text) if text else ""
    except ValueError:
        return ""


def _read_changes(text: str) -> tuple[tuple[str, str], ...]:
    changes = _read(text)
    pairs: Iterable[Any] = changes if isinstance(changes, list) else ()
    return tuple((str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
