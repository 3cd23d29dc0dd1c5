"""Name the kinds of model: which one is written, which ones are bound, what a row of it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .models import (
    Base,
    Branch,
    Computed,
    Country,
    Crate,
    Dated,
    Holder,
    Host,
    Listed,
    Note,
    Palm,
    Plain,
    Profile,
    Sheet,
    Sleeper,
    Sluggish,
    Tree,
    Twig,
)

#: What a row of the stage is given, of any kind. "z" is not for the ways to touch: it is written beside undone work.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "a": {"room": 1, "is_open": True, "shelf": 0, "box": 0, "labels": [0, 1]},
    "b": {"room": 1, "is_open": False, "shelf": 0, "box": 0, "labels": [0]},
    "c": {"room": 2, "is_open": True, "shelf": 1, "box": 1, "labels": []},
    "s": {"room": 2, "is_open": True, "shelf": None, "box": None, "labels": []},
    "z": {"room": 1, "is_open": True, "shelf": 1, "box": None, "labels": [1]},
}

#: What the written values do to a row: nothing to its groups, or something.
MOVES: Mapping[str, Mapping[str, Any]] = {
    "stay": {"value": 51},
    "move": {"room": 3},
    "hide": {"room": None, "is_open": False},
    "show": {"room": 2, "is_open": True, "value": 5},
}


def _nothing(name: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind. ``model`` is written, ``bound`` are listened to, ``stored`` is what the rows of the stage are."""

    name: str
    model: Any
    bound: Sequence[Any]
    stored: Any = None
    #: Another child of the parent, of which each row of the stage is a row as well.
    beside: Any = None
    #: Values without which no row can be made, by its name.
    needs: Callable[[str], dict[str, Any]] = _nothing
    #: The column of the group by relation.
    link: str = "shelf_id"
    #: More moves.
    moves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def all_moves(self) -> dict[str, Mapping[str, Any]]:
        return {**MOVES, **self.moves}

    @property
    def has_parents(self) -> bool:
        """Whether rows of the written model lie in several tables."""
        return bool(self.model._meta.concrete_model._meta.parents)

    @property
    def has_children(self) -> bool:
        """Whether rows of the stage are more than rows of the written model."""
        return self.stored is not None or self.beside is not None


KINDS = (
    Kind("plain", Plain, [Plain]),
    Kind("uuid", Crate, [Crate]),
    Kind("text key", Country, [Country], needs=lambda name: {"code": f"k{name}"}),
    Kind("one to one", Profile, [Profile], needs=lambda name: {"holder": Holder.objects.create(name=name)}),
    Kind("child", Branch, [Branch], moves={"grow": {"extra": 4}}),
    Kind("child heard by parent", Branch, [Base], moves={"grow": {"extra": 4, "value": 9}}),
    Kind("parent heard by child", Base, [Branch], stored=Branch),
    Kind("parent heard by grandchild", Base, [Base, Twig], stored=Twig),
    Kind("grandchild", Twig, [Base, Branch, Twig], moves={"grow": {"leaf": 4}, "branch": {"extra": 4}}),
    Kind("two parents", Palm, [Palm, Base], moves={"grow": {"extra": 4}, "crown": {"height": 3}}),
    Kind("proxy", Sheet, [Plain]),
    Kind("heard by proxy", Plain, [Sheet]),
    Kind("hiding", Sleeper, [Sleeper], moves={"sleep": {"asleep": True}, "wake": {"asleep": False}}),
    Kind("own save", Sluggish, [Sluggish]),
    Kind("dated", Dated, [Dated]),
    Kind("computed", Computed, [Computed], link="doubled", moves={"level": {"level": 3}}),
    Kind("two children", Branch, [Palm, Branch], beside=Palm, moves={"grow": {"extra": 4}}),
    Kind("through", Listed, [Listed]),
    Kind("tree", Tree, [Tree], link="parent_id"),
    Kind("generic", Note, [Note], needs=lambda name: {"about": Host.objects.first()}, link="object_id"),
)
