"""Measure how fast one group's changes reach N clients, and what a connection costs in memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from . import contenders
from .arena import Arena, Site, subscription
from .report import Goal, Row, Tally

#: Saves that a paced writer may be ahead of the clients: half of what the hand-written consumer's layer holds.
WINDOW = 50
#: Clients are complete, or lost frames, when nothing came for so long.
SILENCE_SECONDS = 3.0
#: Connected and gone before memory is measured, so that what a first client loads is not counted.
WARM_UP_CLIENTS = 5
#: The goal is set for a group of this size.
GOAL, GOAL_CLIENTS = Goal(at_least=5.0), 400
CONTENDERS = (contenders.DECLBIND, contenders.HANDWRITTEN)


@dataclass(frozen=True)
class Run:
    """What came of one series of saves. `fewest` is the number of frames of the client that got the least."""

    saves: int
    clients: int
    delivered: int
    fewest: int
    saves_per_second: float
    closed: int
    seconds: float
    cpu_seconds: float

    @property
    def lost(self) -> int:
        # The sum alone would not show a frame lost here and doubled there.
        return max(abs(self.expected - self.delivered), self.saves - self.fewest)

    @property
    def expected(self) -> int:
        return self.saves * self.clients

    @property
    def per_second(self) -> float:
        return self.delivered / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        return 1e6 * self.cpu_seconds / max(self.delivered, 1)


@dataclass
class Results:
    """All runs of one contender at one number of clients."""

    paced: list[Run]
    burst: list[Run]
    memory: list[float]


def measure(arena: Arena, clients: int, rounds: int, seconds: float, burst: int) -> list[Row]:
    """Return the rows of one number of clients; the contenders take turns, `rounds` times."""
    results = {contender: Results([], [], []) for contender in CONTENDERS}
    for _ in range(rounds):
        for contender, result in results.items():
            with arena.site(contender) as site:
                result.memory.append(_memory_per_connection(site, contender, clients))
                _run(site, clients, do="burst", saves=1)
                result.paced.append(_run(site, clients, do="paced", seconds=seconds, window=WINDOW, clients=clients))
                result.burst.append(_run(site, clients, do="burst", saves=burst))
    ours, theirs = (results[contender] for contender in CONTENDERS)
    goal = GOAL if clients >= GOAL_CLIENTS else None
    rows = [Row.heading(f"Fan-out: one group, {clients} clients, each save a transaction of its own")]
    rows += _rows(f"paced, at most {WINDOW} saves ahead of the clients", ours.paced, theirs.paced, goal)
    rows += _rows(f"burst of {burst} saves, as fast as they go", ours.burst, theirs.burst, goal)
    rows.append(
        Row(
            f"memory per idle connection ({clients}), KiB",
            statistics.median(ours.memory) / 1024,
            statistics.median(theirs.memory) / 1024,
        )
    )
    return rows


def _memory_per_connection(site: Site, contender: str, clients: int) -> float:
    site.connect(WARM_UP_CLIENTS, subscription(contender))
    time.sleep(0.5)
    before = site.memory
    site.connect(clients, subscription(contender))
    time.sleep(0.5)
    return (site.memory - before) / (clients - WARM_UP_CLIENTS)


def _run(site: Site, clients: int, /, **command: object) -> Run:
    site.clients.ask(do="start", record=False, nap=0.002)
    cpu = site.cpu_seconds
    written = site.writer.ask(**command)
    _await_frames(site, written["saves"] * clients)
    report = site.clients.ask(do="report")
    return Run(
        saves=written["saves"],
        clients=clients,
        delivered=report["total"],
        fewest=report["fewest"],
        saves_per_second=written["saves"] / (written["ended"] - written["started"]),
        closed=report["closed"],
        seconds=max(report["last"] - written["started"], 1e-9),
        cpu_seconds=site.cpu_seconds - cpu,
    )


def _await_frames(site: Site, expected: int) -> None:
    """Wait until the clients have all frames, or none has come for `SILENCE_SECONDS`."""
    seen, changed_at = site.progress.value, time.monotonic()
    while seen < expected and time.monotonic() < changed_at + SILENCE_SECONDS:
        time.sleep(0.02)
        if site.progress.value != seen:
            seen, changed_at = site.progress.value, time.monotonic()


def _rows(mode: str, ours: list[Run], theirs: list[Run], goal: Goal | None) -> list[Row]:
    counts = not any(run.lost for run in ours + theirs)
    median = statistics.median
    return [
        Row.subheading(mode),
        Row(
            "deliveries per second",
            median(run.per_second for run in ours),
            median(run.per_second for run in theirs),
            goal=goal,
            counts=counts,
        ),
        Row(
            "saves per second meanwhile",
            median(run.saves_per_second for run in ours),
            median(run.saves_per_second for run in theirs),
            counts=counts,
        ),
        Row(
            "server CPU per delivery, µs",
            median(run.cpu_microseconds for run in ours),
            median(run.cpu_microseconds for run in theirs),
            counts=counts,
        ),
        Row.frames(_tally(ours), _tally(theirs)),
    ]


def _tally(runs: list[Run]) -> Tally:
    return Tally(
        delivered=sum(run.delivered for run in runs),
        expected=sum(run.expected for run in runs),
        lost=sum(run.lost for run in runs),
        closed=sum(run.closed for run in runs),
    )
