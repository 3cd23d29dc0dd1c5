"""Checks of the session store, which determines whether sockets notice a logout (W008, W009)."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

from declbind.inbound.permissions import keeps_sessions, session_store

CACHED_ENGINES = ("django.contrib.sessions.backends.cache", "django.contrib.sessions.backends.cached_db")


def check_sessions(**kwargs: object) -> list[CheckMessage]:
    """Check that a logout reaches every process and ends one session only (W008, W009). Makes no query."""
    if not apps.is_installed("django.contrib.auth"):
        return []
    try:
        store = session_store()
    except Exception:  # Django reports a store that cannot be imported at the first request.
        return []
    if not keeps_sessions(store):
        return [
            CheckWarning(
                f"settings.SESSION_ENGINE: {settings.SESSION_ENGINE!r} keeps sessions in the cookie and not on the "
                "server, so no single session can be ended. When a user logs out in one browser, the sockets of "
                "this user are closed in all browsers. A copy of the cookie can open a new socket after the log-out, "
                "until the cookie expires.",
                hint='Use a store that keeps sessions on the server, such as "django.contrib.sessions.backends.'
                'cached_db". If you accept this, silence the check: SILENCED_SYSTEM_CHECKS = ["declbind.W008"].',
                id="declbind.W008",
            )
        ]
    if settings.SESSION_ENGINE in CACHED_ENGINES and _is_private_cache(settings.SESSION_CACHE_ALIAS):
        name = f"CACHES[{settings.SESSION_CACHE_ALIAS!r}]"
        cost = (
            "A session exists in one process only, so a socket that another process accepts is anonymous."
            if CACHED_ENGINES[0] == settings.SESSION_ENGINE
            else "Each process has its own copies of sessions, so another process may accept a new socket with the "
            "cookie of a session that has ended."
        )
        return [
            CheckWarning(
                f"settings.SESSION_ENGINE: {settings.SESSION_ENGINE!r} uses {name}, which other processes cannot read. "
                f"{cost}",
                hint=f"Give {name} a backend that all processes share, such as Redis or Memcached, or use "
                '"django.contrib.sessions.backends.db". With a single process, silence the check: '
                'SILENCED_SYSTEM_CHECKS = ["declbind.W009"].',
                id="declbind.W009",
            )
        ]
    return []


def _is_private_cache(alias: str) -> bool:
    try:
        return isinstance(caches[alias], LocMemCache | DummyCache)
    except Exception:  # Django reports a cache that cannot be created.
        return False
