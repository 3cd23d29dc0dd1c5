"""Sentences that people read, in the language of the reader.

A problem may be found long before it is shown, and then to readers of several languages. Its sentence is therefore kept
as a template with its values, and rendered each time it is read. The core has no translations: ``declbind.apps`` sets
the function that finds them.

Import ``Sentence`` as ``_``. The tools that collect the texts to translate recognise that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Generic, TypeVar

Key = TypeVar("Key")


class Sentence:
    """A text that is rendered by ``str()``, in the language that is active then.

    ``template`` is the English text with named placeholders, such as ``"Expected %(expected)s."``. The values may be
    sentences themselves. Sentences compare like their texts. ``+`` appends a text or a sentence.
    """

    __slots__ = ("_template", "_values")

    #: Returns the translation of a template into the active language. Without Django it is the template itself.
    translate: ClassVar[Callable[[str], str]] = staticmethod(str)

    def __init__(self, template: str, /, **values: object) -> None:
        self._template, self._values = template, values

    def __str__(self) -> str:
        text = type(self).translate(self._template)
        return text % self._values if self._values else text

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Sentence | str) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __add__(self, other: Sentence | str) -> Sentence:
        return Sentence("%(first)s%(second)s", first=self, second=other) if other else self


class Phrases(Mapping[Key, str], Generic[Key]):
    """A table of phrases. Each is rendered when it is looked up, so a table may be built at import."""

    def __init__(self, phrases: Mapping[Key, Sentence]) -> None:
        self._phrases = phrases

    def __getitem__(self, key: Key) -> str:
        return str(self._phrases[key])

    def __iter__(self) -> Iterator[Key]:
        return iter(self._phrases)

    def __len__(self) -> int:
        return len(self._phrases)
