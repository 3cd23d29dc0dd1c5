"""Measurement of the time from a commit to its receipt by each client, at a steady rate."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from . import contenders
from .arena import Arena
from .fanout import await_frames
from .report import Figure, Goal, Section, Tally

CLIENTS = 100
PER_SECOND = 50.0
#: The contenders needed for the goals come first; a quick run leaves the others out.
NEEDED = (contenders.DECLBIND, contenders.SOCKETS, contenders.POLLING)


@dataclass(frozen=True)
class Latency:
    """Times of one contender in milliseconds, and the counts of sent and received frames."""

    median: float
    p99: float
    tally: Tally


def measure(arena: Arena, seconds: float, with_peers: bool) -> Section:
    names = (*NEEDED, *contenders.PEERS) if with_peers else NEEDED
    results = {name: _measure(arena, name, seconds) for name in names}
    median = {name: Figure(result.median, result.tally.counts) for name, result in results.items()}
    p99 = {name: Figure(result.p99, result.tally.counts) for name, result in results.items()}
    section = Section(f"Latency from commit to receipt: {PER_SECOND:.0f} saves a second to {CLIENTS} clients")
    section.add("p50, ms", median)
    section.add("p99, ms", p99)
    section.tally({name: result.tally for name, result in results.items()})
    ours, floor = contenders.DECLBIND, contenders.SOCKETS
    section.goals = [
        Goal("p50, of (c)", median[ours].over(median[floor]), at_most=3),
        Goal("p99, of (c)", p99[ours].over(p99[floor]), at_most=6),
        Goal("p99 without any layer, ms", p99[contenders.POLLING], at_most=400),
    ]
    return section


def _measure(arena: Arena, contender: str, seconds: float) -> Latency:
    with arena.site(contender) as site:
        site.connect(CLIENTS)
        if contender == contenders.SOCKETS:
            site.writer.ask(do="steady", per_second=PER_SECOND, seconds=0.5)
        else:
            site.writer.ask(do="steady", per_second=PER_SECOND, seconds=1.0)
            time.sleep(1.0)
        site.clients.ask(do="start", record=True, nap=0.0)
        written = site.writer.ask(do="steady", per_second=PER_SECOND, seconds=seconds)
        expected = written["saves"] * CLIENTS
        await_frames(site, expected)
        report = site.clients.ask(do="report")
        # JSON has text keys only.
        commits = {int(number): moment for number, moment in written["commits"].items()}
        times = [1000 * (moment - commits[number]) for number, moment in report["receipts"] if number in commits]
        cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
        lost = max(abs(expected - report["total"]), written["saves"] - report["fewest"])
        return Latency(cuts[49], cuts[98], Tally(report["total"], expected, lost, report["closed"]))
