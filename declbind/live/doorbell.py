"""Hear the doorbell that other processes ring through the channel layer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from declbind.outbound import relay

logger = logging.getLogger("declbind")

#: A doorbell that was silent for so long joins its group again, which the layer may have forgotten.
REJOIN_SECONDS = 30.0


async def listen(wake: Callable[[], None]) -> None:
    """Call ``wake`` at each ring, for ever; whatever happens to the layer costs latency only."""
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
            # An idle consumer is cut after 5 s by redis-py 8's default time-out: no fault, a bell to connect anew.
            logger.info("The doorbell is silent, polling goes on: %s", error)
        finally:
            if layer is not None and hasattr(layer, "close_pools"):
                with contextlib.suppress(Exception):
                    await layer.close_pools()
        await asyncio.sleep(1.0)
