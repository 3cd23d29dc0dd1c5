"""The settings of the fault tests' site: minimal, because it is started often.

Environment: `DATABASE_URL`, `CHANNEL_LAYER_URL` for wake-ups through Redis, and `FAULTS_DECLBIND`, the setting
`DECLBIND` in JSON.
"""

from __future__ import annotations

import json
import os

from tests.settings import CHANNEL_LAYERS, database_at

__all__ = ["CHANNEL_LAYERS"]

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.faults.views"
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES: dict[str, dict[str, object]] = {"default": database_at(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: Few settings differ from the defaults; a fault names them. Processes are restarted often, and each restart waits for
#: the drain.
DECLBIND: dict[str, object] = {"DRAIN_SECONDS": 0.5, **json.loads(os.environ.get("FAULTS_DECLBIND", "{}"))}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "declbind",
    "tests.faults",
]
