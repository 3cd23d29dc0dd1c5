"""Measurement of how long a reconnecting client waits for what it has missed."""

from __future__ import annotations

import json
import statistics

from . import contenders
from .arena import SUBSCRIBE, Arena
from .report import Figure, Goal, Section, Tally

MISSED = 1_000


def measure(arena: Arena, times: int) -> Section:
    section = Section(f"Resume: from `subscribe` with `since` to the last of {MISSED:,} missed frames")
    with arena.site(contenders.DECLBIND) as site:
        reply = site.connect(1)["reply"]
        site.writer.ask(do="burst", saves=MISSED)
        request = json.loads(SUBSCRIBE)
        request["payload"]["since"] = {key: reply[key] for key in ("epoch", "offset", "resume")}
        answers = [
            site.clients.ask(do="resume", subscribe=json.dumps(request), frames=MISSED) for _ in range(times + 1)
        ][1:]
    delivered = sum(answer["frames"] for answer in answers)
    tally = Tally(delivered, times * MISSED, abs(times * MISSED - delivered))
    median = Figure(1000 * statistics.median(answer["seconds"] for answer in answers), tally.counts)
    section.add("median, ms", {contenders.DECLBIND: median})
    section.tally({contenders.DECLBIND: tally})
    section.goals = [Goal(f"resume of {MISSED:,} missed events, ms", median, at_most=50)]
    return section
