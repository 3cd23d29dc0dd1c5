"""Measurement of how fast one group's changes reach N clients, and of the server's cost per delivery."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from . import contenders
from .arena import Arena, Site
from .report import Figure, Goal, Section, Tally, best

#: The saves of one transaction: a writer with a commit for each save would be slower than the fan-out to 100 clients.
TOGETHER = 10
#: How many saves a paced writer may be ahead of a peer's clients: half the capacity of its layer.
PEERS_WINDOW = 50
#: The same for declbind, in frames: enough to keep the server busy.
FRAMES_AHEAD = 40_000
#: How long the client program pauses between two polls of its sockets, so that it does not limit the measurement.
NAP_SECONDS = 0.002
#: After this time without a frame, clients are complete or have lost frames.
SILENCE_SECONDS = 3.0
#: The frames that a baseline sends in about a second. It needs no writer: its runs are bursts of about this length.
FLOOR_FRAMES = {contenders.SOCKETS: 80_000, contenders.ASGI: 60_000}
PAIR = (contenders.DECLBIND, contenders.ASGI)
#: The goal: how many times as fast as the best peer, by number of clients.
GOALS = {100: 5.0, 1_000: 10.0}


@dataclass(frozen=True)
class Run:
    """The result of one series of saves. `fewest` is the lowest number of frames of any client."""

    saves: int
    clients: int
    delivered: int
    fewest: int
    bytes: int
    closed: int
    seconds: float
    cpu_seconds: float

    @property
    def lost(self) -> int:
        # The sum alone would not show a frame that was lost for one client and duplicated for another.
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


def measure(arena: Arena, clients: int, rounds: int, seconds: float) -> Section:
    """Return the section of one number of clients; the two compared contenders alternate for `rounds` rounds."""
    runs: dict[str, list[Run]] = {contenders.DECLBIND: []}
    for turn in range(rounds):
        for contender in (*PAIR, contenders.SOCKETS, *contenders.PEERS) if turn == 0 else PAIR:
            with arena.site(contender) as site:
                site.connect(clients)
                run_burst(site, clients, 1)
                runs.setdefault(contender, []).append(_run_for(site, clients, seconds))
    return _section(runs, clients)


def _run_for(site: Site, clients: int, seconds: float) -> Run:
    if site.contender in contenders.FLOORS:
        return run_burst(site, clients, max(1, int(seconds * FLOOR_FRAMES[site.contender] / clients)))
    window = FRAMES_AHEAD // clients if site.contender == contenders.DECLBIND else PEERS_WINDOW
    return _run(site, clients, do="paced", seconds=seconds, window=window, clients=clients, together=TOGETHER)


def run_burst(site: Site, clients: int, saves: int) -> Run:
    """Save this many times, as fast as possible."""
    return _run(site, clients, do="burst", saves=saves)


def _run(site: Site, clients: int, /, **command: object) -> Run:
    site.clients.ask(do="start", record=False, nap=NAP_SECONDS)
    cpu = site.cpu_seconds
    written = site.writer.ask(**command)
    await_frames(site, written["saves"] * clients)
    report = site.clients.ask(do="report")
    return Run(
        saves=written["saves"],
        clients=clients,
        delivered=report["total"],
        fewest=report["fewest"],
        bytes=report["bytes"],
        closed=report["closed"],
        seconds=max(report["last"] - written["started"], 1e-9),
        cpu_seconds=site.cpu_seconds - cpu,
    )


def await_frames(site: Site, expected: int) -> None:
    """Wait until the clients have all frames, or none has arrived for `SILENCE_SECONDS`."""
    seen, changed_at = site.progress.value, time.monotonic()
    while seen < expected and time.monotonic() < changed_at + SILENCE_SECONDS:
        time.sleep(0.02)
        if site.progress.value != seen:
            seen, changed_at = site.progress.value, time.monotonic()


def _section(runs: dict[str, list[Run]], clients: int) -> Section:
    tallies = {name: tally(some) for name, some in runs.items()}
    counts = {name: some.counts for name, some in tallies.items()}
    speed = {n: Figure(statistics.median(r.per_second for r in some), counts[n]) for n, some in runs.items()}
    cpu = {n: Figure(statistics.median(r.cpu_microseconds for r in some), counts[n]) for n, some in runs.items()}
    section = Section(f"Fan-out: one group, {clients:,} clients, {TOGETHER} saves a transaction")
    section.add("deliveries per second", speed)
    section.add("server CPU per delivery, µs", cpu)
    section.add("bytes per frame", {n: Figure(some[0].bytes / max(some[0].delivered, 1)) for n, some in runs.items()})
    section.tally(tallies)
    ours, floor = speed[contenders.DECLBIND], contenders.ASGI
    section.goals = [
        Goal("deliveries per second, of (d)", ours.over(speed[floor]), at_least=0.9),
        Goal(
            "deliveries per second, of the best of (a) and (b)",
            ours.over(best(speed[name] for name in contenders.PEERS)),
            at_least=GOALS.get(clients, 5.0),
        ),
        Goal("server CPU per delivery, of (d)", cpu[contenders.DECLBIND].over(cpu[floor]), at_most=1.3),
    ]
    return section


def tally(runs: list[Run]) -> Tally:
    """Return the frame counts of several runs."""
    return Tally(
        delivered=sum(run.delivered for run in runs),
        expected=sum(run.expected for run in runs),
        lost=sum(run.lost for run in runs),
        closed=sum(run.closed for run in runs),
    )
