"""Every write is captured: the product of ways to write, kinds of model, moves, outcomes, bindings and limits."""

from __future__ import annotations

import itertools

import pytest

from declbind.testing import override_bindings

from .bindings import SETS, observers_of
from .kinds import KINDS, MOVES
from .outcomes import OUTCOMES
from .scenarios import LIMITS, deal, run
from .ways import WAYS

SCENARIOS = deal()


@pytest.mark.usefixtures("arena")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_write_is_seen(kind, settings):
    """The events match the change of each row, and a client that applies them holds the stored rows."""
    wrong = []
    for names, limit in itertools.product(SETS, LIMITS):
        chosen = [at for at in SCENARIOS if (at.kind, at.listeners, at.limit) == (kind, names, limit)]
        settings.DECLBIND = {"BULK_LIMIT": limit}
        observers = observers_of(kind, SETS[names])
        with override_bindings(*(observer.build() for observer in observers)):
            wrong += [(scenario.coordinates, found) for scenario in chosen if (found := run(scenario, observers))]
    assert wrong == []


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_way_is_tried_with_the_kinds_that_it_makes_sense_for(way):
    """A way that fits too few kinds has a predicate that excludes some by accident."""
    assert sum(map(way.fits, KINDS)) >= way.least


def test_thinned_product_keeps_what_matters():
    """Each way meets each kind that it fits. Each way with many kinds, and each kind, meets all other values."""
    met = {(one, other) for at in SCENARIOS for one, other in itertools.permutations(at.coordinates.items(), 2)}
    rest: list[tuple[str, object]] = [("outcome", name) for name in OUTCOMES]
    rest += [("listeners", name) for name in SETS] + [("limit", limit) for limit in LIMITS]
    moves = [("move", name) for name in MOVES]
    for way in WAYS.values():
        kinds = list(filter(way.fits, KINDS))
        assert {(("way", way.name), ("kind", kind.name)) for kind in kinds} <= met
        if len(kinds) >= 10:
            assert {(("way", way.name), value) for value in (*rest, *(moves if way.moves else ()))} <= met
    for kind in KINDS:
        assert {(("kind", kind.name), value) for value in (*rest, *(("move", move) for move in kind.all_moves))} <= met
    for one, other in itertools.combinations([*rest, *moves], 2):
        assert one[0] == other[0] or (one, other) in met
