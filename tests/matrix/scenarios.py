"""Selection of combinations of ways, kinds, moves, outcomes, bindings and limits, and the run of one of them."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connection

from declbind.models import Event
from declbind.testing import CapturedEvent

from .bindings import SETS, Observer, as_json, look
from .judge import problems
from .kinds import KINDS, Kind
from .outcomes import OUTCOMES
from .sample import Sample
from .ways import WAYS, Way

#: Above the limit, calls are reported by group; no call of the matrix exceeds the high limit.
LIMITS = (1_000, 2)
#: The number of combinations that each pair of a way and a kind is run with; 0 runs all of them, which takes an hour.
#: PostgreSQL takes twice the time for one.
DEPTH = int(os.environ.get("MATRIX_DEPTH", "2" if connection.vendor == "sqlite" else "1"))


@dataclass(frozen=True)
class Scenario:
    """One combination."""

    way: Way
    kind: Kind
    move: str
    outcome: str
    listeners: str
    limit: int

    @property
    def coordinates(self) -> dict[str, object]:
        return {
            "way": self.way.name,
            "kind": self.kind.name,
            "move": self.move,
            "outcome": self.outcome,
            "listeners": self.listeners,
            "limit": self.limit,
        }


def moves_of(way: Way, kind: Kind) -> list[str]:
    """Return the moves that a way can make on a kind."""
    return [name for name in kind.all_moves if name not in way.without] if way.moves else ["stay"]


def product(way: Way, kind: Kind) -> Iterator[Scenario]:
    """Yield every combination of a pair."""
    for rest in itertools.product(moves_of(way, kind), OUTCOMES, SETS, LIMITS):
        yield Scenario(way, kind, *rest)


@cache
def deal(depth: int = DEPTH) -> list[Scenario]:
    """Return ``depth`` combinations of each sensible pair, the same in each run.

    Combinations are preferred that contain the most pairs of values that the way has not met yet. Pairs that no way
    has met come first.
    """
    chosen: list[Scenario] = []
    met_by_any: set[object] = set()
    for way in WAYS.values():
        met: set[object] = set()
        for kind in filter(way.fits, KINDS):
            combinations = list(product(way, kind))
            if not depth:
                chosen += combinations
                continue
            random.Random(f"{way.name} {kind.name}").shuffle(combinations)
            for _ in range(depth):
                best = max(combinations[:24], key=lambda at: _news(at, met) + 10 * _news(at, met_by_any))
                combinations.remove(best)
                met.update(_pairs(best))
                met_by_any.update(_pairs(best))
                chosen.append(best)
                if not combinations:
                    break
    return chosen


def _news(scenario: Scenario, met: set[object]) -> int:
    return len(set(_pairs(scenario)) - met)


def _pairs(scenario: Scenario) -> Iterator[object]:
    values = (scenario.move, scenario.outcome, scenario.listeners, scenario.limit, scenario.kind.name)
    return itertools.combinations(enumerate(values), 2)


def run(scenario: Scenario, observers: Sequence[Observer]) -> list[str]:
    """Run a scenario with the bindings of ``observers`` in force, outside any transaction; return the problems."""
    way, kind = scenario.way, scenario.kind
    sample = Sample(kind, kind.all_moves[scenario.move])
    sample.fill(way.prepare)
    found: list[str] = []
    written: list[Any] = []
    start, before = last_event(), look(observers)

    def judge(**how: Any) -> list[str]:
        events = events_since(start)
        return problems(observers, before, events, look(observers), limit=scenario.limit, **how)

    how = {"is_one_call": way.is_one_call, "may_lose_track": way.may_lose_track, "written": written}

    def work() -> None:
        written.extend(as_json(row.pk) for row in way.run(sample) or ())

    def look_inside() -> None:
        found.extend(f"before the end of the transaction: {text}" for text in judge(**how))

    def beside() -> None:
        row = sample.objects.get(name="z")
        row.value = 99
        row.save()

    try:
        is_kept = OUTCOMES[scenario.outcome](work, look_inside, beside)
    except Exception as error:
        error.add_note(f"in {scenario.coordinates}")
        raise
    return found + (judge(**how) if is_kept else judge(is_one_call=True))


def last_event() -> int:
    """Return the id of the last event in the log."""
    return Event.objects.order_by("-id").values_list("id", flat=True).first() or 0


def events_since(start: int) -> list[CapturedEvent]:
    """Return the events above an id, in order."""
    return list(numbered_events(start).values())


def numbered_events(start: int) -> dict[int, CapturedEvent]:
    """Return the events above an id by their ids, in order."""
    return {
        event.pk: CapturedEvent(
            stream=event.stream,
            changes=[(group, action) for group, action in json.loads(event.changes)],
            pk=json.loads(event.object_pk),
            data=json.loads(event.data),
            model=event.model,
            kind=event.kind,
        )
        for event in Event.objects.filter(id__gt=start).exclude(kind=Event.CONTROL).order_by("id")
    }
