"""The register of ways to write with the ORM, and the conditions under which a way makes sense."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from tests.matrix.kinds import Kind
from tests.matrix.sample import Sample

Run = Callable[[Sample], Iterable[Model] | None]


@dataclass(frozen=True)
class Way:
    """One way. ``fits`` says for which kinds it makes sense, ``least`` how many kinds that must be at least."""

    name: str
    run: Run
    fits: Callable[[Kind], bool]
    least: int
    #: Whether it writes the sample's ``changes``; if not, it needs only one of them.
    moves: bool
    #: Moves that it cannot make.
    without: frozenset[str]
    #: Whether it is one call, which reports each row once.
    is_one_call: bool
    #: Whether all groups may be resynced, because the written rows cannot be determined.
    may_lose_track: bool
    prepare: Callable[[Sample], object] | None


WAYS: dict[str, Way] = {}

#: A row that its base manager hides cannot be saved: Django does not find it, and inserts it again.
HIDDEN = frozenset({"sleep"})
#: Django's ``bulk_update`` takes the keys of a second parent's table for those of the row's.
SECOND = frozenset({"crown"})


def any_kind(kind: Kind) -> bool:
    return True


def has_one_table(kind: Kind) -> bool:
    """Return whether a row is in one table, as Django's bulk inserts require."""
    return not kind.has_parents


def has_no_child(kind: Kind) -> bool:
    """Return whether a row of the written model has no child row, which would prevent its deletion alone."""
    return not kind.has_children


def is_deleted_whole(kind: Kind) -> bool:
    """Return whether Django deletes all of a row: it does not know a parent's other children."""
    return kind.beside is None


def only(*names: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.name in names


def all_but(*names: str) -> Callable[[Kind], bool]:
    return lambda kind: kind.name not in names


def way(
    fits: Callable[[Kind], bool] = any_kind,
    *,
    least: int = 15,
    moves: bool = True,
    without: frozenset[str] = frozenset(),
    is_one_call: bool = True,
    may_lose_track: bool = False,
    prepare: Callable[[Sample], Any] | None = None,
) -> Callable[[Run], Run]:
    """Register a function in ``WAYS``, with underscores replaced by spaces in its name."""

    def add(run: Run) -> Run:
        name = run.__name__.strip("_").replace("_", " ")
        WAYS[name] = Way(name, run, fits, least, moves, without, is_one_call, may_lose_track, prepare)
        return run

    return add


def is_in_piece(name: str) -> bool:
    return name in {"name", "value", "room", "is_open"}
