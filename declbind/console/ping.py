"""Ring the doorbell once, to see whether the channel layer answers."""

from __future__ import annotations

import asyncio
import threading

from declbind.outbound import relay

SECONDS = 2.0
#: Past the bound of the ping itself: looking up a name, for one, cannot be interrupted, only left alone.
GRACE_SECONDS = 1.0

_lock = threading.Lock()


def ping() -> None:
    """Ring the doorbell once; raises what goes wrong, ``TimeoutError`` after a few seconds.

    In a thread of its own, so that it works wherever it is called, beside a running event loop too, and so that what
    cannot be interrupted holds up nobody. There is never more than one such thread.
    """
    if not _lock.acquire(timeout=SECONDS + GRACE_SECONDS):
        raise TimeoutError("an earlier try still waits for an answer")
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
