"""Serve the bindings' WebSockets and nothing else."""

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

django.setup()

from declbind.routing import websocket_urlpatterns  # noqa: E402 - bindings name models, so Django comes first

application = ProtocolTypeRouter({"websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns))})
