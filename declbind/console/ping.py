"""A test message over the channel layer, which shows whether the layer responds."""

from __future__ import annotations

import asyncio
import threading

from declbind.outbound import relay

SECONDS = 2.0
#: Added to the time limit of the ring, because some steps, such as a name lookup, cannot be interrupted.
GRACE_SECONDS = 1.0

_lock = threading.Lock()


def ping() -> None:
    """Send one wake-up over the channel layer.

    The ping runs in its own thread. It therefore also works beside a running event loop, and a step that cannot be
    interrupted does not block the caller. There is never more than one such thread.

    Raises:
        TimeoutError: There was no answer within a few seconds.
    """
    if not _lock.acquire(timeout=SECONDS + GRACE_SECONDS):
        raise TimeoutError("an earlier attempt is still waiting for an answer")
    failures: list[Exception] = []

    def run() -> None:
        try:
            asyncio.run(_ring())
        except Exception as error:
            failures.append(error)
        finally:
            _lock.release()

    thread = threading.Thread(target=run, name="declbind-ping", daemon=True)
    thread.start()
    thread.join(SECONDS + GRACE_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {SECONDS + GRACE_SECONDS:g} s")
    if failures:
        raise failures[0]


async def _ring() -> None:
    layer = relay.make_layer()
    if layer is not None:
        message = {"type": relay.DOORBELL_TYPE}
        await asyncio.wait_for(layer.group_send(relay.DOORBELL_GROUP, message), SECONDS)
