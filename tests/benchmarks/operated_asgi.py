"""The example site with its static files, but without DEBUG: Django's log of queries would be measured too."""

from __future__ import annotations

from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from example_site.asgi import application as site

mapping = site.application_mapping
application = ProtocolTypeRouter({**mapping, "http": ASGIStaticFilesHandler(mapping["http"])})
