"""Try a client's create, update or delete: the code that serves clients, followed, and rolled back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.models.deletion import Collector

from declbind import validation
from declbind.bindings import Binding
from declbind.core import course
from declbind.core.errors import ClientError
from declbind.core.frames import Request
from declbind.core.hub import LogEvent
from declbind.fields import concrete_field
from declbind.inbound import writes
from declbind.inbound.permissions import Identity
from declbind.models import Event
from declbind.outbound import entries, log
from declbind.outbound.drafts import gather_faults
from declbind.outbound.index import Index
from declbind.registry import database_alias
from declbind.serializers import encode_key
from declbind.stored_values import comparable

from .shown import shown
from .trial_frames import Faults, foresee, load_drafts, number_drafts

#: Steps of a mutation, in the order in which they are taken.
STEPS = ("binding", "request", "who", "direction", "permission", "fields", "scope", "row", "values", "store", "inside")
#: What a check of the code is a part of.
PART_OF = {"write": "store", "done": "store"}


@dataclass
class Course(course.Follower):
    """What one mutation passed: the checks it entered, what it found there, and the events it would leave."""

    index: Index
    sent: Mapping[str, Any]
    stores: bool
    signature: str = field(default_factory=lambda: f"try-{secrets.token_hex(8)}")
    entered: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    drafts: list[entries.Draft] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    #: What the project waits to do after the commit, which never comes.
    callbacks: list[str] = field(default_factory=list)
    #: Whether code of the project stores the row, so that checks alone cannot tell what becomes of it.
    is_left_to_code: bool = False
    last_event: int = 0

    @property
    def last(self) -> str:
        """The step that was entered last."""
        name = self.entered[-1] if self.entered else "binding"
        return PART_OF.get(name, name)

    @property
    def passed(self) -> set[str]:
        """The steps that were entered."""
        # Of declbind's own methods "write" is only the beginning: they look for the row and judge it first.
        own = "write" in self.entered and not self.bound.overrides(self.found["write"])
        return {PART_OF.get(name, name) for name in self.entered if not (own and name == "write")}

    @property
    def user(self) -> Any:
        """The user as the request loaded it; None before that."""
        return self.found.get("direction")

    @property
    def bound(self) -> Any:
        """The binding of the request; None before that."""
        return self.found.get("request")

    def enter(self, step: str, found: Any) -> None:
        """Note it; end the request where there is no more to see."""
        self.entered.append(step)
        if found is not None:
            self.found[step] = found
        if step == "write" and not self.stores and self.bound.overrides(found):
            self.is_left_to_code = True
            raise course.EnoughError
        if step == "store" and not self.stores:
            self._foresee(found)
            raise course.EnoughError
        if step == "done":
            self._look(found)
            raise course.EnoughError

    def _foresee(self, row: Any) -> None:
        """Say what a write would lead to that was found valid and is not carried out."""
        bound: Binding = self.bound
        action = self.found["write"]
        if action == "delete":
            # What protects the row says so while Django collects what would go along.
            Collector(using=str(bound.using), origin=row).collect([row])
            self.reply = {"pk": self.found.get("pk")}
        else:
            self.enter("inside", row)
            if not bound.overrides("get_queryset", "scoped", "check_inside"):
                _check_foreseen(bound, row)
            # The key of a new row is given when it is stored.
            self.reply = {"pk": json.loads(encode_key(row.pk, row._meta.pk))} if action == "update" else None
        if log.is_here(bound.using):
            written = None if action != "update" else {*self.sent, *validation.moving_columns(row)}
            self.drafts = list(foresee(self.index, row, action, str(bound.using), written))

    def _look(self, reply: dict[str, Any]) -> None:
        """Read, inside the transaction, what the write left."""
        connection = connections[str(self.bound.using)]
        if connection.vendor == "postgresql":
            # A key to a row that is not there would be found at the commit.
            connection.check_constraints()
        self.reply = reply
        self.callbacks = [name for entry in connection.run_on_commit if (name := _name_callback(entry[1]))]
        self.drafts = load_drafts(self.last_event, self.signature, database_alias())


@dataclass(frozen=True)
class Outcome:
    """How a tried mutation ended. ``fault`` is what is behind an ``internal``; ``faults`` are those of bindings."""

    course: Course
    error: ClientError | None
    fault: BaseException | None
    faults: Faults
    events: list[LogEvent]


def try_write(
    request: Request, binding: type[Binding], identity: Identity, index: Index, *, carry_out: bool
) -> Outcome:
    """Rehearse one mutation. What comes after is up to the caller: here the database's locks are free again."""
    using = database_alias()
    followed = Course(index, request.data, stores=carry_out)
    followed.found["pk"] = request.pk
    if carry_out and log.is_here(using):
        followed.last_event = shown(Event, using).order_by("-id").values_list("id", flat=True).first() or 0
    error: ClientError | None = None
    with gather_faults() as faults, course.followed(followed):
        try:
            writes.rehearse(request, binding, identity)
        except course.EnoughError:
            pass
        except ClientError as refusal:
            error = refusal
    fault = error.__cause__ if error is not None and error.code in ("internal", "conflict") else None
    return Outcome(followed, error, fault, faults, [] if error else number_drafts(followed.drafts, using))


def _check_foreseen(bound: Binding, row: Any) -> None:
    """Refuse, as ``check_inside`` would, a row whose checked values lie outside of ``where`` or of the user's own."""
    own = bound.scope_values().items()
    model = bound.model_class()
    fields = {name: concrete_field(model, name) for name, _ in own}
    is_own = all(
        comparable(fields[name], getattr(row, fields[name].attname)) == comparable(fields[name], value)
        for name, value in own
    )
    if not (is_own and bound.is_inside(row)):
        raise bound.outside_error()


def _name_callback(function: Any) -> str:
    module = str(getattr(function, "__module__", ""))
    if module.startswith("declbind."):
        return ""
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}".lstrip(".")
