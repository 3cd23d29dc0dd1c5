"""How many of the live processes run the present configuration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from declbind.console.audience import oldest_heartbeat
from declbind.models import Configuration, Node


@dataclass(frozen=True)
class Spread:
    """The spread of a configuration: ``current`` of ``total`` live processes run ``version``."""

    version: int
    current: int
    total: int
    changed_at: datetime | None = None
    nodes: tuple[Node, ...] = ()

    @property
    def is_everywhere(self) -> bool:
        """Return whether all live processes run it."""
        return self.current == self.total


def load_spread() -> Spread:
    """Return the configuration's version and the number of processes that run it. Takes two queries."""
    configuration = Configuration.objects.order_by("pk").first()
    version = configuration.version if configuration else 0
    generation = configuration.generation if configuration else ""
    nodes = tuple(Node.objects.filter(seen_at__gte=oldest_heartbeat()))
    current = sum((node.generation, node.version) == (generation, version) for node in nodes)
    return Spread(version, current, len(nodes), configuration.changed_at if configuration else None, nodes)
