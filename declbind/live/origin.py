"""The check of a WebSocket handshake's Origin header, which must match the site or ``ALLOWED_ORIGINS``.

Scheme, host and port are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from urllib.parse import urlsplit

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from declbind.asgi_types import Scope
from declbind.conf import settings

DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def is_origin_allowed(scope: Scope) -> bool:
    """Return whether a handshake may continue. It may if there is no such header, because all browsers send one.

    ``null`` (a sandboxed page, a file) is refused. Django computes the site's own origin from the same request headers,
    with ``ALLOWED_HOSTS``, ``SECURE_PROXY_SSL_HEADER`` and ``USE_X_FORWARDED_HOST``. A foreign name that resolves to
    this server (DNS rebinding) is therefore refused.
    """
    origins = [value for name, value in scope.get("headers", ()) if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = _parse_origin(origins[0].decode("latin-1"))
    if origin is None:
        return False
    allowed: Iterable[str] | None = settings.ALLOWED_ORIGINS
    if allowed is not None:
        return origin in map(_parse_origin, allowed)
    return origin == _own_origin(scope)


def _own_origin(scope: Scope) -> Origin | None:
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), scope.get("scheme"))
    http = {**scope, "type": "http", "method": "GET", "scheme": scheme, "query_string": b""}
    request = ASGIRequest(http, BytesIO())
    try:
        return _parse_origin(f"{request.scheme}://{request.get_host()}")
    except DisallowedHost:
        return None


def _parse_origin(text: str) -> Origin | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    # RFC 6454, section 6.2: an origin is a scheme, a host and a port. Browsers send exactly these.
    rest = text.partition("://")[2]
    if any(character in rest.removesuffix("/") for character in "/?#@\\") or any(map(str.isspace, text)):
        return None
    return parts.scheme, parts.hostname.lower(), port or DEFAULT_PORTS[parts.scheme]
