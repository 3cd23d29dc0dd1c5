"""Pages for the processes that serve sockets, and the configuration that they run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib import admin
from django.http import HttpRequest

from admin_ui.history import ReadOnlyAdmin
from declbind.console.audience import oldest_heartbeat
from declbind.console.shown import sees_all
from declbind.models import BindingRecord, Configuration, Node


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


class NodeAdmin(ReadOnlyAdmin):
    """The processes that serve sockets."""

    list_display = ("__str__", "is_live", "version", "connections", "subscriptions", "offset", "started_at", "seen_at")
    fields = (
        "host", "pid", "is_live", "version", "digest", "connections", "subscriptions", "streams", "offset",
        "last_error", "started_at", "seen_at",
    )  # fmt: skip
    readonly_fields = ("is_live",)

    def has_view_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Return whether the user may view processes.

        Processes serve all tenants, so only operators who see all tenants may view them.
        """
        return sees_all() and super().has_view_permission(request, obj)

    @admin.display(boolean=True, description="live")
    def is_live(self, node: Node) -> bool:
        """Return whether it had a recent heartbeat."""
        return node.seen_at >= oldest_heartbeat()
