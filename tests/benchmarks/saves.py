"""Measurement of the cost of a save to its writer, without subscribers, which is the peers' cheapest case."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack

from . import contenders
from .arena import Arena
from .report import Figure, Goal, Section

OWN = (contenders.PLAIN, contenders.UNBOUND, contenders.DECLBIND, contenders.BY_FIELD)
#: The saves of one contender before the next one's, so that a busy moment of the machine affects all of them.
TURN = 10
NAMES = {"sqlite": "SQLite (WAL, synchronous=NORMAL)", "postgres": "PostgreSQL (fsync on)"}
AUTOCOMMIT, INSIDE, WHOLE = "autocommit", "inside a transaction", f"transaction of {TURN}, commit included"
#: The maximum cost of a bound save, as a multiple of a plain one.
GOALS = {"sqlite": {AUTOCOMMIT: 2.0, INSIDE: 2.0}, "postgres": {INSIDE: 1.6, AUTOCOMMIT: 2.3}}


def measure(arena: Arena, database: str, turns: int) -> Section:
    """Return median times per save: in autocommit, inside a transaction, and of a transaction with its commit."""
    names = (*OWN, *contenders.PEERS) if database == "sqlite" else OWN
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        writers = {name: stack.enter_context(arena.writer(name, database)) for name in names}
        for turn in range(turns + 1):
            for name, writer in writers.items():
                alone = writer.ask(do="time", saves=TURN, atomic=False)
                together = writer.ask(do="time", saves=TURN, atomic=True)
                if turn:  # the first one warms up
                    seconds[AUTOCOMMIT][name] += alone["seconds"]
                    seconds[INSIDE][name] += together["seconds"]
                    seconds[WHOLE][name].append(together["whole"] / TURN)
    section = Section(f"Save of one row on {NAMES[database]}, nobody listens: µs (median), and times a plain save")
    for mode, by_name in seconds.items():
        micros = {name: Figure(1e6 * statistics.median(values)) for name, values in by_name.items()}
        plain = micros[contenders.PLAIN]
        section.add(mode, micros)
        section.add("", {name: f"{figure.value / plain.value:.2f}x" for name, figure in micros.items()})
        if mode in GOALS[database]:
            goal = GOALS[database][mode]
            section.goals.append(Goal(f"{mode}, of plain", micros[contenders.DECLBIND].over(plain), at_most=goal))
    return section
