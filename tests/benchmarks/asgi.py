"""The ASGI application of the contender's one WebSocket, behind the same middleware for all."""

from __future__ import annotations

import os
from typing import Any, cast

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

from . import contenders

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.settings")
pages = get_asgi_application()

if contenders.current() in contenders.HANDWRITTEN:
    from .handwritten import PriceConsumer

    routes = [path("ws/bindings/", PriceConsumer.as_asgi())]
elif contenders.current() in contenders.OBSERVERS:
    from .observed import ObservingConsumer

    routes = [path("ws/bindings/", ObservingConsumer.as_asgi())]
elif contenders.current() == contenders.ASGI_STACK:
    from .bare import application as bare

    routes = [path("ws/bindings/", cast(Any, bare))]
else:
    from declbind.routing import websocket_urlpatterns as routes

application = ProtocolTypeRouter({"http": pages, "websocket": AuthMiddlewareStack(URLRouter(routes))})
