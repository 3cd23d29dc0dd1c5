"""The texts that the baselines send: exactly what declbind sends for the writer's saves."""

from __future__ import annotations


def text_of(number: int) -> str:
    """Return the tagged frame of one save."""
    return (
        f'{{"stream":"price","group":"price","offset":{number},"payload":{{"action":"update","pk":{1 + number % 20},'
        f'"data":{{"value":{100 + number / 8},"number":{number}}},"model":"benchmarks.price"}}}}'
    )
