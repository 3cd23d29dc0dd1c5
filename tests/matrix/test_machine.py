"""Random sequences of writes in nested transactions: clients hold the stored rows at every step."""

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

from .bindings import SETS, View, look, observers_of
from .judge import replay_problems
from .kinds import KINDS, MOVES
from .outcomes import Undo
from .sample import Sample, empty
from .scenarios import last_event, numbered_events
from .ways import WAYS

#: Errors of a write on rows that other writes have changed; the write is undone then.
MISHAPS = (ObjectDoesNotExist, DatabaseError, AttributeError, ValueError)
DEEPEST = 4
#: Without the way that calls explain(), which would run every statement under a tracer.
PHASES = (Phase.reuse, Phase.generate, Phase.shrink)
LENGTH = settings(
    max_examples=100,
    stateful_step_count=20,
    phases=PHASES,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Writers(RuleBasedStateMachine):
    """Writes of all ways, in transactions that end in any way, beside a client of each stream.

    The log is read again at each step, inside the transaction, so that rolled-back events are no longer in it. A
    resync returns the rows that were stored when its event first appeared.
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
        self.sample = Sample(kind, {})
        self.sample.fill()
        self.observers = observers_of(kind, SETS[names])
        self.stack.enter_context(override_settings(DECLBIND={"BULK_LIMIT": limit}))
        self.stack.enter_context(override_bindings(*(observer.build() for observer in self.observers)))
        self.start, self.before = last_event(), look(self.observers)

    # --- transactions ------------------------------------------------------------------------------------------------

    @property
    def is_broken(self) -> bool:
        """Return whether no query is possible until the transaction ends."""
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
        # A foreign key to a deleted row is detected at the commit, which is then rolled back.
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
        """Recreate missing rows, captured like any write."""
        with contextlib.suppress(DatabaseError), transaction.atomic():
            self.sample.restock()

    # --- writes ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_broken)
    @rule(way=st.sampled_from(sorted(WAYS)), move=st.sampled_from(sorted(MOVES)))
    def write(self, way, move):
        chosen = WAYS[way]
        if not chosen.fits(self.sample.kind):
            return
        self.turns += 1
        self.sample.shift, self.sample.changes = self.turns, dict(MOVES[move])
        with contextlib.suppress(*MISHAPS), transaction.atomic() if self.open else contextlib.nullcontext():
            chosen.run(self.sample)

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def clients_hold_what_is_stored(self):
        if self.is_broken:
            return
        now, events = look(self.observers), numbered_events(self.start)
        self.snapshots = {id_: self.snapshots.get(id_, now) for id_ in events}
        numbers = {id(event): id_ for id_, event in events.items()}
        for observer in self.observers:
            own = [event for event in events.values() if event.stream == observer.stream]
            found = replay_problems(
                observer.stream, self.before, own, now, lambda event: self.snapshots[numbers[id(event)]]
            )
            assert found == []

    def teardown(self) -> None:
        while self.open:
            self.fail()
        with self.stack:
            self.clients_hold_what_is_stored()


# Shrinking a failure may take five minutes.
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("arena")
def test_clients_hold_what_is_stored_whatever_is_written_and_rolled_back():
    """Clients hold the stored rows for any kind of model and any ways, with and without savepoints."""
    run_state_machine_as_test(Writers, settings=LENGTH)
