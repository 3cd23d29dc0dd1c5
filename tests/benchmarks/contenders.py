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
#: declbind without any channel layer.
POLLING = "polling"
#: What people write today: `post_save` -> `on_commit` -> `group_send` -> `send_json`.
HANDWRITTEN = "handwritten"

WITH_DECLBIND = frozenset({UNBOUND, DECLBIND, BY_FIELD, POLLING})
WITH_REDIS = frozenset({DECLBIND, BY_FIELD, HANDWRITTEN})


def current() -> str:
    """Return the contender that this process belongs to."""
    return os.environ["BENCHMARK_CONTENDER"]
