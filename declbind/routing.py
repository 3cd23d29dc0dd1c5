"""ASGI routes of the bindings, for ``URLRouter(declbind.routing.websocket_urlpatterns)``.

This module imports no models, so it can be imported before ``django.setup()``. The imports of an ``asgi.py`` may
therefore be in any order.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from asgiref.sync import markcoroutinefunction
from django.urls import path

from declbind.asgi_types import Receive, Scope, Send

if TYPE_CHECKING:
    # The stubs of Channels have their own type for routes.
    from channels.routing import URLRouter, _ExtendedURLPattern


@markcoroutinefunction
def serve_bindings(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """Serve one WebSocket connection with its own ``BindingConsumer``.

    Returns:
        The consumer's coroutine. An ``async def`` would keep a second coroutine, and with it the scope, for as long
            as the connection is open.
    """
    # Imported late: the consumer needs models, and models need Django's app registry.
    from declbind.live.consumers import BindingConsumer

    return BindingConsumer()(scope, receive, send)


# The type stubs of Django know HTTP views only.
websocket_urlpatterns: list[_ExtendedURLPattern | URLRouter] = [path("ws/bindings/", serve_bindings)]  # type: ignore[arg-type]
