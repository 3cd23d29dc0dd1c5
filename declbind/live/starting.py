"""The start of a hub while the database may be temporarily unavailable."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

from django.db import Error as DatabaseError

from .log_reader import LogReader, Tick
from .threads import HubThread

logger = logging.getLogger("declbind")

#: The seconds for which a start is retried while the database fails, and the first pause between two attempts.
START_SECONDS, FIRST_PAUSE = 5.0, 0.05
#: The longest pause between two attempts.
LAST_PAUSE = 1.0


async def look_first(thread: HubThread, log_reader: LogReader) -> tuple[Tick, list[tuple[dict[str, Any], int, bool]]]:
    """Read the end of the log for the first time, and retry for ``START_SECONDS`` while the database fails.

    Processes that start together on a fresh SQLite database find it locked.

    Returns:
        The result of ``LogReader.first_look``.

    Raises:
        Exception: The last fault. It has been logged, with a traceback unless it is a database error.
    """
    until, pause = time.monotonic() + START_SECONDS, FIRST_PAUSE
    while True:
        try:
            return await thread.run(log_reader.first_look)
        except DatabaseError as error:
            if time.monotonic() + pause > until:
                logger.warning("The hub could not start, because the database failed: %s", error)
                raise
        except Exception:
            logger.exception("The hub could not start.")
            raise
        await asyncio.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LAST_PAUSE)
