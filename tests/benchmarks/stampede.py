"""Measurement of how a crowd of clients that reconnects at once is served, and of its load on the database."""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Self

import psycopg

from . import contenders
from .arena import SUBSCRIBE, Arena
from .report import Figure, Goal, Section, Tally

MISSED = 100


class Watch:
    """A thread that polls the number of a database's sessions meanwhile."""

    def __init__(self, url: str) -> None:
        self.most = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stop.wait(0.01):
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid()"
                ).fetchone()
                self.most = max(self.most, row[0] if row else 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def measure(arena: Arena, clients: int) -> Section:
    section = Section(f"{clients:,} clients come back at once, each for {MISSED} events that it missed (PostgreSQL)")
    with arena.site(contenders.DECLBIND, "postgres") as site:
        reply = site.connect(1)["reply"]
        site.writer.ask(do="burst", saves=MISSED)
        request = json.loads(SUBSCRIBE)
        request["payload"]["since"] = {key: reply[key] for key in ("epoch", "offset", "resume")}
        url = arena.environment(contenders.DECLBIND, "postgres")["BENCHMARK_DATABASE"]
        with Watch(url) as watch:
            answer = site.clients.ask(do="come_back", subscribe=json.dumps(request), clients=clients, frames=MISSED)
    tally = Tally(answer["frames"], clients * MISSED, abs(clients * MISSED - answer["frames"]))
    section.add("all are connected after, s", {contenders.DECLBIND: Figure(answer["connected"])})
    section.add("all have all after, s", {contenders.DECLBIND: Figure(answer["seconds"], tally.counts)})
    section.add("sessions of the database, at most", {contenders.DECLBIND: Figure(watch.most)})
    section.tally({contenders.DECLBIND: tally})
    # One writer, one hub, and the threads that serve requests.
    section.goals = [Goal("sessions of the database, at most", Figure(watch.most), at_most=10)]
    return section
