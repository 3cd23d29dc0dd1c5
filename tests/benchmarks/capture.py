"""Measurement of the capture hooks: writes of unbound models, of many bound rows, and of tables with triggers.

Each is compared with the same write in the same process without the hooks, in alternation. The relevant figure is
the median of the ratios, because a busy machine slows down both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from . import contenders
from .arena import Arena, Program
from .hooked import ROWS
from .report import Figure, Goal, Section
from .saves import NAMES

#: The calls of one round. The commit is not measured, because it would hide the cost of the hooks.
TURN = 20
SINGLE = {
    "save": "save() of a stored row",
    "save_new": "save() of a new row",
    "delete": "QuerySet.delete() of one row",
    "update": "update() of one row",
    "bulk_create": "bulk_create() of one row",
    "bulk_update": "bulk_update() of one row",
}
SINGLE_GOALS = ("save", "save_new", "delete")
BULK = {
    "bulk_update": "bulk_update(), groups stay",
    "bulk_move": "bulk_update(), groups move",
    "bulk_create": "bulk_create()",
    "update": "update(), groups stay",
    "move": "update(), groups move",
    "delete": "QuerySet.delete()",
}
#: Only calls that take values for each row are compared. An update or a delete of all rows is one short statement,
#: which cannot be compared with an event for each row.
BULK_GOALS = ("bulk_update", "bulk_move", "bulk_create")
Measure = Callable[[], float]


def measure(arena: Arena, turns: int) -> Iterator[Section]:
    for database in NAMES:
        yield measure_unbound(arena, database, 10 * turns)
        yield measure_bulk(arena, database, turns)
        yield measure_triggers(arena, database, turns)


def measure_unbound(arena: Arena, database: str, turns: int) -> Section:
    """Compare writes of an unbound model with the same writes without hooks."""
    section = Section(f"Write of an unbound model on {NAMES[database]}, in a transaction: µs (median), and times plain")
    with arena.program("hooked", contenders.UNBOUND, database=database) as program:
        for work, label in SINGLE.items():
            plain, ours, ratio = _compare(
                partial(_single, program, work, False), partial(_single, program, work, True), turns
            )
            queries = [program.ask(do="single", work=work, times=1, hooks=hooks)["queries"] for hooks in (False, True)]
            assert queries[0] == queries[1], f"{label}: {queries[0]} queries without hooks, {queries[1]} with them."
            section.add(label, {contenders.PLAIN: _micros(plain), contenders.UNBOUND: _micros(ours)})
            section.add("", {contenders.UNBOUND: f"{ratio.value:.3f}x"})
            section.add("  queries", {contenders.PLAIN: str(queries[0]), contenders.UNBOUND: str(queries[1])})
            if work in SINGLE_GOALS:
                section.goals.append(Goal(f"{label}, of plain", ratio, at_most=1.03))
    return section


def measure_bulk(arena: Arena, database: str, turns: int) -> Section:
    """Compare writes of 1 000 bound rows, with an event each, with the same writes without hooks."""
    section = Section(f"Write of 1,000 bound rows on {NAMES[database]}, with its commit: ms (median), and times plain")
    names = (contenders.DECLBIND, contenders.BY_FIELD)
    with ExitStack() as stack:
        programs = {name: stack.enter_context(arena.program("hooked", name, database=database)) for name in names}
        for work, label in BULK.items():
            cells: dict[str, Figure | str] = {}
            ratios: dict[str, Figure] = {}
            for name, program in programs.items():
                plain, ours, ratios[name] = _compare(
                    partial(_bulk, program, work, 0), partial(_bulk, program, work, ROWS), turns
                )
                cells.setdefault(contenders.PLAIN, _millis(plain))
                cells[name] = _millis(ours)
            section.add(label, cells)
            section.add("", {name: f"{ratio.value:.2f}x" for name, ratio in ratios.items()})
            if work in BULK_GOALS:
                section.goals += [
                    Goal(f"{label}, {contenders.LABELS[name]}, of plain", ratio, at_most=3.0)
                    for name, ratio in ratios.items()
                ]
    return section


def measure_triggers(arena: Arena, database: str, turns: int) -> Section:
    """Compare writes that bypass the ORM with the same writes without triggers, and saves, which triggers skip."""
    section = Section(
        f"Write of a bound table on {NAMES[database]}, with triggers and without: median, and times plain"
    )
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context(arena.program("hooked", name, database=database))
            for name in (contenders.DECLBIND, contenders.TRIGGERS)
        }
        state = programs[contenders.TRIGGERS].ask(do="triggers", installed=True)
        assert set(state["states"]) == {"installed"}, f"Expected installed triggers, got {state['states']}."
        bound, marked = programs.values()
        plain, ours, ratio = _compare(partial(_bulk, bound, "sql", 0), partial(_bulk, marked, "sql", ROWS), turns)
        section.add(
            "SQL update of 1,000 rows, ms", {contenders.PLAIN: _millis(plain), contenders.TRIGGERS: _millis(ours)}
        )
        section.add("", {contenders.TRIGGERS: f"{ratio.value:.2f}x"})
        captured = _compare(partial(_single, bound, "save", False), partial(_single, bound, "save", True), 3 * turns)
        quiet = _compare(partial(_single, bound, "save", False), partial(_single, marked, "save", True), 3 * turns)
        found = {contenders.DECLBIND: captured, contenders.TRIGGERS: quiet}
        cells = {name: _micros(ours) for name, (_, ours, _) in found.items()}
        section.add("save() of a stored row, µs", {contenders.PLAIN: _micros(quiet[0]), **cells})
        section.add("", {name: f"{ratio.value:.2f}x" for name, (_, _, ratio) in found.items()})
    return section


def _single(program: Program, work: str, hooks: bool) -> float:
    seconds: list[float] = program.ask(do="single", work=work, times=TURN, hooks=hooks)["seconds"]
    return statistics.median(seconds)


def _bulk(program: Program, work: str, events: int) -> float:
    """Return the seconds of a write of all rows, whose hooks or triggers make this number of events."""
    answer = program.ask(do="bulk", work=work, hooks=bool(events))
    assert answer["events"] == events, f"{work}: expected {events} events, got {answer['events']}."
    return float(answer["seconds"])


def _compare(plain: Measure, ours: Measure, turns: int) -> tuple[float, float, Figure]:
    """Return the medians of both, and of their ratios; the order changes from round to round."""
    pairs = []
    for turn in range(turns + 1):
        if turn % 2:
            before, after = plain(), ours()
        else:
            after, before = ours(), plain()
        if turn:  # the first one warms up
            pairs.append((before, after))
    return (
        statistics.median(before for before, _ in pairs),
        statistics.median(after for _, after in pairs),
        Figure(statistics.median(after / before for before, after in pairs)),
    )


def _micros(seconds: float) -> Figure:
    return Figure(1e6 * seconds)


def _millis(seconds: float) -> Figure:
    return Figure(1e3 * seconds)
