"""One line of the live page: an event of the log or a row of traffic, as an operator reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import documents
from admin_ui.common.visible import VisibleRows, parse_key
from admin_ui.traffic.deliveries import Deliveries, Delivery
from declbind.console.bulk import describe_bulk
from declbind.console.writers import describe_actor, describe_origin
from declbind.core.frames import RESYNC
from declbind.core.shape import shape
from declbind.live.traffic import CAPTURE_FAILED
from declbind.models import Event, Node, Traffic
from declbind.outbound import history

#: The number of groups that a row lists by name. Others are only counted.
SHOWN_GROUPS = 6

WORDS = {
    Traffic.REQUEST: "in",
    Traffic.REFUSED: "refused",
    Traffic.ERROR: "error",
    Traffic.CONNECTION: "connection",
}
#: The words above, which exports hold, as pages show them.
LABELS = {
    "in": gettext_lazy("in"),
    "out": gettext_lazy("out"),
    "refused": gettext_lazy("refused"),
    "error": gettext_lazy("error"),
    "connection": gettext_lazy("connection"),
    "control": gettext_lazy("control"),
}
#: Kinds that are never sampled.
ALWAYS_SHOWN = (Traffic.REFUSED, Traffic.ERROR)


@dataclass(frozen=True)
class Row:
    """One line of the live page. ``key`` is stable, so a row that is read twice is shown once."""

    key: str
    at: datetime
    kind: str
    word: str
    process: str = ""
    stream: str = ""
    model: str = ""
    pk: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    #: The frame that all groups of a bulk write were sent in place of its rows; "" for a change of one row.
    bulk_text: str = ""
    groups: tuple[str, ...] = ()
    more_groups: int = 0
    action: str = ""
    who: str = ""
    user: str = ""
    origin: str = ""
    outcome: str = ""
    message: str = ""
    milliseconds: float | None = None
    offset: int | None = None
    is_sequenced: bool = True
    payload: str = ""
    is_shape: bool = False
    connection: str = ""
    version: int = 0
    delivery: Delivery | None = None
    sort: tuple[str, int] | tuple[()] = field(default=(), compare=False)

    @property
    def label(self) -> str:
        """The word for the kind, in the language of the page."""
        return str(LABELS.get(self.word, self.word))

    @property
    def stamp(self) -> str:
        """The time in milliseconds, as scripts count."""
        return str(int(1000 * self.at.timestamp()))

    @property
    def likeness(self) -> str:
        """The text that equal rows share, so that a busy stream takes few lines; "" for a row that is always shown."""
        if self.kind == "control" or not (self.stream or self.action):
            return ""
        action = RESYNC if self.bulk_text else self.action or (self.changes[0][1] if self.changes else "")
        return f"{self.kind} {self.stream} {action} {self.outcome}"

    @property
    def latency(self) -> float | None:
        """The duration in milliseconds: until the answer of a request, or until a frame was delivered."""
        return self.delivery.milliseconds if self.delivery is not None else self.milliseconds


@dataclass(frozen=True)
class Reader:
    """The context in which rows are made: readable models, names of processes, and deliveries."""

    using: str
    models: frozenset[str] = frozenset()
    #: Whether values are shown to users who may read them. If not, everyone is shown only their shape.
    values: bool = False
    whole: bool = False
    processes: Mapping[str, str] = field(default_factory=dict)
    stream_models: Mapping[str, str] = field(default_factory=dict)
    deliveries: Deliveries = field(default_factory=Deliveries)
    #: Which rows may be read, if the admin page of their model limits the rows.
    visible: VisibleRows | None = None

    def may_read(self, event: Event) -> bool:
        """Return whether the values of an event may be read."""
        if event.model not in self.models:
            return False
        return self.visible is None or self.visible.sees(event.model, parse_key(event.object_pk))

    def event_row(self, event: Event) -> Row:
        """Describe an event of the log as a line of the live page."""
        sequenced = event.seq is not None or not history.needs_sequencer(self.using)
        offset = (event.seq if event.seq is not None else event.pk) if sequenced else None
        common: dict[str, Any] = {
            "key": f"e{event.pk}",
            "at": event.created_at,
            "process": describe_origin(event.origin),
            "stream": event.stream,
            "who": describe_actor(event.actor, event.origin),
            "user": event.actor,
            "origin": describe_origin(event.origin),
            "offset": offset,
            "is_sequenced": sequenced,
            "version": event.version,
            "sort": ("e", event.pk),
        }
        content = _read(event.data)
        if event.kind == Event.CONTROL:
            kind = str(content.get("type", "control")) if isinstance(content, Mapping) else "control"
            return Row(kind="control", word="control", action=kind, payload=documents.dump(content), **common)
        changes = _read_changes(event.changes)
        readable = self.values and self.may_read(event)
        if not readable:
            content = shape(content, 2 if event.kind == Event.PAYLOAD else 1)
        shown = len(changes) if self.whole else SHOWN_GROUPS
        return Row(
            kind="out",
            word="out",
            model=event.model,
            # A bulk write does not belong to one row.
            pk=str(_read(event.object_pk)) if event.kind not in Event.WORDLESS else "",
            bulk_text=describe_bulk([group for group, _ in changes], event.kind == Event.EXPIRED)
            if event.kind in Event.WORDLESS
            else "",
            changes=changes[:shown],
            more_groups=max(0, len(changes) - shown),
            payload=documents.dump(content) if content else "",
            is_shape=not readable,
            delivery=self.deliveries.of(offset, event.created_at),
            **common,
        )

    def traffic_row(self, row: Traffic) -> Row:
        """Describe a request, refusal, error or connection as a line of the live page."""
        groups = [str(group) for group in row.groups] if isinstance(row.groups, list) else []
        who = row.username or (_("user {key}").format(key=row.user_pk) if row.user_pk else "")
        shown = len(groups) if self.whole else SHOWN_GROUPS
        detail = _read(row.detail)
        model = self.stream_models.get(row.stream, "")
        message = row.message
        limited = self.visible is not None and self.visible.limits(model)
        if message.startswith(CAPTURE_FAILED) and (model not in self.models or limited):
            message = _("{failure}. What the exception says is for those who may view the model.").format(
                failure=CAPTURE_FAILED
            )
        return Row(
            key=f"t{row.pk}",
            at=row.at,
            kind=row.kind,
            word=WORDS.get(row.kind, row.kind),
            process=self.processes.get(row.node, row.node[:8]),
            stream=row.stream,
            model=model,
            pk=row.object_pk,
            groups=tuple(groups[:shown]),
            more_groups=max(0, len(groups) - shown),
            action=row.action,
            who=who or (_("anonymous") if row.connection else ""),
            user=row.username or row.user_pk,
            outcome=row.outcome,
            message=message,
            milliseconds=row.milliseconds,
            payload=documents.dump(detail) if detail else "",
            is_shape=True,
            connection=row.connection,
            sort=("t", row.pk),
        )


def load_processes(using: str) -> dict[str, str]:
    """Return the display names of processes by the id that their rows have. Makes one query."""
    rows = Node.objects.using(using).values_list("pk", "host", "pid")[:1000]
    return {pk: f"{host}:{pid}" for pk, host, pid in rows}


def _read(text: str) -> Any:
    try:
        return json.loads(text) if text else ""
    except ValueError:
        return ""


def _read_changes(text: str) -> tuple[tuple[str, str], ...]:
    changes = _read(text)
    pairs: Iterable[Any] = changes if isinstance(changes, list) else ()
    return tuple((str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2)
