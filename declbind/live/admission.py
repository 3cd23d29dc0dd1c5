"""Limits on the open sockets of one user, and of one address, in a process."""

from __future__ import annotations

import ipaddress
from collections import Counter

from declbind.asgi_types import Scope
from declbind.conf import settings

#: The prefix length of the IPv6 networks that providers assign to one customer, who may use any address in it.
IPV6_PREFIX = 64


class Admission:
    """The numbers of open sockets by user and by address. Belongs to an event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def enter(self, user_pk: str | None, address: str) -> bool:
        """Count a socket. Return ``False`` if its user or its address already has the maximum of open sockets."""
        keys = _keys(user_pk, address)
        limits = {"user": settings.MAX_CONNECTIONS_PER_USER, "address": settings.MAX_CONNECTIONS_PER_ADDRESS}
        if any(limits[kind] is not None and self._counts[kind, key] >= limits[kind] for kind, key in keys):
            return False
        self._counts.update(keys)
        return True

    def leave(self, user_pk: str | None, address: str) -> None:
        """Stop counting a socket that was admitted."""
        for key in _keys(user_pk, address):
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def _keys(user_pk: str | None, address: str) -> list[tuple[str, str]]:
    # Anonymous clients can only be told apart by address.
    return [(kind, key) for kind, key in (("user", user_pk or ""), ("address", address)) if key]


def client_address(scope: Scope) -> str:
    """Return the address of a connection's client, or "" if it is unknown.

    With ``TRUSTED_PROXIES``, this is the address that the outermost trusted proxy added to ``X-Forwarded-For``; the
    client may have written the entries before it. IPv6 addresses are reduced to their network.
    """
    proxies = settings.TRUSTED_PROXIES
    seen = str((scope.get("client") or ("",))[0] or "")
    if proxies:
        values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
        passed = [part.strip() for value in values for part in value.split(",")]
        if len(passed) < proxies:
            return _network(seen)
        seen = passed[-proxies]
    return _network(seen)


def _network(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
