"""Judge the Origin header of a WebSocket handshake: scheme, host and port must be the site's own or be listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from declbind.conf import settings

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_origin_allowed(scope: Mapping[str, Any]) -> bool:
    """Tell whether a handshake may go on. Without the header it may: only browsers send it, and they always do.

    ``null`` (a sandboxed page, a file) is refused. Behind a proxy that ends TLS the scheme is the one that
    ``SECURE_PROXY_SSL_HEADER`` tells, as for Django's own requests.
    """
    headers = dict(scope.get("headers", ()))
    origins = [value for name, value in scope.get("headers", ()) if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = _parsed(origins[0].decode("latin-1"))
    if origin is None:
        return False
    allowed: Iterable[str] | None = settings.ALLOWED_ORIGINS
    if allowed is not None:
        return any(origin == _parsed(item) for item in allowed)
    host = headers.get(b"host", b"").decode("latin-1")
    return origin == _parsed(f"{_scheme(scope, headers)}://{host}")


def _scheme(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str:
    proxy: tuple[str, str] | None = getattr(django_settings, "SECURE_PROXY_SSL_HEADER", None)
    if proxy is not None:
        name, secure = proxy
        header = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
        if header in headers:
            sent = headers[header].decode("latin-1").split(",")[0].strip()
            return "https" if sent == secure else "http"
    return "https" if scope.get("scheme") in ("wss", "https") else "http"


def _parsed(origin: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/"):
        return None
    return parts.scheme, parts.hostname.lower(), port or DEFAULT_PORTS[parts.scheme]
