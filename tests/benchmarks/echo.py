"""Measurement of how fast updates of clients return to them as frames."""

from __future__ import annotations

import statistics

from . import contenders
from .arena import Arena
from .report import Figure, Goal, Section, Tally, best

PEERS = (contenders.OBSERVER, contenders.OBSERVER_PUBSUB)
REQUEST = '{"stream":"price","payload":{"action":"update","pk":PK,"data":{"number":NUMBER}}}'
PEERS_REQUEST = '{"action":"patch","request_id":1,"pk":PK,"data":{"number":NUMBER}}'
#: The number of concurrent clients in one group: each receives all frames, and waits for its own.
TOGETHER = 100


def measure(arena: Arena, seconds: float) -> Section:
    section = Section("Inbound echo: each client updates a row, waits for the frame of that update, and goes on")
    for clients in (1, TOGETHER):
        rates: dict[str, Figure] = {}
        medians: dict[str, Figure] = {}
        tallies: dict[str, Tally] = {}
        for contender in (contenders.DECLBIND, *PEERS):
            with arena.site(contender) as site:
                site.connect(clients)
                request = REQUEST if contender == contenders.DECLBIND else PEERS_REQUEST
                site.clients.ask(do="echo", requests=request, seconds=0.5)
                answer = site.clients.ask(do="echo", requests=request, seconds=seconds)
            heard, sent = len(answer["times"]), answer["sent"]
            tallies[contender] = Tally(heard, sent, abs(sent - heard))
            rates[contender] = Figure(heard / answer["seconds"], heard == sent)
            medians[contender] = Figure(1000 * statistics.median(answer["times"] or [float("nan")]), heard == sent)
        section.add(f"{clients} at once: echoes per second", rates)
        section.add("p50, ms", medians)
        section.tally(tallies)
        ratio = rates[contenders.DECLBIND].over(best(rates[name] for name in PEERS))
        section.goals.append(Goal(f"echoes per second, {clients} at once, of the better (b)", ratio, at_least=5))
    return section
