"""The origin of a handshake: scheme, host and port of the site itself, or an origin in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from declbind import WebsocketDemultiplexer
from declbind.live.origin import is_origin_allowed
from declbind.testing import Client, override_bindings
from tests.live import BOARD


def scope(origin: str | None, *, host: str = "testserver", scheme: str = "ws", **headers: str) -> dict[str, Any]:
    named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if origin is not None:
        named["origin"] = origin
    return {
        "type": "websocket",
        "path": "/ws/bindings/",
        "scheme": scheme,
        "query_string": b"\xff",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://testserver", "testserver", "ws"),
        ("http://testserver", "testserver:80", "ws"),
        ("http://testserver:80", "testserver", "ws"),
        ("https://testserver", "testserver", "wss"),
        ("https://testserver:443", "testserver", "wss"),
        ("http://localhost:8000", "localhost:8000", "ws"),
        ("http://TestServer", "testserver", "ws"),
        (None, "testserver", "ws"),
        (None, "anything.example", "ws"),
    ],
)
def test_the_sites_own_pages_may_connect(origin, host, scheme):
    """Default ports may be given or left out. A client without the header is not a browser."""
    assert is_origin_allowed(scope(origin, host=host, scheme=scheme))


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://testserver", "testserver", "ws"),
        ("http://testserver", "testserver", "wss"),
        ("http://testserver:8000", "testserver", "ws"),
        ("http://testserver", "testserver:8000", "ws"),
        ("http://other", "testserver", "ws"),
        ("http://testserver.evil.example", "testserver", "ws"),
        ("http://sub.testserver", "testserver", "ws"),
        ("http://testserver@evil.example", "testserver", "ws"),
        ("http://testserver/page", "testserver", "ws"),
        ("ws://testserver", "testserver", "ws"),
        ("file://", "testserver", "ws"),
        ("chrome-extension://testserver", "testserver", "ws"),
        ("null", "testserver", "ws"),
        ("", "testserver", "ws"),
        ("testserver", "testserver", "ws"),
        ("http://testserver:99999999", "testserver", "ws"),
        ("http://[", "testserver", "ws"),
    ],
)
def test_other_origins_are_refused(origin, host, scheme):
    """Another scheme, host or port is another site. An unreadable origin is refused too."""
    assert not is_origin_allowed(scope(origin, host=host, scheme=scheme))


def test_a_host_outside_allowed_hosts_is_refused():
    """This stops DNS rebinding, where origin and host agree on a name that is not in ALLOWED_HOSTS."""
    assert not is_origin_allowed(scope("http://evil.example", host="evil.example"))


def test_two_origins_are_refused():
    """A handshake with two origins is refused."""
    twice = scope("http://testserver")
    twice["headers"].append((b"origin", b"http://testserver"))
    assert not is_origin_allowed(twice)


def test_the_setting_replaces_the_origin_of_the_site(settings):
    """An empty ALLOWED_ORIGINS admits no browser, and `null` cannot be listed."""
    settings.DECLBIND = {"ALLOWED_ORIGINS": ["https://shop.example", "http://localhost:3000", "null", "*"]}
    assert is_origin_allowed(scope("https://shop.example"))
    assert is_origin_allowed(scope("https://shop.example:443"))
    assert is_origin_allowed(scope("http://localhost:3000"))
    for origin in ("http://testserver", "http://shop.example", "http://localhost", "https://x.shop.example", "null"):
        assert not is_origin_allowed(scope(origin))
    settings.DECLBIND = {"ALLOWED_ORIGINS": []}
    assert not is_origin_allowed(scope("http://testserver"))
    assert is_origin_allowed(scope(None))


def test_a_tls_proxy_passes_the_scheme(settings):
    """The header is used only if Django trusts it."""
    behind_proxy = scope("https://testserver", x_forwarded_proto="https")
    assert not is_origin_allowed(behind_proxy)
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert is_origin_allowed(behind_proxy)
    assert not is_origin_allowed(scope("https://testserver", x_forwarded_proto="http"))
    assert not is_origin_allowed(scope("http://testserver", x_forwarded_proto="https"))


def test_a_proxy_passes_the_original_host(settings):
    """The rules are those of Django's requests: USE_X_FORWARDED_HOST, and a name in ALLOWED_HOSTS."""
    behind_proxy = scope("http://testserver", host="10.0.0.1:8001", x_forwarded_host="testserver")
    assert not is_origin_allowed(behind_proxy)
    settings.USE_X_FORWARDED_HOST = True
    assert is_origin_allowed(behind_proxy)
    assert not is_origin_allowed(scope("http://evil.example", host="testserver", x_forwarded_host="evil.example"))


class Empty(WebsocketDemultiplexer):
    """A hand-written demultiplexer without streams."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("application", [None, Empty.as_asgi()])
async def test_consumers_check_the_origin_themselves(application):
    """No middleware is needed, and the refusal comes before the handshake is complete."""
    with override_bindings(BOARD):
        foreign = Client(application, headers=[(b"host", b"testserver"), (b"origin", b"http://evil.example")])
        assert not await foreign.connect()
        assert foreign.close_code == 4403
        await foreign.disconnect()
        own = [(b"host", b"testserver"), (b"origin", b"http://testserver")]
        async with Client(application, headers=own):
            pass
