"""The filters of the live page, as they appear in its address, and the rows that match them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar
from urllib.parse import urlencode

from django.apps import apps
from django.db.models import F, JSONField, Model, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, StrIndex

from declbind.console.shown import shown_activity
from declbind.console.stored import read_deliveries
from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.django_types import Operator
from declbind.equality import ExactText
from declbind.live.traffic import CAPTURE_FAILED
from declbind.models import Event, Traffic
from declbind.outbound import history
from declbind.registry import get_registry

Stored = TypeVar("Stored", bound=Model)

#: Query keys of the address, with the maximum number of characters of each.
KEYS = {
    "stream": 64, "model": 200, "row": 200, "group": 120, "user": 150, "action": 20, "outcome": 40, "node": 32,
    "q": 200, "only": 12,
}  # fmt: skip
#: The values of ``only``, and the kinds of traffic that each shows; sent frames appear under none of them.
ONLY = {
    "problems": (Traffic.REFUSED, Traffic.ERROR),
    "refused": (Traffic.REFUSED,),
    "errors": (Traffic.ERROR,),
    "connections": (Traffic.CONNECTION,),
}
FRAME_ACTIONS = ("create", "update", "delete", RESYNC)
#: Events that a process handed over, of which it is known.
MAX_DELIVERED = 500


@dataclass(frozen=True)
class Wanted:
    """The viewer's filters and permissions: ``models`` are lower-case labels of the models that may be read."""

    stream: str = ""
    model: str = ""
    row: str = ""
    group: str = ""
    user: str = ""
    action: str = ""
    outcome: str = ""
    node: str = ""
    q: str = ""
    only: str = ""
    models: frozenset[str] = frozenset()

    @classmethod
    def read(cls, query: Mapping[str, object], models: frozenset[str] = frozenset()) -> Wanted:
        """Parse an address's query; unknown parts are ignored."""
        given = {key: str(query.get(key, "")).replace("\0", "").strip()[:length] for key, length in KEYS.items()}
        given["model"] = given["model"].lower()
        if given["only"] not in ONLY:
            given["only"] = ""
        return cls(**given, models=models)

    @property
    def query(self) -> str:
        """Return the query of the address that shows the same."""
        return urlencode({key: value for key in KEYS if (value := getattr(self, key))})

    def but(self, **changes: str) -> str:
        """Return the query of the same address with these parts changed."""
        return replace(self, **changes).query  # type: ignore[arg-type]

    @property
    def is_filtered(self) -> bool:
        """Return whether anything is filtered out."""
        return bool(self.query)

    @property
    def has_rare(self) -> bool:
        """Return whether one of the rarely used filters is set."""
        return bool(self.model or self.row or self.group or self.user or self.action or self.outcome or self.node)

    @property
    def wants_events(self) -> bool:
        """Return whether sent frames, and marks, can be among the rows."""
        return not (self.only or self.outcome)


def readable_models(user: Operator) -> frozenset[str]:
    """Return the models whose values the user may see, by the model's own view permission."""
    return frozenset(
        model._meta.label_lower
        for model in apps.get_models()
        if user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
    )


def stream_models() -> dict[str, str]:
    """Return the lower-case label of the model of each existing stream."""
    return {stream: binding.model_label() for stream, binding in get_registry().by_stream.items()}


def narrow_events(rows: QuerySet[Event], wanted: Wanted, using: str) -> QuerySet[Event]:
    """Filter events. Except for the part of the log that ``rows`` covers, nothing here has an index."""
    if not wanted.wants_events:
        return rows.none()
    # A trigger's mark is no event yet and is not sent.
    rows = rows.exclude(kind=Event.MARK)
    if wanted.stream:
        rows = rows.filter(stream=wanted.stream)
    if wanted.model:
        rows = rows.filter(model=wanted.model)
    if wanted.row:
        rows = rows.filter(object_pk__in=(wanted.row, json.dumps(wanted.row)))
    if wanted.group:
        rows = _containing(rows, "changes", *(f"[{json.dumps(name)}," for name in (wanted.group, EVERY_GROUP)))
    if wanted.user:
        rows = rows.filter(actor=wanted.user)
    if wanted.action in FRAME_ACTIONS:
        rows = _containing(rows.exclude(kind=Event.CONTROL), "changes", f',"{wanted.action}"]')
    elif wanted.action:
        rows = _containing(rows.filter(kind=Event.CONTROL), "data", f'"type": {json.dumps(wanted.action)}')
    if wanted.node:
        rows = rows.filter(**{f"{history.offset_column(using)}__in": _delivered_by(wanted.node, using)})
    if wanted.q:
        text = wanted.q
        found = Q(kind=Event.CONTROL, data__icontains=text)
        for column in ("stream", "model", "object_pk", "changes", "actor", "origin"):
            found |= Q(**{f"{column}__icontains": text})
        # Finding a row by its values would disclose them to a user who may not read them.
        found |= Q(model__in=wanted.models, data__icontains=text)
        rows = rows.filter(found)
    return rows


def narrow_traffic(rows: QuerySet[Traffic], wanted: Wanted) -> QuerySet[Traffic]:
    """Filter requests, refusals, errors and connections."""
    if wanted.only:
        rows = rows.filter(kind__in=ONLY[wanted.only])
    if wanted.stream:
        rows = rows.filter(stream=wanted.stream)
    if wanted.model:
        streams = [stream for stream, model in stream_models().items() if model == wanted.model]
        rows = rows.filter(stream__in=streams)
    if wanted.user:
        rows = rows.filter(Q(username=wanted.user) | Q(user_pk=wanted.user))
    same = {"object_pk": wanted.row, "action": wanted.action, "outcome": wanted.outcome, "node": wanted.node}
    rows = rows.filter(**{column: value for column, value in same.items() if value})
    if wanted.group:
        rows = _containing(rows, "groups", json.dumps(wanted.group))
    if wanted.q:
        text = wanted.q
        found = Q(username__icontains=text) | Q(user_pk=text)
        for column in ("stream", "action", "object_pk", "groups", "outcome", "connection", "detail"):
            found |= Q(**{f"{column}__icontains": text})
        # Nor may a row be found by the text of an exception about it.
        streams = [stream for stream, model in stream_models().items() if model in wanted.models]
        found |= Q(message__icontains=text) & (~Q(message__startswith=CAPTURE_FAILED) | Q(stream__in=streams))
        rows = rows.filter(found)
    return rows


def _containing(rows: QuerySet[Stored], column: str, *texts: str) -> QuerySet[Stored]:
    """Filter rows whose column contains one of the texts."""
    # Not LIKE, which ignores case on SQLite: two groups may differ in nothing else.
    is_json = isinstance(rows.model._meta.get_field(column), JSONField)
    written = ExactText(Cast(column, TextField())) if is_json else F(column)
    places = {f"place{number}": StrIndex(written, Value(text)) for number, text in enumerate(texts)}
    found = Q()
    for name in places:
        found |= Q(**{f"{name}__gt": 0})
    narrowed: QuerySet[Stored] = rows.alias(**places).filter(found)
    return narrowed


def _delivered_by(node: str, using: str) -> list[int]:
    newest = shown_activity(using).filter(seconds=1, node=node).order_by("-at")
    offsets: list[int] = []
    for deliveries in newest.values_list("deliveries", flat=True)[:600]:
        offsets += [offset for offset, _, _ in read_deliveries(deliveries)]
        if len(offsets) >= MAX_DELIVERED:
            break
    return offsets[:MAX_DELIVERED]


assert {field.name for field in fields(Wanted)} == {*KEYS, "models"}
