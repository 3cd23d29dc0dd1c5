"""Checks that the ASGI application serves declbind's consumer, behind a middleware that knows users (W018, W019)."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

from declbind.conf import settings


def check_application(**kwargs: Any) -> list[CheckMessage]:
    """Check that the ASGI application serves declbind's consumer, with users (W018, W019). Makes no query."""
    # Channels and the consumer take a while to import, and most processes never run this check.
    from .asgi_mounts import describe_paths, find_mounts

    mounts = find_mounts()
    found: list[CheckMessage] = []
    if mounts.fault:
        found.append(
            CheckWarning(
                f"settings.ASGI_APPLICATION: {mounts.application!r} cannot be imported: {mounts.fault}",
                hint="Correct the module. An ASGI server cannot start with it either.",
                id="declbind.W018",
            )
        )
    elif mounts.is_known and not mounts.paths:
        found.append(
            CheckWarning(
                f"settings.ASGI_APPLICATION: {mounts.application!r} leads to no consumer of declbind, so no client can "
                "connect.",
                hint='Mount declbind.routing.websocket_urlpatterns in a URLRouter under "websocket".',
                id="declbind.W018",
            )
        )
    elif mounts.is_known and not mounts.has_login and settings.AUTHENTICATE is None and settings.JWT is None:
        found.append(
            CheckWarning(
                f"settings.ASGI_APPLICATION: no middleware of {mounts.application!r} sets the user of connections to "
                f"{describe_paths(mounts)}, so every client without a token is anonymous.",
                hint="Wrap the URLRouter in channels.auth.AuthMiddlewareStack. If all clients are anonymous or use "
                'tokens, silence the check: SILENCED_SYSTEM_CHECKS = ["declbind.W019"].',
                id="declbind.W019",
            )
        )
    return found
