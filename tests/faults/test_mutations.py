"""The checker of clients' writes on its own: it accepts correct answers and detects each kind of fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .mutations import Count, Mutation, check_mutations
from .observations import Outcome, Work, Write

#: A row is created, changed, and changed by another writer; another is created and deleted; two writes are refused.
MADE = Mutation("k1", "create", 7, "k1", "")
CHANGED = Mutation("k2", "update", 7, "k2", "")
REFUSED = Mutation("k3", "update", 7, "k3", "conflict")
DELETED = Mutation("k4", "delete", 8, "", "")
KEPT = Mutation("k5", "delete", 7, "", "conflict")
COUNTED = Mutation("k6", "count", 1, "", "")
ALL = (MADE, CHANGED, REFUSED, DELETED, KEPT, COUNTED)
WORKS = (
    Work((Write(7, "update", "k2", "k1", 0, 0), Write(7, "update", "w", "k2", 0, 0)), Outcome.COMMITTED),
    Work((Write(8, "delete", "k4", "k0", 0, None),), Outcome.COMMITTED),
    Work((Write(7, "update", "w9", "k3", 0, 0),), Outcome.ROLLED_BACK),
)
FINAL = {7: {"room": 0, "stamp": "w"}}
COUNT = Count(3, 4, 1)


def test_what_was_answered_truly_is_clean():
    """Acknowledged writes were seen in their rows, refused ones nowhere; an overwritten one as the base of another."""
    assert check_mutations(ALL, WORKS, FINAL, COUNT) == []


@pytest.mark.parametrize(
    ("mutation", "text"),
    [
        (replace(MADE, error=None), "never answered"),
        (replace(MADE, pk=9), "more than once"),
        (replace(MADE, error="conflict"), "was refused (conflict), and row 7"),
        (replace(CHANGED, error="not_found"), "was refused (not_found), and row 7"),
        (replace(REFUSED, error=""), "never held"),
        (replace(CHANGED, hopeless=True), "its condition never held"),
        (replace(KEPT, error=""), "still there"),
        (replace(DELETED, error="not_found"), "row 8 is gone"),
    ],
)
def test_each_kind_of_fault_is_found(mutation, text):
    """A problem names the key and what is wrong."""
    mutations = [mutation if mutation.key == other.key else other for other in ALL]
    problems = check_mutations(mutations, WORKS, FINAL, COUNT)
    assert any(mutation.key in problem and text in problem for problem in problems), problems


def test_a_create_that_left_two_rows_is_found():
    """The second row holds the same stamp."""
    twice = {**FINAL, 9: {"room": 0, "stamp": "k1"}}
    assert any("more than once: row 9" in problem for problem in check_mutations(ALL, WORKS, twice, COUNT))


@pytest.mark.parametrize("last", [3, 5])
def test_a_counter_that_differs_is_found(last):
    """One too many is a duplicate write, one too few an overwritten one."""
    assert len(check_mutations(ALL, WORKS, FINAL, replace(COUNT, last=last))) == 1
