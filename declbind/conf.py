"""The setting ``DECLBIND``, with a documented default for every key.

``from declbind.conf import settings`` gives an object whose attributes are the keys below. Values are read from
Django's settings at first use and again after ``setting_changed``, so ``override_settings(DECLBIND={...})`` works.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

#: Every key with its default. The unit is in the name of the key or in the comment.
DEFAULTS: dict[str, Any] = {
    "RECORD_DIRS": [],  # folders with binding records as *.json
    "SERIALIZERS": {},  # name -> dotted path of a callable (instance, binding) -> dict
    "CHANNEL_LAYER": "default",  # alias in CHANNEL_LAYERS that carries the doorbell; None for no doorbell
    "ALLOWED_ORIGINS": None,  # list of "https://host:port"; None = the site's own origin
    "CAPTURE_RAW": True,  # capture what loaddata writes
    "BULK_LIMIT": 1000,  # rows of one call that are sent one by one
    "DETECT_UNSEEN": False,  # check every statement for writes to bound tables that leave no event
    "TENANT": None,  # dotted path of a class that determines tenants; see declbind.tenancy
    "POLL_SECONDS": 0.25,  # how often a process reads the log without a doorbell
    "VERSION_CHECK_SECONDS": 1.0,  # how often a writer compares the configuration version
    "REVALIDATE_SECONDS": 60.0,  # how often all permissions of open sockets are checked again
    "HEARTBEAT_SECONDS": 5.0,  # how often an ASGI process renews its row
    "RIGHTS_MODELS": [],  # labels of more models that give rights; see declbind.rights_models
    "RETENTION_SECONDS": 3600,
    "RETENTION_EVENTS": 100_000,
    "JWT": None,  # dict that describes the JSON Web Tokens of another issuer; None = accept none
    "AUTHENTICATE": None,  # dotted path of a callable (token, scope) -> (user, expires_at) or None, for all tokens
    "MAX_CONNECTIONS_PER_USER": 200,  # open sockets of one user in one process; None = any number
    "MAX_CONNECTIONS_PER_ADDRESS": None,  # open sockets of one address in one process; None = any number
    "TRUSTED_PROXIES": 0,  # proxies in front of the server that add to X-Forwarded-For; 0 = none
    "MAX_FRAME_BYTES": 65_536,
    "MAX_JSON_DEPTH": 16,
    "MAX_NUMBER_DIGITS": 1000,  # digits of one JSON number; the maximum of a numeric column in PostgreSQL
    "MAX_SUBSCRIPTIONS": 100,  # per connection
    "MAX_SNAPSHOT_ROWS": 10_000,
    "SNAPSHOT_PAGE_ROWS": 200,
    "MAX_IN_FLIGHT": 8,  # mutations of one connection in progress at once
    "MESSAGES_PER_SECOND": 20,
    "MESSAGE_BURST": 40,
    "QUEUE_BYTES": 1_048_576,  # per connection, waiting to be sent
    "QUEUE_FRAMES": 1_000,
    "QUEUE_SECONDS": 10.0,
    "HANDSHAKE_SECONDS": 10.0,  # how long a client waits for its connection to be accepted
    "IDLE_SECONDS": None,  # seconds after which an idle socket is closed; None = never
    "DRAIN_SECONDS": 5.0,  # the time over which an ending process closes its sockets; 0 = as the server does
    "HEALTH_TOKEN": "",  # bearer token with which declbind/health/ shows numbers; "" = only with the permission
    "DATABASE_THREADS": 8,  # threads of an ASGI process that serve requests
    "THREADS_PER_CLIENT": 4,  # how many of these threads may work for one user or address at once
    "SNAPSHOTS_AT_ONCE": 2,  # snapshots read at once in one process, one for each user or address
    "REPLAYS_AT_ONCE": 2,  # the same for replays (`since`): read and made into frames, a portion at a time
    "IDEMPOTENCY_SECONDS": 600,
    "TRAFFIC_PER_SECOND": 50,  # refusals and errors recorded per process and second
    "TRAFFIC_ROWS": 10_000,  # traffic rows kept
}


#: Serializers that were registered in code, by name; see ``declbind.serializers.register_serializer``.
registered_serializers: dict[str, Callable[..., Mapping[str, object]]] = {}


def serializer_names() -> list[str]:
    """Return the names that a record's ``serializer`` may have, sorted."""
    return sorted({"default", *settings.SERIALIZERS, *registered_serializers})


class Settings:
    """The keys of ``DECLBIND`` as attributes. An unknown key is an ``AttributeError``."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"DECLBIND has no key {name!r}{_suggest(name)}")
        # Stored as attributes, so that __getattr__ is not called again. Each write of any model reads a setting.
        values = {**DEFAULTS, **self._usable()}
        vars(self).update((key, values[key]) for key in DEFAULTS)
        return values[name]

    def unknown_keys(self) -> list[str]:
        """Return the unknown keys of ``settings.DECLBIND``, each with a suggestion."""
        return [f"{key!r}{_suggest(key)}" for key in sorted(self._given()) if key not in DEFAULTS]

    def reload(self) -> None:
        """Forget the values read so far."""
        vars(self).clear()

    def _usable(self) -> dict[str, object]:
        # A system check reports a value of the wrong type. It must not stop Django before the check runs.
        return {
            key: value
            for key, value in self._given().items()
            if not isinstance(DEFAULTS.get(key), list | dict) or isinstance(value, type(DEFAULTS[key]) | tuple)
        }

    @staticmethod
    def _given() -> dict[str, object]:
        given = getattr(django_settings, "DECLBIND", {})
        return given if isinstance(given, dict) else {}


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name.upper(), DEFAULTS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


settings = Settings()


def _reload_on_change(*, setting: str, **kwargs: object) -> None:
    if setting == "DECLBIND":
        settings.reload()


setting_changed.connect(_reload_on_change, dispatch_uid="declbind.conf")
