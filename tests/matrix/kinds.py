"""The kinds of model: the written model, the bound models, and the values that a row needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model

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

#: The values of the sample rows of any kind. The ways do not touch "z": it is written beside undone work.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "a": {"room": 1, "is_open": True, "shelf": 0, "box": 0, "labels": [0, 1]},
    "b": {"room": 1, "is_open": False, "shelf": 0, "box": 0, "labels": [0]},
    "c": {"room": 2, "is_open": True, "shelf": 1, "box": 1, "labels": []},
    "s": {"room": 2, "is_open": True, "shelf": None, "box": None, "labels": []},
    "z": {"room": 1, "is_open": True, "shelf": 1, "box": None, "labels": [1]},
}

#: The written values, which change a row's groups or not.
MOVES: Mapping[str, Mapping[str, object]] = {
    "stay": {"value": 51},
    "move": {"room": 3},
    "hide": {"room": None, "is_open": False},
    "show": {"room": 2, "is_open": True, "value": 5},
}


def _nothing(name: str) -> dict[str, object]:
    return {}


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind. ``model`` is written, ``bound`` are the bound models, ``stored`` is the model of the sample rows."""

    name: str
    model: Any
    bound: Sequence[type[Model]]
    stored: Any = None
    #: Another child of the parent; each sample row is also a row of it.
    beside: Any = None
    #: Required values of a row, by its name.
    needs: Callable[[str], dict[str, object]] = _nothing
    #: The column of the group by relation.
    link: str = "shelf_id"
    #: Further moves.
    moves: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def all_moves(self) -> dict[str, Mapping[str, object]]:
        return {**MOVES, **self.moves}

    @property
    def has_parents(self) -> bool:
        """Return whether rows of the written model span several tables."""
        return bool(self.model._meta.concrete_model._meta.parents)

    @property
    def has_children(self) -> bool:
        """Return whether the sample rows have child rows."""
        return self.stored is not None or self.beside is not None


KINDS = (
    Kind("plain", Plain, [Plain]),
    Kind("uuid", Crate, [Crate]),
    Kind("text key", Country, [Country], needs=lambda name: {"code": f"k{name}"}),
    Kind("one to one", Profile, [Profile], needs=lambda name: {"holder": Holder.objects.create(name=name)}),
    Kind("child", Branch, [Branch], moves={"grow": {"extra": 4}}),
    Kind("child bound by parent", Branch, [Base], moves={"grow": {"extra": 4, "value": 9}}),
    Kind("parent bound by child", Base, [Branch], stored=Branch),
    Kind("parent bound by grandchild", Base, [Base, Twig], stored=Twig),
    Kind("grandchild", Twig, [Base, Branch, Twig], moves={"grow": {"leaf": 4}, "branch": {"extra": 4}}),
    Kind("two parents", Palm, [Palm, Base], moves={"grow": {"extra": 4}, "crown": {"height": 3}}),
    Kind("proxy", Sheet, [Plain]),
    Kind("bound by proxy", Plain, [Sheet]),
    Kind("hiding", Sleeper, [Sleeper], moves={"sleep": {"asleep": True}, "wake": {"asleep": False}}),
    Kind("own save", Sluggish, [Sluggish]),
    Kind("dated", Dated, [Dated]),
    Kind("computed", Computed, [Computed], link="doubled", moves={"level": {"level": 3}}),
    Kind("two children", Branch, [Palm, Branch], beside=Palm, moves={"grow": {"extra": 4}}),
    Kind("through", Listed, [Listed]),
    Kind("tree", Tree, [Tree], link="parent_id"),
    Kind("generic", Note, [Note], needs=lambda name: {"about": Host.objects.first()}, link="object_id"),
)
