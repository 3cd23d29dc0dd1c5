"""The cells: every set-up that the course runs in, and how each differs from the plain one.

The plain set-up is uvicorn on PostgreSQL by psycopg 3, sessions in the database, no channel layer, and a request of
the site as the writer. A cell changes one setting, or a few that belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REDIS = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


@dataclass(frozen=True, slots=True)
class Cell:
    """One set-up.

    ``server`` is a key of ``asgi_servers.COMMANDS``, and ``servers`` is how many of it serve one database. ``database``
    is "postgres", "mariadb" or "sqlite"; ``connection`` is merged into its entry in ``DATABASES``. ``settings`` holds
    further settings. ``layer`` is "none", "memory", or the backend of a layer in ``store`` ("redis" or "valkey").
    ``writer`` performs the writes: "request", "process", "celery" or "tasks". ``packages`` are the distributions whose
    versions the table shows.
    """

    group: str
    name: str
    server: str = "uvicorn"
    servers: int = 1
    database: str = "postgres"
    connection: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    layer: str = "none"
    store: str = "redis"
    writer: str = "request"
    packages: tuple[str, ...] = ()
    front: str = ""
    pooled: bool = False
    schema: str = ""
    keeps_sessions: bool = True
    is_short: bool = False
    min_django: tuple[int, int] = (5, 2)

    @property
    def drains(self) -> bool:
        """Return whether the server lets its processes close their sockets in order on shutdown."""
        return self.server != "runserver"

    @property
    def has_triggers(self) -> bool:
        """Return whether the database has triggers that declbind can use."""
        return self.database != "mariadb"


POSTGRES, SQLITE = ("psycopg",), ()

SERVERS = [
    Cell("server", "uvicorn, asyncio", packages=("uvicorn", "websockets"), is_short=True),
    Cell("server", "uvicorn, uvloop", server="uvicorn-uvloop", packages=("uvicorn", "uvloop"), is_short=True),
    Cell("server", "uvicorn, wsproto", server="uvicorn-wsproto", packages=("uvicorn", "wsproto")),
    Cell("server", "uvicorn, two workers", server="uvicorn-workers", packages=("uvicorn",), layer=REDIS),
    Cell("server", "daphne", server="daphne", packages=("daphne", "Twisted"), is_short=True),
    Cell("server", "granian", server="granian", packages=("granian",), is_short=True),
    Cell("server", "hypercorn", server="hypercorn", packages=("Hypercorn",), is_short=True),
    Cell(
        "server", "gunicorn, uvicorn-worker", server="gunicorn", packages=("gunicorn", "uvicorn-worker"), is_short=True
    ),
    Cell("server", "gunicorn, its own worker", server="gunicorn-asgi", packages=("gunicorn",)),
    Cell(
        "server", "runserver (daphne)", server="runserver", packages=("daphne",),
        settings={"FIRST_APPS": ["daphne"]}, database="sqlite", is_short=True,
    ),
    Cell("server", "two uvicorn processes, no layer", servers=2, packages=("uvicorn",)),
]  # fmt: skip

DATABASES = [
    Cell("database", "PostgreSQL, psycopg", packages=("psycopg",), writer="process"),
    Cell(
        "database", "PostgreSQL, psycopg's pool", connection={"OPTIONS": {"pool": {"min_size": 1, "max_size": 20}}},
        packages=("psycopg", "psycopg-pool"),
    ),
    Cell("database", "PostgreSQL, psycopg2", settings={"BLOCK_MODULES": ["psycopg"]}, packages=("psycopg2-binary",)),
    Cell(
        "database", "PostgreSQL behind PgBouncer, transaction mode", pooled=True,
        connection={"DISABLE_SERVER_SIDE_CURSORS": True}, packages=("psycopg",), servers=2, is_short=True,
    ),
    Cell(
        "database", "PostgreSQL, a schema of its own", schema="tenant",
        connection={"OPTIONS": {"options": "-c search_path=tenant"}}, packages=("psycopg",),
    ),
    Cell("database", "PostgreSQL, ATOMIC_REQUESTS", connection={"ATOMIC_REQUESTS": True}, packages=("psycopg",)),
    Cell(
        "database", "PostgreSQL, REPEATABLE READ", connection={"OPTIONS": {"isolation_level": 3}}, packages=("psycopg",)
    ),
    Cell(
        "database", "PostgreSQL, SERIALIZABLE", connection={"OPTIONS": {"isolation_level": 4}}, packages=("psycopg",)
    ),
    Cell("database", "PostgreSQL, persistent connections", connection={"CONN_MAX_AGE": None}, packages=("psycopg",)),
    Cell("database", "MariaDB", database="mariadb", packages=("mysqlclient",), servers=2, is_short=True),
    Cell(
        "database", "MariaDB, REPEATABLE READ", database="mariadb",
        connection={"OPTIONS": {"charset": "utf8mb4", "isolation_level": "repeatable read"}}, packages=("mysqlclient",),
    ),
    Cell("database", "SQLite, IMMEDIATE", database="sqlite", servers=2),
    Cell("database", "SQLite, DEFERRED (Django's default)", database="sqlite", connection={"OPTIONS": {}}),
    Cell(
        "database", "SQLite, EXCLUSIVE", database="sqlite",
        connection={"OPTIONS": {"timeout": 20, "transaction_mode": "EXCLUSIVE"}},
    ),
]  # fmt: skip

MEMORY_CACHE = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
REDIS_CACHE = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "{redis}"}}
SESSIONS = "django.contrib.sessions.backends."

SESSION_STORES = [
    Cell("sessions", "db", database="sqlite", settings={"SESSION_ENGINE": f"{SESSIONS}db"}),
    Cell(
        "sessions", "cached_db, Redis", database="sqlite",
        settings={"SESSION_ENGINE": f"{SESSIONS}cached_db", "CACHES": REDIS_CACHE}, packages=("redis",),
    ),
    Cell(
        "sessions", "cache, Redis", database="sqlite",
        settings={"SESSION_ENGINE": f"{SESSIONS}cache", "CACHES": REDIS_CACHE}, packages=("redis",), servers=2,
    ),
    Cell(
        "sessions", "cache, local memory (one process)", database="sqlite", keeps_sessions=False,
        settings={"SESSION_ENGINE": f"{SESSIONS}cache", "CACHES": MEMORY_CACHE},
    ),
    Cell(
        "sessions", "file", database="sqlite",
        settings={"SESSION_ENGINE": f"{SESSIONS}file", "SESSION_FILE_PATH": "{directory}"},
    ),
    Cell("sessions", "signed_cookies", database="sqlite", settings={"SESSION_ENGINE": f"{SESSIONS}signed_cookies"}),
]  # fmt: skip

LAYERS = [
    Cell("layer", "none", servers=2),
    Cell("layer", "in memory", layer="memory", packages=("channels",)),
    Cell("layer", "Redis, channels_redis.core", layer=REDIS, servers=2, packages=("channels_redis", "redis")),
    Cell("layer", "Redis, channels_redis.pubsub", layer=PUBSUB, servers=2, packages=("channels_redis", "redis")),
    Cell("layer", "Valkey, channels_redis.core", layer=REDIS, store="valkey", servers=2, packages=("channels_redis",)),
    Cell(
        "layer", "Valkey, channels_redis.pubsub", layer=PUBSUB, store="valkey", servers=2, packages=("channels_redis",)
    ),
]

PROJECTS = [
    Cell(
        "project", "custom user model, UUID keys", database="sqlite",
        settings={"AUTH_USER_MODEL": "people.Person", "EXTRA_APPS": ["tests.compat.people"]},
    ),
    Cell(
        "project", "behind nginx, TLS, on a sub-path", front="nginx",
        settings={
            "FORCE_SCRIPT_NAME": "/app", "CSRF_TRUSTED_ORIGINS": ["https://127.0.0.1"],
            "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
        },
    ),
    Cell("project", "Celery, prefork", writer="celery", packages=("celery",)),
    Cell(
        "project", "django.tasks, database worker", writer="tasks", packages=("django-tasks-db",), min_django=(6, 0),
        settings={
            "EXTRA_APPS": ["django_tasks_db"],
            "TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        },
    ),
    Cell("project", "a process of the project's own", writer="process", database="sqlite"),
]  # fmt: skip

#: One course for each Python and Django in the metadata, apart from the versions that all other cells run on.
VERSIONS = [Cell("versions", "SQLite", database="sqlite"), Cell("versions", "PostgreSQL", packages=("psycopg",))]

CELLS = [*SERVERS, *DATABASES, *SESSION_STORES, *LAYERS, *PROJECTS, *VERSIONS]

#: The Python and Django versions of a run, as "3.13/6.1".
ENDS = ("3.11/5.2", "3.12/5.2", "3.12/6.0", "3.13/5.2", "3.13/6.0", "3.13/6.1")
OLDEST, NEWEST = ENDS[0], ENDS[-1]


def is_run_at(cell: Cell, end: str) -> bool:
    """Return whether a cell is run with a Python and Django.

    Only servers are run on the oldest and the newest, and only versions in between.
    """
    ends = {"versions": ENDS, "server": (OLDEST, NEWEST)}.get(cell.group, (NEWEST,))
    return end in ends
