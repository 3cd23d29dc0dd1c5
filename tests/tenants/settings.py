"""Settings of a site with django-tenants; ``TENANT_SITE`` chooses among its variants.

``plain`` is what its documentation builds, with users and sessions in each schema. ``shared_users`` has them in the
public schema only, ``bare`` lacks ``DECLBIND["TENANT"]``, ``limited`` sets the search path rarely, and
``inside`` has declbind among the apps of tenants.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

VARIANT = os.environ.get("TENANT_SITE", "plain")
_url = urlsplit(os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres"))
SECRET_KEY = "of-the-tests"
USE_TZ = True
ALLOWED_HOSTS = [".example.org"]
ROOT_URLCONF = "tests.tenants.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": _url.path.strip("/"),
        "USER": _url.username,
        "HOST": _url.hostname,
        "PORT": _url.port,
    }
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL, TENANT_DOMAIN_MODEL = "customers.Tenant", "customers.Domain"
_users = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.admin"]
SHARED_APPS = [
    "django_tenants", "tests.tenants.customers", "tests.tenants.common", *_users, "django.contrib.messages",
    "django.contrib.staticfiles", "channels", "declbind", "admin_ui",
]  # fmt: skip
TENANT_APPS = ["tests.tenants.shop", *([] if VARIANT == "shared_users" else _users)]
if VARIANT == "inside":
    TENANT_APPS.append("declbind")
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PUBLIC_SCHEMA_URLCONF = ROOT_URLCONF
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DECLBIND: dict[str, object] = {"VERSION_CHECK_SECONDS": 0.01}
TENANT_LIMIT_SET_CALLS = VARIANT == "limited"
if VARIANT != "bare":
    DECLBIND["TENANT"] = "declbind.contrib.tenants.DjangoTenants"
