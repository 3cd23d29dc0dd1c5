"""Settings of the Django site under test: SQLite in a temporary file, or a database server of its own.

Environment:
- `TEST_DATABASE`: `sqlite` (default), `postgres` or `mariadb`; the last two start a server and stop it at exit;
- `DATABASE_URL`: use exactly this database; a server process in a test gets the test's own database this way;
- `CHANNEL_LAYER_URL`: a `redis://` address; none by default, because no channel layer is a supported set-up;
- `DECLBIND_POLL_SECONDS`: how often a server process reads the log without a wake-up;
- `DECLBIND_DRAIN_SECONDS`: over how long a server process closes its sockets when it is stopped;
- `USE_THOUSAND_SEPARATOR`: `1` groups the digits of numbers on pages, as the visitor's language does;
- `DEBUG`: `1` turns it on, for a server process that should serve static files.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import environ

from tests.servers import MariaDBServer, PostgresServer

SERVERS = {"postgres": PostgresServer, "mariadb": MariaDBServer}


def sqlite_database(path: str) -> dict[str, object]:
    """Return the settings of a SQLite database that several threads and processes may write to.

    IMMEDIATE takes the write lock at BEGIN: a transaction that reads first and writes later would otherwise fail at
    once with "database is locked", whatever the timeout. The test database is a file, because a database in memory
    is private to its process, and has no lock timeout between threads.
    """
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "TEST": {"NAME": path},
    }


def database_at(url: str) -> dict[str, object]:
    described: dict[str, Any] = environ.Env.db_url_config(url)
    if described["ENGINE"] == "django.db.backends.sqlite3":
        return sqlite_database(described["NAME"])
    return described


def remove_sqlite_files(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def database_for_this_run() -> dict[str, object]:
    if url := os.environ.get("DATABASE_URL"):
        return database_at(url)
    choice = os.environ.get("TEST_DATABASE", "sqlite")
    if choice in SERVERS:
        server = SERVERS[choice]()
        atexit.register(server.close)
        server.start()
        return database_at(server.url)
    if choice == "sqlite":
        # Nothing is created before the first connection: mypy reads these settings too, and runs no exit hooks.
        path = Path(tempfile.gettempdir(), f"declbind-{uuid.uuid4().hex}.sqlite3")
        atexit.register(remove_sqlite_files, path)
        return sqlite_database(str(path))
    raise ValueError(f"TEST_DATABASE: expected 'sqlite', 'postgres' or 'mariadb', got {choice!r}")


SECRET_KEY = "only-for-tests"
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
TIME_ZONE = "UTC"
USE_THOUSAND_SEPARATOR = os.environ.get("USE_THOUSAND_SEPARATOR") == "1"

DATABASES = {"default": database_for_this_run()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, dict[str, object]] = {}
if channel_layer_url := os.environ.get("CHANNEL_LAYER_URL"):
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [channel_layer_url]},
    }

# Tests that stop a server wait for it. Those about the end of a process enable draining.
DECLBIND: dict[str, object] = {"DRAIN_SECONDS": float(os.environ.get("DECLBIND_DRAIN_SECONDS", "0"))}
if poll_seconds := os.environ.get("DECLBIND_POLL_SECONDS"):
    DECLBIND["POLL_SECONDS"] = float(poll_seconds)

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
    "example_site.example",
    "example_site.blog",
    "example_site.ticker",
    "tests.zoo",
    "tests.matrix",
]
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    INSTALLED_APPS += ["django.contrib.postgres", "tests.postgres_zoo"]

MIDDLEWARE = [
    "tests.csp.StrictPolicy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
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

ROOT_URLCONF = "example_site.urls"
ASGI_APPLICATION = "example_site.asgi:application"
STATIC_URL = "static/"

# Django 6.1 and newer warn about a project that sends mail without it; older versions ignore it.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}

# The default hasher takes about 100 ms a password, on purpose; tests make many users.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
