"""The settings of the course's site, from the environment.

- `DATABASE_URL`: the database.
- `COMPAT_DATABASE`: a JSON object that is merged into `DATABASES["default"]`.
- `COMPAT_SETTINGS`: a JSON object of further settings; `"BLOCK_MODULES"` names modules that must not be importable, and
  `"EXTRA_APPS"` is appended to `INSTALLED_APPS`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tests.settings import database_at

overlay: dict[str, Any] = json.loads(os.environ.get("COMPAT_SETTINGS", "{}"))
for blocked in overlay.pop("BLOCK_MODULES", []):
    # The import system raises ModuleNotFoundError for a name that is mapped to None.
    sys.modules[blocked] = None  # type: ignore[assignment]

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.compat.site.urls"
ASGI_APPLICATION = "tests.compat.site.asgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES: dict[str, dict[str, object]] = {"default": database_at(os.environ["DATABASE_URL"])}
for key, value in json.loads(os.environ.get("COMPAT_DATABASE", "{}")).items():
    DATABASES["default"][key] = value

DECLBIND: dict[str, Any] = {"MAX_SNAPSHOT_ROWS": 50_000, "DRAIN_SECONDS": 1.0, **overlay.pop("DECLBIND", {})}

INSTALLED_APPS = [
    *overlay.pop("FIRST_APPS", []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "declbind",
    "admin_ui",
    "tests.compat.site",
    *overlay.pop("EXTRA_APPS", []),
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

globals().update(overlay)
