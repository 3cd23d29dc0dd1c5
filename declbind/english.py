"""English texts, whatever the active language, for what programs read, developers search for, or the database keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.utils import translation


@contextlib.contextmanager
def in_english() -> Iterator[None]:
    """Render sentences in English inside the block. Also a decorator for functions that are no generators."""
    with translation.override(None):
        yield


@in_english()
def as_english(text: object) -> str:
    """Return a sentence, a problem or an error as English text."""
    return str(text)
