"""Every write is captured beside each foreign package, in a short form: one kind of model for each way to write."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from declbind.testing import override_bindings

from .bindings import SETS, observers_of
from .foreign_packages import FOREIGN_PACKAGES
from .kinds import KINDS
from .sample import Sample, empty, uncaptured
from .scenarios import LIMITS, Scenario, deal, run
from .test_controls import unhooked
from .ways import WAYS


def share_of(name: str) -> list[Scenario]:
    """Return one combination of every other way, different for consecutive packages."""
    number = list(FOREIGN_PACKAGES).index(name)
    by_way: dict[str, list[Scenario]] = {}
    for scenario in deal():
        by_way.setdefault(scenario.way.name, []).append(scenario)
    return [
        of_way[(number * 7 + place) % len(of_way)]
        for place, of_way in enumerate(by_way.values())
        if (place + number) % 2 == 0
    ]


def run_all(scenarios: Sequence[Scenario], name: str, settings: Settings) -> list[Any]:
    """Run scenarios beside a package; return those with problems, and the problems."""
    wrong = []
    for kind, names, limit in itertools.product(KINDS, SETS, LIMITS):
        chosen = [at for at in scenarios if (at.kind, at.listeners, at.limit) == (kind, names, limit)]
        if not chosen:
            continue
        empty(KINDS)
        settings.DECLBIND = {"BULK_LIMIT": limit}
        observers = observers_of(kind, SETS[names])
        with override_bindings(*(observer.build() for observer in observers)), FOREIGN_PACKAGES[name]():
            possible = [at for at in chosen if name != "tracing model" or is_possible(at)]
            wrong += [(scenario.coordinates, found) for scenario in possible if (found := run(scenario, observers))]
    return wrong


def is_possible(scenario: Scenario) -> bool:
    """Return whether a write succeeds without declbind.

    Django loads some of the rows that it deletes without most of their fields. A model that stores field values then
    loads them, through an instance that stores field values, in an endless recursion.
    """
    sample = Sample(scenario.kind, scenario.kind.all_moves[scenario.move])
    sample.fill(scenario.way.prepare)
    try:
        with uncaptured(), transaction.atomic():
            scenario.way.run(sample)
            transaction.set_rollback(True)
    except RecursionError:
        return False
    return True


@pytest.mark.usefixtures("arena")
@pytest.mark.parametrize("name", FOREIGN_PACKAGES)
def test_every_write_is_seen_beside_a_foreign_package(name, settings):
    """The events are the same as without the package, and no write of the project fails."""
    assert run_all(share_of(name), name, settings) == []


@pytest.mark.usefixtures("arena")
@pytest.mark.parametrize("name", [name for name in FOREIGN_PACKAGES if not name.startswith("hooks")])
def test_broken_capture_is_caught_beside_a_foreign_package(name, settings):
    """Negative control: a missing hook is detected, whatever the package does to statements and instances."""
    scenario = Scenario(WAYS["update many"], KINDS[0], "move", "autocommit", "templated", 1_000)
    with unhooked("update"):
        assert run_all([scenario], name, settings) != []


@pytest.mark.usefixtures("arena")
def test_most_writes_are_possible_with_a_tracing_model():
    """Writes that Django itself cannot do are skipped, and must be few."""
    empty(KINDS)
    share = [at for at in share_of("tracing model") if at.kind.name == "plain"]
    with FOREIGN_PACKAGES["tracing model"]():
        impossible = [at.way.name for at in share if not is_possible(at)]
    assert len(impossible) <= len(share) // 4, impossible


def test_the_foreign_packages_share_the_matrix():
    """Each way meets half of the packages, each package meets most kinds, and all together meet each kind."""
    shares = {name: share_of(name) for name in FOREIGN_PACKAGES}
    met = Counter(at.way.name for share in shares.values() for at in share)
    assert met == dict.fromkeys(WAYS, len(FOREIGN_PACKAGES) // 2)
    assert all(len({at.kind.name for at in share}) > len(KINDS) // 2 for share in shares.values())
    assert {at.kind.name for share in shares.values() for at in share} == {kind.name for kind in KINDS}
