"""The system checks of the channel layer: each whole message."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from pytest_django import Settings

from declbind import checks
from declbind.registry import refresh

CORE_LAYER = "channels_redis.core.RedisChannelLayer"


def of_id(messages: list[CheckMessage], *ids: str) -> list[CheckMessage]:
    return [message for message in messages if message.id in ids]


ROOMY = {"address": "redis://x", "socket_timeout": None, "max_connections": 1_000}


@pytest.mark.parametrize(
    ("hosts", "seconds"),
    [
        (None, "5"),
        (["redis://localhost"], "5"),
        ([("localhost", 6379)], "5"),
        ([{"address": "redis://localhost"}], "5"),
        ([{"address": "redis://localhost", "socket_timeout": 2}], "2"),
        (["redis://localhost?socket_timeout=1.5"], "1.5"),
    ],
)
def test_w005_idle_connections_are_dropped(settings: Settings, hosts: object, seconds: str) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE_LAYER, "CONFIG": {"hosts": hosts} if hosts else {}}}
    assert of_id(checks.check_channel_layer(), "declbind.W005") == [
        CheckWarning(
            "CHANNEL_LAYERS['default']: channels_redis.core.RedisChannelLayer waits 5 s for a message, and its "
            f"connection gives up reading after {seconds} s (socket_timeout; 5 s is the default of redis-py 8): "
            "a consumer that receives nothing is ended by a TimeoutError.",
            hint='Name the host as a dict without that limit: "hosts": [{"address": "redis://127.0.0.1:6379/0", '
            '"socket_timeout": None, "socket_keepalive": True, "health_check_interval": 30, '
            '"max_connections": 10000}]. Or use channels_redis.pubsub.RedisPubSubChannelLayer, '
            "which does not read that way.",
            id="declbind.W005",
        )
    ]


@pytest.mark.parametrize(
    "hosts", [None, ["redis://x"], [("x", 6379)], [{"address": "redis://x", "socket_timeout": None}, ROOMY]]
)
def test_w006_a_pool_is_small(settings: Settings, hosts: object) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE_LAYER, "CONFIG": {"hosts": hosts} if hosts else {}}}
    assert of_id(checks.check_channel_layer(), "declbind.W006") == [
        CheckWarning(
            "CHANNEL_LAYERS['default']: it opens at most 100 connections to Redis in each process (max_connections, by "
            "default of redis-py 8), and each consumer of the project may need one. With more clients at once, "
            "consumers fail with 'Too many connections'. declbind itself needs two.",
            hint='Name the host as a dict with a limit of your own: "hosts": [{"address": "redis://127.0.0.1:6379/0", '
            '"socket_timeout": None, "socket_keepalive": True, "health_check_interval": 30, '
            '"max_connections": 10000}].',
            id="declbind.W006",
        )
    ]


def test_a_redis_py_without_a_limit_has_no_small_pool(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 8, a pool had no limit."""
    monkeypatch.setattr("redis.asyncio.connection.ConnectionPool", lambda: SimpleNamespace(max_connections=2**31))
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE_LAYER}}
    assert of_id(checks.check_channel_layer(), "declbind.W006") == []


@pytest.mark.parametrize(
    ("layer", "declbind"),
    [
        ({"BACKEND": CORE_LAYER, "CONFIG": {"hosts": [ROOMY]}}, {}),
        ({"BACKEND": CORE_LAYER, "CONFIG": {"hosts": ["redis://x?socket_timeout=30&max_connections=500"]}}, {}),
        ({"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://x"]}}, {}),
        ({"BACKEND": "channels.layers.InMemoryChannelLayer"}, {}),
        ({"BACKEND": CORE_LAYER}, {"CHANNEL_LAYER": None}),
    ],
)
def test_a_layer_that_waits_long_enough_passes(settings: Settings, layer: Any, declbind: Any) -> None:
    """Negative control of W005 and W006. It includes the configuration that the hint recommends."""
    settings.CHANNEL_LAYERS = {"default": layer}
    settings.DECLBIND = declbind
    assert checks.check_channel_layer() == []


def test_the_hint_of_w005_works(settings: Settings) -> None:
    """The configuration in the hint passes the check."""
    host = ast.literal_eval(checks.WORKING_HOST)  # the text that people copy
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE_LAYER, "CONFIG": {"hosts": [host]}}}
    assert checks.check_channel_layer() == []


@pytest.fixture(autouse=True)
def fresh_registry(request: pytest.FixtureRequest) -> object:
    """Leave no registry of a test's settings behind."""
    yield
    if "django_db" in request.keywords:
        refresh(force=True)
