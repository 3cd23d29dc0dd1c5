"""The pages alone, by WSGI; the WebSockets need ``asgi.py`` beside it, in processes of its own."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_site.settings")

application = get_wsgi_application()
