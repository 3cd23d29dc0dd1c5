"""The server's limit on the size of client messages, if it is known.

A server reads a whole message into memory before it passes the message on. If its limit is above ``MAX_FRAME_BYTES``,
clients can fill memory with messages that declbind refuses anyway.
"""

from __future__ import annotations

import logging

from declbind.conf import settings

logger = logging.getLogger("declbind")

#: uvicorn's option, and the corresponding environment variable.
OPTION, VARIABLE = "--ws-max-size", "UVICORN_WS_MAX_SIZE"
_is_checked = False


def warn_once(receive: object) -> None:
    """Log a warning at the first connection of a process if its server accepts messages that are too large.

    Args:
        receive: The ``receive`` of an ASGI connection, as the server or a middleware passed it. It gives access to
            uvicorn's limit unless a middleware has replaced it.
    """
    global _is_checked
    if _is_checked:
        return
    _is_checked = True
    limit = find_limit(receive)
    if limit is not None and limit > settings.MAX_FRAME_BYTES:
        logger.warning(
            "uvicorn reads messages of up to %s bytes into memory, and declbind takes up to %s. Start uvicorn with "
            "%s %s, or set %s=%s.",
            limit, settings.MAX_FRAME_BYTES, OPTION, settings.MAX_FRAME_BYTES, VARIABLE, settings.MAX_FRAME_BYTES,
        )  # fmt: skip


def find_limit(receive: object) -> int | None:
    """Return uvicorn's limit for a message in bytes; ``None`` for another server."""
    config = getattr(getattr(receive, "__self__", None), "config", None)
    limit = getattr(config, "ws_max_size", None)
    return limit if isinstance(limit, int) else None
