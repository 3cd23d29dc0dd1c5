"""Settings of a site whose users are in ``default``; bound models and declbind are in ``other``."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403 - settings are what the module before has, and these

DATABASES = json.loads(os.environ["TWO_DATABASES"])
DATABASE_ROUTERS = ["tests.two_databases.routers.ShopRouter"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "declbind",
    "admin_ui",
    "tests.two_databases.shop",
]
ROOT_URLCONF = "tests.two_databases.urls"
ASGI_APPLICATION = ""  # No server runs here.
DECLBIND = {"VERSION_CHECK_SECONDS": 0.0}
