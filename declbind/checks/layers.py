"""Checks of the channel layer that wakes other processes up (W005, W006)."""

from __future__ import annotations

import inspect
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from declbind.conf import settings

from .settings import is_readable

CORE_LAYER = "channels_redis.core.RedisChannelLayer"
WORKING_HOST = (
    '{"address": "redis://127.0.0.1:6379/0", "socket_timeout": None, "socket_keepalive": True, '
    '"health_check_interval": 30, "max_connections": 10000}'
)


def check_channel_layer(**kwargs: object) -> list[CheckMessage]:
    """Check that the channel layer keeps idle connections and may open enough of them (W005, W006).

    No connection is opened.
    """
    config = _doorbell_config()
    if config is None or config.get("BACKEND") != CORE_LAYER:
        return []
    hosts = (config.get("CONFIG") or {}).get("hosts") or [{}]
    name = f"CHANNEL_LAYERS[{settings.CHANNEL_LAYER!r}]"
    found: list[CheckMessage] = []
    wait = _core_layer_wait()
    timeouts = [_socket_timeout(host) for host in hosts]
    short = [timeout for timeout in timeouts if timeout is not None and wait is not None and timeout <= wait]
    if short:
        found.append(
            CheckWarning(
                f"{name}: {CORE_LAYER} waits {wait:g} s for a message, and its "
                f"connection gives up reading after {min(short):g} s (socket_timeout; 5 s is the default of "
                "redis-py 8): a consumer that receives nothing is ended by a TimeoutError.",
                hint=f'Name the host as a dict without that limit: "hosts": [{WORKING_HOST}]. '
                "Or use channels_redis.pubsub.RedisPubSubChannelLayer, which does not read that way.",
                id="declbind.W005",
            )
        )
    limit = _default_pool_size()
    if limit is not None and not all(map(_names_pool_size, hosts)):
        found.append(
            CheckWarning(
                f"{name}: it opens at most {limit} connections to Redis in each process (max_connections, by default "
                "of redis-py 8), and each consumer of the project may need one. With more clients at once, consumers "
                "fail with 'Too many connections'. declbind itself needs two.",
                hint=f'Name the host as a dict with a limit of your own: "hosts": [{WORKING_HOST}].',
                id="declbind.W006",
            )
        )
    return found


def _doorbell_config() -> dict[str, Any] | None:
    if not is_readable() or settings.CHANNEL_LAYER is None:
        return None
    layers: dict[str, dict[str, Any]] = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    return layers.get(settings.CHANNEL_LAYER)


def _core_layer_wait() -> float | None:
    try:
        layer = import_string(CORE_LAYER)
    except ImportError:
        return None
    return float(layer.brpop_timeout)


def _default_pool_size() -> int | None:
    """Return the default limit of connections in a redis-py pool, or ``None`` if there is no limit."""
    try:
        from redis.asyncio.connection import ConnectionPool
    except ImportError:
        return None
    size = ConnectionPool().max_connections
    return size if size < 2**31 else None


def _names_pool_size(host: object) -> bool:
    options = host if isinstance(host, dict) else {}
    address = options.get("address", host)
    return "max_connections" in options or (
        isinstance(address, str) and "max_connections" in parse_qs(urlsplit(address).query)
    )


def _socket_timeout(host: object) -> float | None:
    """Return the read timeout of a connection to ``host`` in seconds, or ``None`` if there is none."""
    options = host if isinstance(host, dict) else {}
    if "socket_timeout" in options:
        return None if options["socket_timeout"] is None else float(options["socket_timeout"])
    address = options.get("address", host)
    if isinstance(address, str) and (asked := parse_qs(urlsplit(address).query).get("socket_timeout")):
        return float(asked[-1])
    try:
        from redis.asyncio.connection import AbstractConnection
    except ImportError:
        return None
    default = inspect.signature(AbstractConnection.__init__).parameters["socket_timeout"].default
    return None if default is None else float(default)
