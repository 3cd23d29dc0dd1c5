"""Measure what a save costs its writer. Nobody listens: that is the hand-written consumer's cheapest case."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack

from . import contenders
from .arena import Arena
from .report import Goal, Row

CONTENDERS = (
    contenders.PLAIN,
    contenders.UNBOUND,
    contenders.DECLBIND,
    contenders.BY_FIELD,
    contenders.HANDWRITTEN,
)
#: Saves of one contender before it is another one's turn, so that a busy moment of the machine meets all of them.
TURN = 10


def measure(arena: Arena, turns: int) -> list[Row]:
    """Return median times per save: in autocommit, inside a transaction, and of a whole transaction with its commit."""
    autocommit: dict[str, list[float]] = defaultdict(list)
    inside: dict[str, list[float]] = defaultdict(list)
    whole: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(arena.writer(name)) for name in CONTENDERS}
        for turn in range(turns + 1):
            for name, writer in writers.items():
                alone = writer.ask(do="time", saves=TURN, atomic=False)
                together = writer.ask(do="time", saves=TURN, atomic=True)
                if turn:  # the first one warms up
                    autocommit[name] += alone["seconds"]
                    inside[name] += together["seconds"]
                    whole[name].append(together["whole"] / TURN)
    rows = [Row.heading("Save of one row, µs (median), while nobody listens; beside it the multiple of a plain save")]
    rows += _rows("autocommit", autocommit, Goal(below=1.0))
    rows += _rows("inside a transaction, without what waits for its commit", inside, None)
    rows += _rows(f"transaction of {TURN} saves, per save, commit and what follows it included", whole, Goal(below=1.0))
    return rows


def _rows(mode: str, seconds: dict[str, list[float]], goal: Goal | None) -> list[Row]:
    median = {name: 1e6 * statistics.median(values) for name, values in seconds.items()}
    plain, theirs = median[contenders.PLAIN], median[contenders.HANDWRITTEN]
    return [
        Row.subheading(f"{mode}: plain Django {plain:,.0f}"),
        Row("declbind, constant group", median[contenders.DECLBIND], theirs, goal=goal, base=plain),
        Row("declbind, group by a field", median[contenders.BY_FIELD], theirs, goal=goal, base=plain),
        Row("declbind, model not bound", median[contenders.UNBOUND], base=plain),
    ]
