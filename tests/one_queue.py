"""A single queue for all clients, for the negative controls of the tests of fairness."""

from __future__ import annotations

from typing import Any

from declbind.live.fair_queue import Client, FairQueue


class OneQueue(FairQueue[Any]):
    """The queue that there was: first come, first served, for all clients."""

    def put(self, client: Client, item: object) -> None:
        super().put(Client("all", ""), item)
