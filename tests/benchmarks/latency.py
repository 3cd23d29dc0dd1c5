"""Measure the time from a commit to its receipt by each client, at a steady rate."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from . import contenders
from .arena import Arena, subscription
from .report import Row, Tally

CLIENTS = 100
PER_SECOND = 50.0
CONTENDERS = (contenders.DECLBIND, contenders.POLLING, contenders.HANDWRITTEN)


@dataclass(frozen=True)
class Latency:
    """Times of one contender in milliseconds, and what came of what was sent."""

    median: float
    p99: float
    tally: Tally


def measure(arena: Arena, seconds: float) -> list[Row]:
    results = {contender: _measure(arena, contender, seconds) for contender in CONTENDERS}
    theirs = results[contenders.HANDWRITTEN]
    rows = [Row.heading(f"Latency from commit to receipt, ms: {PER_SECOND:.0f} saves a second to {CLIENTS} clients")]
    for contender, name in ((contenders.DECLBIND, "Redis as doorbell"), (contenders.POLLING, "no channel layer")):
        ours = results[contender]
        counts = not (ours.tally.lost or theirs.tally.lost)
        rows += [
            Row.subheading(f"declbind with {name}"),
            Row("p50", ours.median, theirs.median, counts=counts),
            Row("p99", ours.p99, theirs.p99, counts=counts),
            Row.frames(ours.tally, theirs.tally),
        ]
    return rows


def _measure(arena: Arena, contender: str, seconds: float) -> Latency:
    with arena.site(contender) as site:
        site.connect(CLIENTS, subscription(contender))
        site.writer.ask(do="steady", per_second=PER_SECOND, seconds=1.0)
        time.sleep(1.5)
        site.clients.ask(do="start", record=True, nap=0.0)
        written = site.writer.ask(do="steady", per_second=PER_SECOND, seconds=seconds)
        time.sleep(1.0)
        expected = written["saves"] * CLIENTS
        deadline = time.monotonic() + 5.0
        while site.progress.value < expected and time.monotonic() < deadline:
            time.sleep(0.05)
        report = site.clients.ask(do="report")
        # JSON has text keys only.
        commits = {int(number): moment for number, moment in written["commits"].items()}
        times = [1000 * (moment - commits[number]) for number, moment in report["receipts"] if number in commits]
        cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
        lost = max(abs(expected - report["total"]), written["saves"] - report["fewest"])
        return Latency(cuts[49], cuts[98], Tally(report["total"], expected, lost, report["closed"]))
