"""The world in which a cause is planted, and the registry of plants."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from declbind.console.why import Cause
from declbind.models import Connection, Node
from declbind.outbound import log, relay
from declbind.registry import database_alias
from tests.factories import make_user

from .kinds import Kind

C = Cause


@dataclass
class World:
    """A binding in force, a user who is subscribed to the group of a row, and the row."""

    kind: Kind
    holder: Any
    user: Any = None
    row: Any = None

    def settle(self) -> int:
        """Number the log as a relay would; return its end."""
        relay.run_once(database_alias())
        return log.load_head(database_alias()).offset

    def prepare(self, is_subscribed: bool = True, **values: Any) -> None:
        """Let a user subscribe, and then create the row, whose event is sent."""
        self.user = make_user()
        if "scope" in self.kind.traits:
            values = {"value": self.user.pk, **values}
        offset = self.settle()
        self.row = self.kind.make(**values)
        if is_subscribed:
            self.attend(self.kind.group(self.row), after=offset)
        self.settle()

    def attend(self, group: str, after: int = 0, until: int | None = None, reason: str = "", **values: Any) -> None:
        """Store a connection of the user, as its process would."""
        now = timezone.now()
        Node.objects.update_or_create(
            id="n",
            defaults={"host": "web", "pid": 7, "started_at": now, "seen_at": now, "offset": 10**9, **present_version()},
        )
        heard = [["s", group, until, after, reason]] if group else []
        defaults: dict[str, Any] = {"opened_at": now - timedelta(minutes=5), "node": "n", **values}
        Connection.objects.create(
            id=f"c{Connection.objects.count()}",
            subscriptions=json.dumps(heard, separators=(",", ":")),
            user_pk=str(self.user.pk),
            username=self.user.username,
            **defaults,
        )


def present_version() -> dict[str, Any]:
    from declbind.registry import get_registry

    registry = get_registry()
    return {"generation": registry.generation, "version": registry.version, "digest": registry.digest}


@dataclass(frozen=True)
class Planted:
    """A planted cause: what is asked, and which causes are true facts, beside the one that is to be named."""

    cause: Cause
    row: Any
    user: str = ""
    at: datetime | None = None
    stream: str = "s"
    facts: frozenset[Cause] = frozenset()
    #: Causes that are true as well if the question names no time.
    timeless: frozenset[Cause] = frozenset()

    @property
    def true(self) -> frozenset[Cause]:
        return self.facts | {self.cause}


Plant = Callable[[World], Planted]
#: Kinds with such a trait take only the plants that need it.
APART = frozenset({"nullable", "elsewhere"})
PLANTS: dict[str, tuple[Plant, frozenset[str], frozenset[str]]] = {}


def plant(needs: str = "", without: str = "") -> Callable[[Plant], Plant]:
    """Register a plant for the kinds that have all of some traits, and none of others."""

    def register(function: Plant) -> Plant:
        PLANTS[function.__name__] = function, frozenset(needs.split()), frozenset(without.split())
        return function

    return register


def fits(kind: Kind, name: str) -> bool:
    _, needs, without = PLANTS[name]
    if not kind.traits & APART <= needs:
        return False
    return needs <= kind.traits and not without & kind.traits


def asked(world: World, cause: Cause, *facts: Cause, **values: Any) -> Planted:
    made = {"row": world.row.pk, "user": world.user.username, "at": timezone.now(), **values}
    return Planted(cause, facts=frozenset(facts), **made)
