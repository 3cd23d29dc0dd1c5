"""The names of the contenders. The environment variable `BENCHMARK_CONTENDER` passes the name to the processes."""

import os

#: Django alone: a save has no receivers.
PLAIN = "plain"
#: declbind is installed, but the saved model is not bound.
UNBOUND = "unbound"
#: declbind with a record whose group is constant, with Redis for wake-ups.
DECLBIND = "declbind"
#: The same with a group template over a field, so that each save reads the row's old group.
BY_FIELD = "by_field"
#: The same as DECLBIND with a record whose database triggers report writes that bypass the ORM.
TRIGGERS = "triggers"
#: declbind without any channel layer.
POLLING = "polling"
#: The usual hand-written code: `post_save` -> `on_commit` -> `group_send` -> `send_json`, on `channels_redis.core`.
CORE = "core"
#: The same on the pub/sub layer of channels_redis.
PUBSUB = "pubsub"
#: `djangochannelsrestframework` with a `model_observer`, on `channels_redis.core`.
OBSERVER = "observer"
#: The same on the pub/sub layer of channels_redis.
OBSERVER_PUBSUB = "observer_pubsub"
#: The baseline of the machine: one process writes encoded frames to raw sockets.
SOCKETS = "sockets"
#: The baseline of the server: a bare ASGI application sends texts.
ASGI = "asgi"
#: The same behind Channels' middleware for sessions and users, behind which declbind runs too.
ASGI_STACK = "asgi_stack"

WITH_DECLBIND = frozenset({UNBOUND, DECLBIND, BY_FIELD, TRIGGERS, POLLING})
HANDWRITTEN = frozenset({CORE, PUBSUB})
OBSERVERS = frozenset({OBSERVER, OBSERVER_PUBSUB})
ON_CORE_LAYER = frozenset({DECLBIND, BY_FIELD, TRIGGERS, CORE, OBSERVER})
ON_PUBSUB_LAYER = frozenset({PUBSUB, OBSERVER_PUBSUB})
FLOORS = frozenset({SOCKETS, ASGI})
BARE = frozenset({ASGI, ASGI_STACK})

#: The peers in the order of their columns; declbind is compared with the best of them.
PEERS = (CORE, PUBSUB, OBSERVER)

LABELS = {
    PLAIN: "plain Django",
    UNBOUND: "not bound",
    DECLBIND: "declbind",
    BY_FIELD: "group by field",
    TRIGGERS: "triggers",
    POLLING: "no layer",
    CORE: "(a) core",
    PUBSUB: "(a) pub/sub",
    OBSERVER: "(b) dcrf",
    OBSERVER_PUBSUB: "(b) pub/sub",
    SOCKETS: "(c) sockets",
    ASGI: "(d) ASGI",
    ASGI_STACK: "(d) + sessions",
}


def current() -> str:
    """Return the contender that this process belongs to."""
    return os.environ["BENCHMARK_CONTENDER"]
