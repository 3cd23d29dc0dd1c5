"""Serve the pages and the WebSockets of the example site."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.urls import path

from declbind.routing import websocket_urlpatterns

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_site.settings")
pages = get_asgi_application()

# Imported below the call that sets Django up: this module imports models.
from example_site.example.bindings import Demultiplexer  # noqa: E402

application = ProtocolTypeRouter(
    {
        # A real site leaves static files to a web server or to WhiteNoise.
        "http": ASGIStaticFilesHandler(pages) if settings.DEBUG else pages,
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    *websocket_urlpatterns,  # ws/bindings/: every binding there is
                    path("ws/intval/", Demultiplexer.as_asgi()),  # one written by hand, as in Channels 1.x
                ]
            )
        ),
    }
)
