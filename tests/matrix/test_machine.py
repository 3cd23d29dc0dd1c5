"""Random sequences of writes in nested transactions: what a client holds is what is stored, at every step."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from declbind.testing import override_bindings

from .bindings import SETS, View, ears_of, look
from .endings import Undo
from .judge import replay_problems
from .kinds import KINDS, MOVES
from .scenarios import last_event, numbered_events
from .stage import Stage, empty
from .ways import WAYS

#: What a write may meet that finds the rows as others have left them: what it did is undone then.
MISHAPS = (ObjectDoesNotExist, DatabaseError, AttributeError, ValueError)
DEEPEST = 4
#: Without the one that explains, which runs everything under a tracer.
PHASES = (Phase.reuse, Phase.generate, Phase.shrink)
LENGTH = settings(
    max_examples=100,
    stateful_step_count=20,
    phases=PHASES,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Writers(RuleBasedStateMachine):
    """Write in all ways, in transactions that are left in any way, and keep a client of each stream beside.

    The log is read anew at each step, from inside of the transaction: what is rolled back is not in it any more. A
    resync finds what was stored when its event was first there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Any] = []
        self.snapshots: dict[int, View] = {}
        self.stack = contextlib.ExitStack()
        self.turns = 0

    @initialize(kind=st.sampled_from(KINDS), names=st.sampled_from(sorted(SETS)), limit=st.sampled_from([1_000, 2]))
    def begin(self, kind, names, limit):
        empty(KINDS)
        self.stage = Stage(kind, {})
        self.stage.fill()
        self.ears = ears_of(kind, SETS[names])
        self.stack.enter_context(override_settings(DECLBIND={"BULK_LIMIT": limit}))
        self.stack.enter_context(override_bindings(*(ear.build() for ear in self.ears)))
        self.start, self.before = last_event(), look(self.ears)

    # --- transactions ------------------------------------------------------------------------------------------------

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be asked until the transaction is left."""
        return connection.in_atomic_block and connection.needs_rollback

    @precondition(lambda self: len(self.open) < DEEPEST and not self.is_broken)
    @rule(savepoint=st.booleans(), durable=st.booleans())
    def enter(self, savepoint, durable):
        block = transaction.atomic(savepoint=savepoint, durable=durable and not self.open)
        block.__enter__()
        self.open.append(block)

    @precondition(lambda self: self.open)
    @rule()
    def leave(self):
        # A key to a row that is gone is found out at the commit, which undoes all of it.
        with contextlib.suppress(DatabaseError):
            self.open.pop().__exit__(None, None, None)

    @precondition(lambda self: self.open)
    @rule()
    def fail(self):
        error = Undo()
        self.open.pop().__exit__(Undo, error, None)

    @precondition(lambda self: self.open and not self.is_broken)
    @rule(way=st.sampled_from(sorted(WAYS)), move=st.sampled_from(sorted(MOVES)))
    def undo_by_hand(self, way, move):
        point = transaction.get_connection().savepoint()
        self.write(way, move)
        transaction.savepoint_rollback(point)

    @precondition(lambda self: not self.is_broken)
    @rule()
    def restock(self):
        """Make what others have taken away, seen by capture as any write is."""
        with contextlib.suppress(DatabaseError), transaction.atomic():
            self.stage.restock()

    # --- writes ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_broken)
    @rule(way=st.sampled_from(sorted(WAYS)), move=st.sampled_from(sorted(MOVES)))
    def write(self, way, move):
        chosen = WAYS[way]
        if not chosen.fits(self.stage.kind):
            return
        self.turns += 1
        self.stage.turn, self.stage.changes = self.turns, dict(MOVES[move])
        with contextlib.suppress(*MISHAPS), transaction.atomic() if self.open else contextlib.nullcontext():
            chosen.run(self.stage)

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def clients_hold_what_is_stored(self):
        if self.is_broken:
            return
        now, events = look(self.ears), numbered_events(self.start)
        self.snapshots = {id_: self.snapshots.get(id_, now) for id_ in events}
        numbers = {id(event): id_ for id_, event in events.items()}
        for ear in self.ears:
            own = [event for event in events.values() if event.stream == ear.stream]
            found = replay_problems(ear.stream, self.before, own, now, lambda event: self.snapshots[numbers[id(event)]])
            assert found == []

    def teardown(self) -> None:
        while self.open:
            self.fail()
        with self.stack:
            self.clients_hold_what_is_stored()


# Shrinking what was found may take five minutes.
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("arena")
def test_clients_hold_what_is_stored_whatever_is_written_and_rolled_back():
    """Of any kind of model, by any ways, with savepoints and without, to the last commit."""
    run_state_machine_as_test(Writers, settings=LENGTH)
