"""The settings of the site. Environment: `DATABASE_URL` and `FUZZING_DECLBIND`, further settings in JSON."""

from __future__ import annotations

import json
import os

from tests.settings import database_at

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES: dict[str, dict[str, object]] = {"default": database_at(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: As many frames as the machine can process: limits are not tested here. Little of them is kept, so that growth would
#: be detected.
DECLBIND: dict[str, object] = {
    "MESSAGES_PER_SECOND": 1_000_000,
    "MESSAGE_BURST": 1_000_000,
    "MAX_SNAPSHOT_ROWS": 100,
    "RETENTION_EVENTS": 1_000,
    "TRAFFIC_ROWS": 1_000,
    "IDEMPOTENCY_SECONDS": 5,
    "DRAIN_SECONDS": 0,
    **json.loads(os.environ.get("FUZZING_DECLBIND", "{}")),
}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "declbind",
    "tests.attack.fuzzing",
]
