"""The largest message that the server takes from a client, where a server tells it.

A server reads a whole message into memory before it passes the message on. If its limit is above ``MAX_FRAME_BYTES``,
strangers can make the process hold messages that declbind refuses anyway.
"""

from __future__ import annotations

import logging
from typing import Any

from declbind.conf import settings

logger = logging.getLogger("declbind")

#: uvicorn's option, and the environment variable that stands for it.
OPTION, VARIABLE = "--ws-max-size", "UVICORN_WS_MAX_SIZE"
_is_checked = False


def warn_once(receive: Any) -> None:
    """Log a warning, at the first connection of a process, if its server takes messages that are too large.

    Args:
        receive: The ``receive`` of an ASGI connection, as the server or a middleware gave it. It tells the limit of
            uvicorn if no middleware has replaced it.
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


def find_limit(receive: Any) -> int | None:
    """Return the largest message in bytes that uvicorn takes; ``None`` if the server is another one."""
    config = getattr(getattr(receive, "__self__", None), "config", None)
    limit = getattr(config, "ws_max_size", None)
    return limit if isinstance(limit, int) else None
