"""Every write is seen under each alien: every way to write, with one of its kinds of model."""

from __future__ import annotations

import itertools

import pytest

from declbind.testing import override_bindings

from .aliens import ALIENS
from .bindings import SETS, ears_of
from .kinds import KINDS
from .scenarios import LIMITS, Scenario, deal, run
from .stage import empty
from .ways import WAYS

SCENARIOS = deal(1)
#: Ways that the package itself would not survive: a row without the fields that it remembers.
OUT_OF_REACH: dict[str, frozenset[str]] = {}


def share_of(number: int) -> list[Scenario]:
    """Return one combination of each way, another one for each alien."""
    by_way: dict[str, list[Scenario]] = {}
    for scenario in SCENARIOS:
        by_way.setdefault(scenario.way.name, []).append(scenario)
    return [of_way[(number * 7 + place) % len(of_way)] for place, of_way in enumerate(by_way.values())]


@pytest.mark.usefixtures("arena")
@pytest.mark.parametrize("name", ALIENS)
def test_every_write_is_seen_under_an_alien(name, settings):
    """The events are those of the same write without it, and no write of the project fails for it."""
    wrong = []
    share = [at for at in share_of(list(ALIENS).index(name)) if at.way.name not in OUT_OF_REACH.get(name, ())]
    for kind, names, limit in itertools.product(KINDS, SETS, LIMITS):
        chosen = [at for at in share if (at.kind, at.listeners, at.limit) == (kind, names, limit)]
        if not chosen:
            continue
        empty(KINDS)
        settings.DECLBIND = {"BULK_LIMIT": limit}
        ears = ears_of(kind, SETS[names])
        with override_bindings(*(ear.build() for ear in ears)), ALIENS[name]():
            wrong += [(scenario.coordinates, found) for scenario in chosen if (found := run(scenario, ears))]
    assert wrong == []


def test_each_alien_meets_each_way():
    """And all of them together meet each kind."""
    shares = [share_of(number) for number in range(len(ALIENS))]
    assert all({at.way.name for at in share} == set(WAYS) for share in shares)
    assert {at.kind.name for share in shares for at in share} == {kind.name for kind in KINDS}
