"""The settings of the measured site: a small Django project whose parts depend on the contender.

Environment, all set by `arena.py`:
- `BENCHMARK_CONTENDER`: a name of `contenders.py`;
- `BENCHMARK_DATABASE`: a `sqlite:///` or `postgres://` address;
- `BENCHMARK_REDIS`: the `redis://` address of the layer, for contenders that have one.
"""

from __future__ import annotations

import os
from pathlib import Path

import environ

from . import contenders

CONTENDER = contenders.current()
RECORDS = Path(__file__).resolve().parent / "records"

SECRET_KEY = "only-for-benchmarks"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    *(["declbind"] if CONTENDER in contenders.WITH_DECLBIND else []),
    "tests.benchmarks",
]

DATABASES: dict[str, dict[str, object]] = {"default": environ.Env.db_url_config(os.environ["BENCHMARK_DATABASE"])}
DATABASES["default"]["CONN_MAX_AGE"] = None  # a writer keeps its connection in any case
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

# redis-py 8 would disconnect a consumer that receives nothing for 5 s, and never opens more than 100 connections, so
# that hundreds of clients could not even join their group. Capacity stays at its default.
HOST = {"address": os.environ["BENCHMARK_REDIS"], "socket_timeout": None, "max_connections": 2**31}
CHANNEL_LAYERS: dict[str, dict[str, object]] = {}
if CONTENDER in contenders.ON_CORE_LAYER:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [HOST]},
    }
elif CONTENDER in contenders.ON_PUBSUB_LAYER:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [HOST]},
    }

# The echo sends as fast as it is answered, which a rate limit for people would refuse.
DECLBIND: dict[str, object] = {"MESSAGES_PER_SECOND": 100_000, "MESSAGE_BURST": 100_000}
if CONTENDER in (contenders.BY_FIELD, contenders.TRIGGERS):
    DECLBIND["RECORD_DIRS"] = [str(RECORDS / CONTENDER)]
elif CONTENDER in (contenders.DECLBIND, contenders.POLLING):
    DECLBIND["RECORD_DIRS"] = [str(RECORDS / "constant")]
