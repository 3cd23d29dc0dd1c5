"""The kinds of values that settings take: each decides which values it accepts, and says so in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Kind:
    """A kind of values. ``words`` completes the sentence "expected ..., got ..." of a system check."""

    accepts: Callable[[object], bool]
    words: str


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_at_least(value: object, least: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_origin(value: object) -> bool:
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return bool(parts.scheme and parts.hostname) and not (parts.path or parts.query or parts.fragment)


def _is_list_of(value: object, accepts: Callable[[object], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(accepts, value))


def _is_none_or(accepts: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or accepts(value)


SWITCH = Kind(lambda value: isinstance(value, bool), "True or False")
WHOLE = Kind(lambda value: _is_whole(value) and _is_above_zero(value), "a whole number above 0")
COUNT = Kind(lambda value: _is_whole(value) and _is_at_least(value, 0), "a whole number of at least 0")
LIMIT = Kind(_is_none_or(WHOLE.accepts), "a whole number above 0 or None")
POSITIVE = Kind(_is_above_zero, "a number above 0")
DURATION = Kind(lambda value: _is_at_least(value, 0), "a number of at least 0")
OPTIONAL_SECONDS = Kind(_is_none_or(_is_above_zero), "a number of seconds above 0 or None")
TEXT = Kind(_is_text, "a text")
MAPPING = Kind(_is_none_or(lambda value: isinstance(value, dict)), "a dict or None")
FOLDERS = Kind(
    lambda value: _is_list_of(value, lambda item: isinstance(item, str | Path)), "a list of folders (str or Path)"
)
PATHS_BY_NAME = Kind(
    lambda value: isinstance(value, dict) and all(_is_text(text) for pair in value.items() for text in pair),
    "a dict from names to dotted paths",
)
LAYER_ALIAS = Kind(_is_none_or(_is_text), "an alias of CHANNEL_LAYERS or None")
MODEL_LABELS = Kind(lambda value: _is_list_of(value, _is_text), 'a list of models like ["app_label.ModelName"]')
ORIGINS = Kind(_is_none_or(lambda value: _is_list_of(value, _is_origin)), 'None or a list like ["https://example.com"]')
CLASS_PATH = Kind(_is_none_or(_is_text), "the dotted path of a class or None")
CALLABLE_PATH = Kind(_is_none_or(_is_text), "the dotted path of a callable or None")
