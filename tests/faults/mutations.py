"""Comparison of the answers to clients' writes with the outcome: each key wrote once, or never. Pure.

A client gives each write a key, and retries with that key until it is answered. A write whose reply was lost with
its process was thus still made exactly once. A refusal means that no attempt wrote anything. Every write has a stamp
of its own. If a stamp was ever seen, in the final rows or as the base of a later write, its write happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .observations import Outcome, Rows, Work


@dataclass(frozen=True, slots=True)
class Mutation:
    """One write under one key, and its answer: ``error`` is the code of a refusal, ``""`` for an acknowledgement.

    ``pk`` of a create is the answered one. A ``hopeless`` write has a condition that never holds.
    """

    key: str
    action: str
    pk: int
    stamp: str = ""
    error: str | None = None
    hopeless: bool = False

    def __str__(self) -> str:
        return f"the {self.action} under key {self.key}"


@dataclass(frozen=True, slots=True)
class Count:
    """The counter: its first and last value, and how many increments were acknowledged."""

    first: int
    last: int
    acknowledged: int


def find_stamps(works: Iterable[Work], final: Rows) -> dict[str, set[int]]:
    """Return the rows in which each stamp was seen."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for pk, row in final.items():
        found[str(row["stamp"])].add(pk)
    for work in works:
        if work.outcome is not Outcome.ROLLED_BACK:
            for write in work.writes:
                if write.base is not None:
                    found[write.base].add(write.pk)
    return dict(found)


def check_mutations(mutations: Iterable[Mutation], works: Iterable[Work], final: Rows, count: Count) -> list[str]:
    """Return the problems, each as a sentence."""
    asked = list(mutations)
    found = find_stamps(works, final)
    #: Rows whose deletion was acknowledged, or that exist.
    explained = final.keys() | {
        mutation.pk for mutation in asked if (mutation.action, mutation.error) == ("delete", "")
    }
    problems = [problem for mutation in asked for problem in _judge(mutation, found, final)]
    problems += [
        f"{mutation} was refused ({mutation.error}), and row {mutation.pk} is gone"
        for mutation in asked
        if mutation.action == "delete" and mutation.error and mutation.pk not in explained
    ]
    if count.last != count.first + count.acknowledged:
        problems.append(
            f"the counter went from {count.first} to {count.last}, and {count.acknowledged} times it was acknowledged"
        )
    return problems


def _judge(mutation: Mutation, found: dict[str, set[int]], final: Rows) -> Iterator[str]:
    seen = found.get(mutation.stamp, set()) if mutation.stamp else set()
    if mutation.error is None:
        yield f"{mutation} was never answered"
    elif mutation.error:
        if seen:
            yield f"{mutation} was refused ({mutation.error}), and row {min(seen)} held what it wrote"
        return
    elif mutation.hopeless:
        yield f"{mutation} was acknowledged, and its condition never held"
    elif mutation.action == "delete":
        if mutation.pk in final:
            yield f"{mutation} was acknowledged, and row {mutation.pk} is still there"
        return
    elif mutation.stamp and mutation.pk not in seen:
        yield f"{mutation} was acknowledged, and row {mutation.pk} never held what it wrote"
    if seen - {mutation.pk}:
        yield f"{mutation} wrote more than once: row {min(seen - {mutation.pk})} holds it beside row {mutation.pk}"
