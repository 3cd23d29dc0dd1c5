"""Pages for the processes that serve sockets, and the configuration that they run."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from admin_ui.common.read_only import ReadOnlyAdmin
from declbind.console.audience import oldest_heartbeat
from declbind.console.shown import sees_all
from declbind.models import BindingRecord, Node


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

    @admin.display(boolean=True, description=gettext_lazy("live"))
    def is_live(self, node: Node) -> bool:
        """Return whether it had a recent heartbeat."""
        return node.seen_at >= oldest_heartbeat()
