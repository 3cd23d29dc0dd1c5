"""The keys of the setting ``DECLBIND``: default, expected values, unit and description of each.

This table is the only source. ``declbind.conf`` takes the defaults from it, the system checks the expected values, and
the page on settings is made from all of it. To add a setting, add an entry; CONTRIBUTING.md has the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import kinds


@dataclass(frozen=True)
class Setting:
    """One key of ``DECLBIND``.

    Args:
        default: The value that is used if the key is left out.
        kind: The values that the key takes.
        description: What the key is for, in Markdown. Links are relative to the folder ``docs``.
        unit: What a number counts, in the plural.
        is_secret: Whether messages must not show the value.
    """

    default: object
    kind: kinds.Kind
    description: str
    unit: str = ""
    is_secret: bool = False


SETTINGS = {
    "RECORD_DIRS": Setting(
        [],
        kinds.FOLDERS,
        "Folders with binding records as `*.json`, in addition to `bindings/*.json` of each app.",
    ),
    "SERIALIZERS": Setting(
        {},
        kinds.PATHS_BY_NAME,
        "Serializers by name. Each is the dotted path of a callable `(instance, binding) -> dict`.",
    ),
    "CHANNEL_LAYER": Setting(
        "default",
        kinds.LAYER_ALIAS,
        "Alias in `CHANNEL_LAYERS` of the channel layer that carries the doorbell. `None`: no doorbell.",
    ),
    "ALLOWED_ORIGINS": Setting(
        None,
        kinds.ORIGINS,
        "Origins whose pages may connect. `None`: the site's own origin.",
    ),
    "CAPTURE_RAW": Setting(
        True,
        kinds.SWITCH,
        "Whether to capture what fixtures write.",
    ),
    "BULK_LIMIT": Setting(
        1000,
        kinds.WHOLE,
        "The number of rows of one model for which one call sends single changes. Above it, their groups are sent "
        "a `resync`. On PostgreSQL the number is part of the [triggers](capture.md#triggers): install them again "
        "after a change.",
        unit="rows",
    ),
    "DETECT_UNSEEN": Setting(
        False,
        kinds.SWITCH,
        "Whether to check every statement for writes to bound tables that leave no event, and count them by their "
        "place in the code. `declbind doctor` and the admin show them.",
    ),
    "TENANT": Setting(
        None,
        kinds.CLASS_PATH,
        'Class that determines [tenants](tenants.md); for django-tenants `"declbind.contrib.tenants.DjangoTenants"`.',
    ),
    "POLL_SECONDS": Setting(
        0.25,
        kinds.POSITIVE,
        "How often a process reads the log without a doorbell.",
        unit="seconds",
    ),
    "VERSION_CHECK_SECONDS": Setting(
        1.0,
        kinds.DURATION,
        "How often a process compares the version of the configuration.",
        unit="seconds",
    ),
    "REVALIDATE_SECONDS": Setting(
        60.0,
        kinds.POSITIVE,
        "How often all permissions of open sockets are checked again.",
        unit="seconds",
    ),
    "HEARTBEAT_SECONDS": Setting(
        5.0,
        kinds.POSITIVE,
        "How often a process renews its row.",
        unit="seconds",
    ),
    "RIGHTS_MODELS": Setting(
        [],
        kinds.MODEL_LABELS,
        'Labels (`"app.Model"`) of more models that decide what users may do. Binding them in the admin requires '
        "`declbind.bind_rights_models`, as it does for users, groups and tokens. See "
        "[Security](security.md#rights-models).",
    ),
    "RETENTION_SECONDS": Setting(
        3600,
        kinds.WHOLE,
        "How long events are kept for clients that reconnect.",
        unit="seconds",
    ),
    "RETENTION_EVENTS": Setting(
        100_000,
        kinds.WHOLE,
        "The maximum number of events that are kept.",
        unit="events",
    ),
    "JWT": Setting(
        None,
        kinds.MAPPING,
        "Description of the JSON Web Tokens of another issuer: `key`, `algorithms`, `user_claim`, `user_field`, "
        "`audience`, `issuer`. Requires the extra `jwt`. See [Tokens](tokens.md#json-web-tokens).",
        is_secret=True,
    ),
    "AUTHENTICATE": Setting(
        None,
        kinds.CALLABLE_PATH,
        "Callable `(token, scope) -> (user, expires_at)` or `None` that handles all tokens. See "
        "[Tokens](tokens.md#a-callable-of-your-own).",
    ),
    "MAX_CONNECTIONS_PER_USER": Setting(
        200,
        kinds.LIMIT,
        "Open sockets of one user in one process. Above it a new socket is closed with 4429. `None`: any number.",
        unit="sockets",
    ),
    "MAX_CONNECTIONS_PER_ADDRESS": Setting(
        None,
        kinds.LIMIT,
        "Open sockets of one address in one process (of IPv6, one /64 network). Above it a new socket is closed "
        "with 4429. Many users may share an address. Behind a proxy all clients do, unless `TRUSTED_PROXIES` is "
        "set. `None`: any number.",
        unit="sockets",
    ),
    "TRUSTED_PROXIES": Setting(
        0,
        kinds.COUNT,
        "How many proxies stand in front of the server, each of which adds the address of its client to "
        "`X-Forwarded-For`. If the number is too high, clients can choose their address.",
        unit="proxies",
    ),
    "MAX_FRAME_BYTES": Setting(
        65_536,
        kinds.WHOLE,
        "Size of a frame from a client.",
        unit="bytes",
    ),
    "MAX_JSON_DEPTH": Setting(
        16,
        kinds.WHOLE,
        "Nesting of a frame from a client.",
        unit="levels",
    ),
    "MAX_NUMBER_DIGITS": Setting(
        1000,
        kinds.WHOLE,
        "Digits of one number in a frame. A longer one is `malformed`. The default is the maximum of a numeric "
        "column in PostgreSQL.",
        unit="digits",
    ),
    "MAX_SUBSCRIPTIONS": Setting(
        100,
        kinds.WHOLE,
        "Subscriptions of one connection.",
        unit="subscriptions",
    ),
    "MAX_SNAPSHOT_ROWS": Setting(
        10_000,
        kinds.WHOLE,
        "Rows of a group in one snapshot. More is `too_large`.",
        unit="rows",
    ),
    "SNAPSHOT_PAGE_ROWS": Setting(
        200,
        kinds.WHOLE,
        "Rows in one snapshot frame.",
        unit="rows",
    ),
    "MAX_IN_FLIGHT": Setting(
        8,
        kinds.WHOLE,
        "Requests of one connection in progress at once. Others wait.",
        unit="requests",
    ),
    "MESSAGES_PER_SECOND": Setting(
        20,
        kinds.WHOLE,
        "Messages of one connection. Above it the answer is `rate_limited`, and after 10 s, or 1000 refused "
        "messages, the socket is closed (4429).",
        unit="messages per second",
    ),
    "MESSAGE_BURST": Setting(
        40,
        kinds.WHOLE,
        "Messages of one connection that may arrive at once.",
        unit="messages",
    ),
    "QUEUE_BYTES": Setting(
        1_048_576,
        kinds.WHOLE,
        "Characters that may wait for one connection. Above it the connection is closed (4408).",
        unit="characters",
    ),
    "QUEUE_FRAMES": Setting(
        1000,
        kinds.WHOLE,
        "Frames that may wait for one connection. Above it the connection is closed (4408).",
        unit="frames",
    ),
    "QUEUE_SECONDS": Setting(
        10.0,
        kinds.POSITIVE,
        "Age of the oldest frame that waits for one connection. Above it the connection is closed (4408).",
        unit="seconds",
    ),
    "HANDSHAKE_SECONDS": Setting(
        10.0,
        kinds.POSITIVE,
        "How long the process may take to accept a connection. If the database does not answer in this time, the "
        "connection is closed with 1013 (try again later).",
        unit="seconds",
    ),
    "IDLE_SECONDS": Setting(
        None,
        kinds.OPTIONAL_SECONDS,
        "The time after which a socket without subscriptions and requests is closed (4408). `None`: never, "
        "because a page may connect long before its first request.",
    ),
    "DRAIN_SECONDS": Setting(
        5.0,
        kinds.DURATION,
        "The time over which a process closes its sockets after SIGTERM. This spreads the reconnects of its clients. "
        "`0`: the server closes them all at once. See [Shutting down](deployment.md#shutting-down).",
        unit="seconds",
    ),
    "HEALTH_TOKEN": Setting(
        "",
        kinds.TEXT,
        "A secret. Requests to `declbind/health/` with the header `Authorization: Bearer HEALTH_TOKEN` get the "
        "state in numbers, like users with the permission `declbind.view_node`. Others learn only whether the "
        "process is healthy. Empty: only users with the permission.",
        is_secret=True,
    ),
    "DATABASE_THREADS": Setting(
        8,
        kinds.WHOLE,
        "Threads of a process that serve requests of sockets; also the maximum number of their database connections.",
        unit="threads",
    ),
    "THREADS_PER_CLIENT": Setting(
        4,
        kinds.WHOLE,
        "How many of the `DATABASE_THREADS` serve one [client](security.md#many-requests-of-one-client) at once.",
        unit="threads",
    ),
    "SNAPSHOTS_AT_ONCE": Setting(
        2,
        kinds.WHOLE,
        "Snapshots that a process reads at once. It reads one at once for each client.",
        unit="snapshots",
    ),
    "REPLAYS_AT_ONCE": Setting(
        2,
        kinds.WHOLE,
        "Portions of replays (`since`) and snapshots that a process reads or builds at once. It serves one at "
        "once for each client.",
        unit="portions",
    ),
    "IDEMPOTENCY_SECONDS": Setting(
        600,
        kinds.WHOLE,
        "How long the result of a request with a `key` is kept.",
        unit="seconds",
    ),
    "TRAFFIC_PER_SECOND": Setting(
        50,
        kinds.WHOLE,
        "Refusals and errors that a process records. Other traffic is recorded only while an operator watches.",
        unit="rows per second",
    ),
    "TRAFFIC_ROWS": Setting(
        10_000,
        kinds.WHOLE,
        "Traffic rows that are kept for operators.",
        unit="rows",
    ),
}
