"""Trials of a client's create, update or delete, which run the code that serves clients and roll it back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.models import Model
from django.db.models.deletion import Collector

from declbind import row_validation
from declbind.bindings import Binding
from declbind.console.shown import shown
from declbind.core import course
from declbind.core.course import Check
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

from .frames import Faults, foresee, load_drafts, number_drafts

#: The steps of a mutation in order.
STEPS = (
    Check.BINDING, Check.REQUEST, Check.WHO, Check.DIRECTION, Check.PERMISSION, Check.FIELDS,
    Check.SCOPE, Check.ROW, Check.VALUES, Check.STORE, Check.INSIDE,
)  # fmt: skip
#: The step of each check that is not a step itself.
PART_OF = {Check.WRITE: Check.STORE, Check.DONE: Check.STORE}


@dataclass
class Course(course.Follower):
    """What happened during one tried mutation: the checks that were entered, their results, and the expected events."""

    index: Index
    sent: Mapping[str, object]
    stores: bool
    signature: str = field(default_factory=lambda: f"try-{secrets.token_hex(8)}")
    entered: list[Check] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    drafts: list[entries.Draft] = field(default_factory=list)
    reply: dict[str, object] | None = None
    #: The names of the project's ``on_commit`` callbacks, which are never called.
    callbacks: list[str] = field(default_factory=list)
    #: Whether project code stores the row, so that checks alone cannot predict the result.
    is_left_to_code: bool = False
    last_event: int = 0

    @property
    def last(self) -> Check:
        """The step that was entered last."""
        name = self.entered[-1] if self.entered else Check.BINDING
        return PART_OF.get(name, name)

    @property
    def passed(self) -> set[Check]:
        """The steps that were entered."""
        # declbind's own methods find and validate the row within "write", so entering it does not mean that it passed.
        own = Check.WRITE in self.entered and not self.bound.overrides(self.found[Check.WRITE])
        return {PART_OF.get(name, name) for name in self.entered if not (own and name == Check.WRITE)}

    @property
    def user(self) -> Any:
        """The user as the request loaded it; ``None`` before that."""
        return self.found.get(Check.DIRECTION)

    @property
    def bound(self) -> Any:
        """The binding of the request; ``None`` before that."""
        return self.found.get(Check.REQUEST)

    def enter(self, step: Check, found: Any) -> None:
        """Record a check; end the request if there is nothing more to observe."""
        self.entered.append(step)
        if found is not None:
            self.found[step] = found
        if step == Check.WRITE and not self.stores and self.bound.overrides(found):
            self.is_left_to_code = True
            raise course.EnoughError
        if step == Check.STORE and not self.stores:
            self._foresee(found)
            raise course.EnoughError
        if step == Check.DONE:
            self._look(found)
            raise course.EnoughError

    def _foresee(self, row: Model) -> None:
        """Record what a valid write that is not carried out would send."""
        bound: Binding = self.bound
        action = self.found[Check.WRITE]
        if action == "delete":
            # For protected relations, Django raises an error while it collects the rows to delete.
            Collector(using=str(bound.using), origin=row).collect([row])
            self.reply = {"pk": self.found.get("pk")}
        else:
            self.enter(Check.INSIDE, row)
            if not bound.overrides("get_queryset", "scoped", "check_inside"):
                _check_foreseen(bound, row)
            # A new row gets its key when it is stored.
            self.reply = {"pk": json.loads(encode_key(row.pk, row._meta.pk))} if action == "update" else None
        if log.is_here(bound.using):
            written = None if action != "update" else {*self.sent, *row_validation.moving_columns(row)}
            self.drafts = list(foresee(self.index, row, action, str(bound.using), written))

    def _look(self, reply: dict[str, object]) -> None:
        """Read the result of the write inside the transaction."""
        connection = connections[str(self.bound.using)]
        if connection.vendor == "postgresql":
            # A foreign key to a missing row would only be detected at the commit.
            connection.check_constraints()
        self.reply = reply
        self.callbacks = [name for entry in connection.run_on_commit if (name := _name_callback(entry[1]))]
        self.drafts = load_drafts(self.last_event, self.signature, database_alias())


@dataclass(frozen=True)
class Outcome:
    """The result of a tried mutation. ``fault`` caused an ``internal`` error; ``faults`` are those of bindings."""

    course: Course
    error: ClientError | None
    fault: BaseException | None
    faults: Faults
    events: list[LogEvent]


def try_write(
    request: Request, binding: type[Binding], identity: Identity, index: Index, *, carry_out: bool
) -> Outcome:
    """Try one mutation and roll it back. When this returns, no database lock is held."""
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


def _check_foreseen(bound: Binding, row: Model) -> None:
    """Refuse a row whose new values are outside ``where`` or ``scope``, as ``check_inside`` would."""
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
