"""Ring the doorbell, and run the sequencer.

A doorbell says "look at the log", nothing more: it may be lost, it never blocks the writer, and a reader that hears
none looks every ``POLL_SECONDS`` anyway. It reaches the hubs of this process through their event loops, and other
processes through the channel layer, if there is one.
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
#: A bell that cannot be rung within this time is given up: the poll will find the event.
RING_SECONDS = 2.0
RING_PAUSE_SECONDS = 0.005
#: After a failure the bell is left alone for so long.
RETRY_SECONDS = 1.0

_listeners: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
_listeners_lock = threading.Lock()


def ring(using: str) -> None:
    """Tell the hubs of this process, and through the channel layer those of others, that the log has grown.

    Safe in any thread, after a commit; returns at once and swallows every fault.
    """
    if _listeners:
        wake_here()
    if carries_doorbell():
        _ringer.request()


def wake_here() -> None:
    """Wake the hubs of this process."""
    with _listeners_lock:
        listeners = list(_listeners.values())
    for loop, wake in listeners:
        # An empty context: inside sync_to_async() the current one would make the hub's later calls wait for ours.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake, context=contextvars.Context())


def add_listener(key: object, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    """Have ``wake`` called in ``loop`` at each ring."""
    with _listeners_lock:
        _listeners[key] = (loop, wake)


def remove_listener(key: object) -> None:
    """Undo ``add_listener``; unknown keys are fine."""
    with _listeners_lock:
        _listeners.pop(key, None)


def layer_config() -> dict[str, Any] | None:
    """Return the configuration of the channel layer that carries the doorbell, ``None`` for none."""
    alias = settings.CHANNEL_LAYER
    layers: dict[str, Any] = getattr(django_settings, "CHANNEL_LAYERS", {}) or {}
    return layers.get(alias) if alias else None


def carries_doorbell() -> bool:
    """Tell whether the configured layer reaches other processes (the in-memory one does not)."""
    config = layer_config()
    return config is not None and not config["BACKEND"].endswith("InMemoryChannelLayer")


def make_layer() -> Any:
    """Return a channel layer of our own, for the event loop that will use it.

    Not the shared instance of ``get_channel_layer()``: layers keep per-loop connections, and the doorbell must neither
    wait for an application's traffic nor be counted against its capacity.
    """
    config = layer_config()
    if config is None:
        return None
    # A release of Channels may lack both names (see ``seams``).
    own: Any = getattr(channels_layers, "channel_layers", None)
    alias: str = settings.CHANNEL_LAYER
    layer = channels_layers.get_channel_layer(alias) if own is None else own.make_backend(alias)
    return None if isinstance(layer, getattr(channels_layers, "InMemoryChannelLayer", ())) else layer


class _Ringer:
    """Send doorbells from one thread with a loop and a layer of its own; rings that pile up become one."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        """Have the bell rung soon."""
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="declbind-doorbell", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        # Waits in this very thread: a worker of the loop's executor would be joined when the interpreter ends.
        loop = asyncio.new_event_loop()
        layer = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                layer = layer or make_layer()
                if layer is not None:
                    loop.run_until_complete(self._ring(layer))
                    # One ring speaks for all that follow within this time; a burst of writes need not share its
                    # interpreter with as many rings.
                    time.sleep(RING_PAUSE_SECONDS)
            except Exception as error:
                layer = None
                logger.info("The doorbell could not be rung, hubs will poll: %s", error)
                # Each try costs the process as much as a dozen writes, and the poll does without.
                time.sleep(RETRY_SECONDS)

    @staticmethod
    async def _ring(layer: Any) -> None:
        await asyncio.wait_for(layer.group_send(DOORBELL_GROUP, {"type": DOORBELL_TYPE}), RING_SECONDS)


_ringer = _Ringer()


def _begin_anew() -> None:
    """Forget in a forked child what is its parent's: the thread, the loops, and locks that may be held for ever."""
    global _ringer, _listeners_lock
    _ringer, _listeners_lock = _Ringer(), threading.Lock()
    _listeners.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)


def run_once(using: str) -> int:
    """Number what waits; return how many events got a number."""
    total = 0
    while count := sequencer.sequence(using):
        total += count
        if count < sequencer.SEQUENCE_BATCH:
            break
    return total


def run_for_ever(using: str, stop: threading.Event) -> None:
    """Run the sequencer and the retention until ``stop`` is set: what ``manage.py declbind relay`` does."""
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
            logger.warning("The relay could not reach the log, it tries again: %s", error)
            connections[using].close()
        stop.wait(settings.POLL_SECONDS)


def install() -> None:
    """Let the log ring this doorbell."""
    log.ring = ring
