"""Settings of the example site, from the environment.

==================== =====================================================================================
DEBUG                default true: this is an example. False asks for a SECRET_KEY and serves no static files
SECRET_KEY           needed when DEBUG is false
ALLOWED_HOSTS        comma separated; default localhost, 127.0.0.1
DATABASE_URL         default SQLite in example_site/var/; postgres://user:password@host/name for PostgreSQL
CHANNEL_LAYER_URL    redis://host:6379/0 (or rediss://); empty for none, when processes poll the database
CSRF_TRUSTED_ORIGINS comma separated, for a site behind a proxy
SECURE_COOKIES       default true when DEBUG is false
STATIC_ROOT          where collectstatic writes; default example_site/var/static
==================== =====================================================================================
"""

from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

SITE = Path(__file__).resolve().parent
VAR = SITE / "var"

env = environ.Env()

DEBUG = env.bool("DEBUG", default=True)
# Public, so it protects nothing: it only signs the sessions of a demo on the developer's machine.
DEMO_SECRET_KEY = "django-insecure-known-to-everybody"
SECRET_KEY = env.str("SECRET_KEY", default=DEMO_SECRET_KEY if DEBUG else "")
if not SECRET_KEY or (SECRET_KEY == DEMO_SECRET_KEY and not DEBUG):
    raise ImproperlyConfigured("SECRET_KEY: expected a secret of your own in the environment, because DEBUG is false.")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=not DEBUG)

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
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example_site.example.policy.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_site.urls"
ASGI_APPLICATION = "example_site.asgi.application"
WSGI_APPLICATION = "example_site.wsgi.application"

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


def database(url: str) -> dict[str, object]:
    """Return the settings of the database behind a URL; SQLite is set up for several threads and processes."""
    described: dict[str, Any] = env.db_url_config(url)
    if described["ENGINE"] == "django.db.backends.sqlite3":
        VAR.mkdir(exist_ok=True)
        described["OPTIONS"] = {
            **described.get("OPTIONS", {}),
            # Readers and the one writer do not block each other.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            # Take the write lock at BEGIN: a transaction that reads first and writes later would otherwise
            # fail at once with "database is locked", whatever the timeout.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        }
    return described


def channel_layers(url: str) -> dict[str, object]:
    """Return the settings of the channel layer behind a URL; an empty dict for an empty URL."""
    if not url:
        return {}
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured(f"CHANNEL_LAYER_URL: expected redis://host:port/number or nothing, got {url!r}.")
    host = {
        "address": url,
        # redis-py 8 aborts a read after 5 s by default, which ends the connection of an idle listener. The health
        # check detects a dead server instead.
        "socket_timeout": None,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # Its pools refuse the hundred and first connection by default.
        "max_connections": 10_000,
    }
    # Pub/sub, because channels_redis.core silently drops messages when a process has 100 waiting.
    return {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}}}


DATABASES = {"default": database(env.str("DATABASE_URL", default=f"sqlite:///{VAR / 'db.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CHANNEL_LAYERS = channel_layers(env.str("CHANNEL_LAYER_URL", default=""))

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(VAR / "static"))
