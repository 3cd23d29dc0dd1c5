"""The listener for the doorbell that other processes ring through the channel layer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from declbind.outbound import relay

logger = logging.getLogger("declbind")

#: After this many seconds without a ring, the listener joins its group again, in case the layer has dropped it.
REJOIN_SECONDS = 30.0


async def listen(wake: Callable[[], None]) -> None:
    """Call ``wake`` at each ring, until cancelled. Faults of the channel layer cost latency only."""
    if not relay.carries_doorbell():
        return
    while True:
        layer = None
        try:
            layer = relay.make_layer()
            channel = await layer.new_channel()
            while True:
                await layer.group_add(relay.DOORBELL_GROUP, channel)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REJOIN_SECONDS):
                        while True:
                            await layer.receive(channel)
                            wake()
        except Exception as error:
            # The default timeout of redis-py 8 disconnects an idle consumer after 5 s. This is not a fault: connect
            # again.
            logger.info("The channel layer failed. Polling goes on: %s", error)
        finally:
            if layer is not None and hasattr(layer, "close_pools"):
                with contextlib.suppress(Exception):
                    await layer.close_pools()
        await asyncio.sleep(1.0)
