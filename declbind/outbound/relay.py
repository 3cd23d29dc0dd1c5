"""The doorbell, and the sequencer for processes without sockets.

The doorbell only tells readers to read the log. A ring may be lost and never blocks the writer, because every reader
also polls every ``POLL_SECONDS``. It reaches the hubs of this process through their event loops, and other processes
through the channel layer, if there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from channels import layers as channels_layers
from django.conf import settings as django_settings
from django.db import connections

from declbind.conf import settings

from . import history, log, sequencer
from .retention import sweep

logger = logging.getLogger("declbind")

#: The one group that every hub joins.
DOORBELL_GROUP = "declbind.doorbell"
DOORBELL_TYPE = "declbind.ring"
TRIM_SECONDS = 15.0
#: The seconds after which an attempt to ring is abandoned. Polling will find the event.
RING_SECONDS = 2.0
RING_PAUSE_SECONDS = 0.005
#: The seconds to wait after a failed ring.
RETRY_SECONDS = 1.0

_listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
_listeners_lock = threading.Lock()


def ring(using: str) -> None:
    """Notify the hubs of this process, and through the channel layer those of others, that the log has grown.

    Safe in any thread, after a commit. Returns at once and suppresses every fault.
    """
    if _listeners:
        wake_here()
    if carries_doorbell():
        _ringer.request()


def wake_here() -> None:
    """Wake the hubs of this process. This may be called from any thread."""
    with _listeners_lock:
        listeners = list(_listeners.values())
    for loop, wake in listeners:
        # An empty context. Inside sync_to_async(), the current one would make later calls of the hub wait for this one.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake, context=contextvars.Context())


def add_listener(key: object, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    """Call ``wake`` in ``loop`` at each ring."""
    with _listeners_lock:
        _listeners[key] = (loop, wake)


def remove_listener(key: object) -> None:
    """Undo ``add_listener``. Unknown keys are ignored."""
    with _listeners_lock:
        _listeners.pop(key, None)


def layer_config() -> dict[str, Any] | None:
    """Return the configuration of the channel layer that carries the doorbell, ``None`` if there is none."""
    alias = settings.CHANNEL_LAYER
    layers: dict[str, Any] = getattr(django_settings, "CHANNEL_LAYERS", {}) or {}
    return layers.get(alias) if alias else None


def carries_doorbell() -> bool:
    """Return whether the configured layer reaches other processes (the in-memory one does not)."""
    config = layer_config()
    return config is not None and not config["BACKEND"].endswith("InMemoryChannelLayer")


def make_layer() -> Any:
    """Return a new channel layer for the event loop that will use it.

    The shared instance of ``get_channel_layer()`` is not used. Layers keep connections for each loop, and the doorbell
    must neither wait for an application's traffic nor count against its capacity.
    """
    config = layer_config()
    if config is None:
        return None
    # A release of Channels may lack both names (see ``outbound.seams``).
    own: Any = getattr(channels_layers, "channel_layers", None)
    alias: str = settings.CHANNEL_LAYER
    layer = channels_layers.get_channel_layer(alias) if own is None else own.make_backend(alias)
    return None if isinstance(layer, getattr(channels_layers, "InMemoryChannelLayer", ())) else layer


class _Ringer:
    """A thread that sends rings to the channel layer, with its own event loop and layer.

    Rings that are requested while one is being sent are joined into one.
    """

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        """Ring the bell soon."""
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="declbind-doorbell", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        # Waits in this thread, because a worker of the loop's executor would be joined when the interpreter ends.
        loop = asyncio.new_event_loop()
        layer = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                layer = layer or make_layer()
                if layer is not None:
                    loop.run_until_complete(self._ring(layer))
                    # One ring is enough for all that follow within this time, so a burst of writes does not cause a
                    # burst of rings.
                    time.sleep(RING_PAUSE_SECONDS)
            except Exception as error:
                layer = None
                logger.info("The doorbell could not be rung, hubs will poll: %s", error)
                # Wait, because each attempt costs as much as a dozen writes, and polling works without it.
                time.sleep(RETRY_SECONDS)

    @staticmethod
    async def _ring(layer: Any) -> None:
        await asyncio.wait_for(layer.group_send(DOORBELL_GROUP, {"type": DOORBELL_TYPE}), RING_SECONDS)


_ringer = _Ringer()


def _begin_anew() -> None:
    """Reset the state that a forked child inherits: the parent's thread and loops, and locks that may be held."""
    global _ringer, _listeners_lock
    _ringer, _listeners_lock = _Ringer(), threading.Lock()
    _listeners.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_begin_anew)


def run_once(using: str) -> int:
    """Number the waiting events; return the number of events that got a number."""
    total = 0
    while count := sequencer.sequence(using):
        total += count
        if count < sequencer.SEQUENCE_BATCH:
            break
    return total


def run_for_ever(using: str, stop: threading.Event) -> None:
    """Run the sequencer and the retention until ``stop`` is set, as ``manage.py declbind relay`` does."""
    swept_at = float("-inf")
    connected = None
    while not stop.is_set():
        try:
            connections[using].ensure_connection()
            if connections[using].connection is not connected:
                history.check_incarnation(using)
                connected = connections[using].connection
            if run_once(using):
                ring(using)
            if time.monotonic() - swept_at > TRIM_SECONDS:
                while sweep(using) and not stop.is_set():
                    pass
                swept_at = time.monotonic()
        except Exception as error:
            logger.warning("The relay could not reach the log and retries: %s", error)
            connections[using].close()
        stop.wait(settings.POLL_SECONDS)


def install() -> None:
    """Set this doorbell as the one that the log rings."""
    log.ring = ring
