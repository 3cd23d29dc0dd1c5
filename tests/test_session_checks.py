"""The system checks of session stores."""

from __future__ import annotations

import pytest
from django.core import checks as django_checks
from django.core.checks import Warning as CheckWarning

from declbind.checks import check_sessions
from tests.session_stores import BACKENDS, engine

__all__ = ["engine"]


def test_w008_reports_the_limits_of_sessions_in_cookies(engine):
    """The check runs with all others, under the tag of the package."""
    engine("signed_cookies")
    expected = CheckWarning(
        "settings.SESSION_ENGINE: 'django.contrib.sessions.backends.signed_cookies' keeps sessions in the cookie and "
        "not on the server, so no single session can be ended. When a user logs out in one browser, the sockets "
        "of this user are closed in all browsers. A copy of the cookie can open a new socket after the log-out, until "
        "the cookie expires.",
        hint='Use a store that keeps sessions on the server, such as "django.contrib.sessions.backends.cached_db". If '
        'you accept this, silence the check: SILENCED_SYSTEM_CHECKS = ["declbind.W008"].',
        id="declbind.W008",
    )
    assert check_sessions() == [expected]
    assert expected in django_checks.run_checks(tags=["declbind"], databases=[])


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("cache", "A session exists in one process only, so a socket that another process accepts is anonymous."),
        (
            "cached_db",
            (
                "Each process has its own copies of sessions, so another process may accept a new socket with the "
                "cookie of a session that has ended."
            ),
        ),
    ],
)
def test_w009_names_a_cache_of_one_process(engine, name, cost):
    """Other processes cannot read sessions in such a cache."""
    engine(name)
    assert check_sessions() == [
        CheckWarning(
            f"settings.SESSION_ENGINE: '{BACKENDS}.{name}' uses CACHES['default'], which other processes cannot read. "
            f"{cost}",
            hint="Give CACHES['default'] a backend that all processes share, such as Redis or Memcached, or use "
            '"django.contrib.sessions.backends.db". With a single process, silence the check: '
            'SILENCED_SYSTEM_CHECKS = ["declbind.W009"].',
            id="declbind.W009",
        )
    ]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("db", "locmem.LocMemCache"),
        ("file", "locmem.LocMemCache"),
        ("cache", "db.DatabaseCache"),
        ("cached_db", "redis.RedisCache"),
        ("no_such_store", "locmem.LocMemCache"),
    ],
)
def test_stores_that_all_processes_share_pass(engine, settings, name, backend):
    """Negative control. Django itself reports a store that cannot be imported, at the first request."""
    engine(name)
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "redis://x"}}
    assert check_sessions() == []
