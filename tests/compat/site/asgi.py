"""The ASGI application: the site's pages and the bindings' WebSockets."""

import os

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.compat.site.settings")
django.setup()

from declbind.routing import websocket_urlpatterns  # noqa: E402 - imports models, so Django is set up first

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
    }
)
