"""The bindings under test, and the rows that their clients should hold, according to plain queries.

Groups are computed here again, by hand: a judge that used declbind's code would repeat its errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from declbind import WebsocketBinding

from .kinds import Kind

#: The columns of a stored row by name.
Columns = Mapping[str, Any]
#: A row as a client should see it: its groups and its data.
Row = tuple[tuple[str, ...], dict[str, object]]
#: By stream and key, the rows that the model's base manager shows, in a group or not.
View = dict[str, dict[object, Row]]


@dataclass(frozen=True)
class Listener:
    """One binding: ``groups_of`` computes the groups of a row's columns, ``document`` is the same as a record."""

    name: str
    document: Mapping[str, Any]
    groups_of: Callable[[Columns], Sequence[str]]
    has_lists: bool = False
    is_code: bool = False


def _room(row: Columns, head: str = "room") -> list[str]:
    return [] if row["room"] is None else [f"{head}-{row['room']}"]


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _linked(row: Columns) -> list[str]:
    groups = [] if row["link"] is None else [f"link-{row['link']}"]
    return [*groups, *(f"{name}-{_truth(row['is_open'])}" for name in _room(row, "both"))]


LISTENERS = {
    "all": Listener("all", {}, lambda row: ["all"]),
    "rooms": Listener("rooms", {"groups": ["room-{room}"]}, _room),
    "links": Listener("links", {"groups": ["link-{%s}", "both-{room}-{is_open}"]}, _linked),
    "open": Listener(
        "open",
        {"groups": ["any", "open-{room}"], "where": {"is_open": True}},
        lambda row: ["any", *_room(row, "open")] if row["is_open"] else [],
    ),
    "lists": Listener("lists", {"groups": ["room-{room}"]}, _room, has_lists=True),
    "coded": Listener("coded", {}, lambda row: [f"even-{row['value'] % 2 == 0}"], is_code=True),
}

#: Bindings that are in force together, for which capture needs to do more or less.
SETS: Mapping[str, Sequence[str]] = {
    "constant": ["all"],
    "templated": ["rooms"],
    "conditions": ["rooms", "links", "open"],
    "lists": ["all", "open", "lists"],
    "code": ["all", "coded"],
}


@dataclass(frozen=True)
class Observer:
    """A binding on one model of a kind."""

    kind: Kind
    model: Any
    listener: Listener

    @property
    def stream(self) -> str:
        return f"{self.listener.name}.{self.model._meta.model_name}"

    @property
    def label(self) -> str:
        label: str = self.model._meta.label_lower
        return label

    @property
    def hides(self) -> bool:
        """Return whether a row may be hidden and still exist."""
        return type(self.model._base_manager) is not models.Manager

    @property
    def columns(self) -> list[Any]:
        """Return the columns that are sent: all but the key, and the links to parents."""
        return [column for column in self.model._meta.concrete_fields if not column.primary_key]

    @property
    def lists(self) -> list[Any]:
        return list(self.model._meta.many_to_many) if self.listener.has_lists else []

    def build(self) -> Mapping[str, object] | type[WebsocketBinding]:
        """Return the binding: a record, or a class for one whose groups are code."""
        names = [column.name for column in (*self.columns, *self.lists)]
        if self.listener.is_code:
            values = {"model": self.model, "stream": self.stream, "fields": names, "__module__": __name__}
            names_of = classmethod(lambda cls, row: [f"even-{row.value % 2 == 0}"])
            return type("Coded", (WebsocketBinding,), {**values, "group_names": names_of})
        document = {"stream": self.stream, "model": self.model._meta.label, "fields": names, **self.listener.document}
        groups = [group.replace("%s", self.kind.link) for group in document.get("groups", ["all"])]
        return {**document, "groups": groups}

    def view(self, rows: Sequence[Columns], lists: Mapping[str, Mapping[object, list[object]]]) -> dict[object, Row]:
        """Return the rows that clients should hold, given stored rows."""
        seen = {}
        for row in rows:
            groups = tuple(self.listener.groups_of({**row, "link": row[self.kind.link]}))
            data = {column.name: row[column.attname] for column in self.columns}
            data |= {listed.name: lists[listed.name].get(row["pk"], []) for listed in self.lists}
            seen[as_json(row["pk"])] = groups, as_json(data)
        return seen


def observers_of(kind: Kind, names: Sequence[str]) -> list[Observer]:
    """Return the bindings of these names on each bound model of a kind."""
    return [Observer(kind, model, LISTENERS[name]) for model in kind.bound for name in names]


def look(observers: Sequence[Observer]) -> View:
    """Return what the clients should hold, by plain queries."""
    view: View = {}
    for model in dict.fromkeys(observer.model for observer in observers):
        columns = [column.attname for column in model._meta.concrete_fields]
        rows = list(model._base_manager.order_by("pk").values("pk", *columns))
        own = [observer for observer in observers if observer.model is model]
        listed = {field.name: _lists(field) for observer in own for field in observer.lists}
        view |= {observer.stream: observer.view(rows, listed) for observer in own}
    return view


def _lists(field: Any) -> dict[object, list[object]]:
    through = field.remote_field.through
    owner, listed = (through._meta.get_field(name()).attname for name in _ends(field))
    found: dict[object, list[object]] = {}
    for key, other in through._base_manager.order_by(listed).values_list(owner, listed):
        found.setdefault(key, []).append(other)
    return found


def _ends(field: Any) -> tuple[Callable[[], str], Callable[[], str]]:
    return field.m2m_field_name, field.m2m_reverse_field_name


def as_json(value: object) -> Any:
    """Return a value as it is after a round trip through JSON."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))
