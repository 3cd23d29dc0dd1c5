"""Name what is compared. The name travels to the processes in the environment variable `BENCHMARK_CONTENDER`."""

import os

#: Django alone: nothing listens to a save.
PLAIN = "plain"
#: declbind is installed, but the saved model is not bound.
UNBOUND = "unbound"
#: declbind with a record whose group is constant, Redis as the doorbell.
DECLBIND = "declbind"
#: The same with a group template over a field, so that each save reads where the row was before.
BY_FIELD = "by_field"
#: The same as DECLBIND with a record that has database triggers report what is written past the ORM.
TRIGGERS = "triggers"
#: declbind without any channel layer.
POLLING = "polling"
#: What people write today: `post_save` -> `on_commit` -> `group_send` -> `send_json`, on `channels_redis.core`.
CORE = "core"
#: The same on the pub/sub layer of channels_redis.
PUBSUB = "pubsub"
#: `djangochannelsrestframework` with a `model_observer`, on `channels_redis.core`.
OBSERVER = "observer"
#: The same on the pub/sub layer of channels_redis.
OBSERVER_PUBSUB = "observer_pubsub"
#: The floor of the machine: one process writes encoded frames to raw sockets.
SOCKETS = "sockets"
#: The floor of the server: a bare ASGI application sends texts.
ASGI = "asgi"
#: The same behind Channels' middleware for sessions and users, which declbind is mounted behind.
ASGI_STACK = "asgi_stack"

WITH_DECLBIND = frozenset({UNBOUND, DECLBIND, BY_FIELD, TRIGGERS, POLLING})
HANDWRITTEN = frozenset({CORE, PUBSUB})
OBSERVERS = frozenset({OBSERVER, OBSERVER_PUBSUB})
ON_CORE_LAYER = frozenset({DECLBIND, BY_FIELD, TRIGGERS, CORE, OBSERVER})
ON_PUBSUB_LAYER = frozenset({PUBSUB, OBSERVER_PUBSUB})
FLOORS = frozenset({SOCKETS, ASGI})
BARE = frozenset({ASGI, ASGI_STACK})

#: The peers in the order of their columns; what declbind is compared with is the best of them.
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
