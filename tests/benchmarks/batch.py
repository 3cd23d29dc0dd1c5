"""Measurement of a burst of saves to many clients that negotiated `declbind.batch.v1`, which joins waiting frames."""

from __future__ import annotations

from . import contenders
from .arena import Arena
from .fanout import run_burst, tally
from .report import Figure, Goal, Section

SUBPROTOCOL = "declbind.batch.v1"
LABEL = "inner frames per second, of (d)"
GOAL = 3.0
#: The baseline's speed does not depend on the length of the burst, and the whole burst would take a minute.
FLOOR_SAVES = 150


def measure(arena: Arena, saves: int, clients: int) -> Section:
    section = Section(f"Burst of {saves:,} saves to {clients:,} clients that asked for {SUBPROTOCOL}")
    with arena.site(contenders.DECLBIND) as site:
        if site.connect(1, subprotocol=SUBPROTOCOL)["subprotocol"] != SUBPROTOCOL:
            section.goals = [Goal(LABEL, None, at_least=GOAL, note="not negotiated")]
            return section
        site.connect(clients, subprotocol=SUBPROTOCOL)
        run_burst(site, clients, 1)
        ours = run_burst(site, clients, saves)
    with arena.site(contenders.ASGI) as site:
        site.connect(clients)
        run_burst(site, clients, 1)
        floor = run_burst(site, clients, min(saves, FLOOR_SAVES))
    runs = {contenders.DECLBIND: ours, contenders.ASGI: floor}
    tallies = {name: tally([run]) for name, run in runs.items()}
    speed = {name: Figure(run.per_second, tallies[name].counts) for name, run in runs.items()}
    section.add("inner frames per second", speed)
    section.add("server CPU per inner frame, µs", {name: Figure(run.cpu_microseconds) for name, run in runs.items()})
    section.tally(tallies)
    section.goals = [Goal(LABEL, speed[contenders.DECLBIND].over(speed[contenders.ASGI]), at_least=GOAL)]
    return section
