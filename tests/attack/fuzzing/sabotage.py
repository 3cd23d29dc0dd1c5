"""Broken variants of the server, to show that each check detects its fault.

`FUZZING_SABOTAGE` names a broken variant.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

VARIABLE = "FUZZING_SABOTAGE"


def raise_an_exception() -> None:
    """Assume that a ``pk`` can be compared with a number."""
    from declbind.core import frames

    original = frames.parse_request

    def parse_request(envelope):
        if "pk" in envelope.payload and envelope.payload["pk"] < 0:
            return None
        return original(envelope)

    frames.parse_request = parse_request


def let_everybody_write() -> None:
    """Grant everything to everyone."""
    from declbind.bindings import Binding

    def has_permission(self: object, user: object, action: str, pk: object) -> bool:
        return True

    Binding.has_permission = has_permission  # type: ignore[method-assign]


def open_the_columns() -> None:
    """Let a new row have a value in a column that no client may write."""
    from declbind import row_validation

    original = row_validation.save_new

    def save_new(binding, instance, data):
        if hasattr(instance, "hidden"):
            instance.hidden = "x"
        return original(binding, instance, data)

    row_validation.save_new = save_new


def answer_all() -> None:
    """Send each refusal to all sockets."""
    from declbind.core import frames
    from declbind.live import conversation

    original = conversation.Conversation._refuse

    def _refuse(self, stream, ref, action, error, *args, **kwargs):
        original(self, stream, ref, action, error, *args, **kwargs)
        if ref is not frames.MISSING:
            for socket in self.hub.sockets():
                if socket is not self.socket:
                    socket.push(frames.encode_refusal(stream, ref, error))

    conversation.Conversation._refuse = _refuse  # type: ignore[method-assign]


def keep_all() -> None:
    """Keep everything that arrives for ever, fifty kilobytes for each frame."""
    from declbind.live import conversation

    kept: list[object] = []
    original = conversation.Conversation._take

    async def _take(self, text):
        kept.append(bytearray(50_000))
        await original(self, text)

    conversation.Conversation._take = _take  # type: ignore[method-assign]


def stop_reading() -> None:
    """Wait for ever after a frame that is not text."""
    from declbind.live import conversation

    original = conversation.Conversation._take

    async def _take(self, text):
        if text is None:
            await asyncio.Event().wait()
        await original(self, text)

    conversation.Conversation._take = _take  # type: ignore[method-assign]


#: The variants, and the check that has to detect each of them.
VARIANTS: dict[str, tuple[Callable[[], None], str]] = {
    "raise_an_exception": (raise_an_exception, "exception"),
    "let_everybody_write": (let_everybody_write, "changed"),
    "open_the_columns": (open_the_columns, "changed"),
    "answer_all": (answer_all, "witness"),
    "keep_all": (keep_all, "memory"),
    "stop_reading": (stop_reading, "answer"),
}


def install() -> None:
    """Install the variant that the environment names."""
    name = os.environ.get(VARIABLE)
    if name:
        VARIANTS[name][0]()
