"""Group templates: from a row's values to the names of the groups that receive its events.

A template is text with bare field names in braces, ``room-{room_id}``. Operators type templates, so they are parsed
here. ``str.format`` is never used, because it would read attributes and items of its arguments.

**Rendering.** A channel layer accepts group names of ASCII letters, digits and ``-_.``, fewer than 100 characters.
Two different rows must not share a group by accident, so different values must give different names:

- letters, digits, ``_`` and ``-`` of a value stand for themselves, a dot is written ``..``, and each other
  byte of its UTF-8 form is written ``.hh`` (two hex digits);
- an empty value is written ``.-``;
- a value that is followed by more of the template also writes the next literal character as ``.hh``, so that
  this character, bare, ends the value. Where no literal follows, or one that starts with a dot, ``._`` ends
  it;
- a name that would get too long keeps its first and last literal around ``.h`` and a hash of all values.

Reading from the left, each form differs from every other form, so a name has at most one reading.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Literal

from .canonical import canonical_text
from .errors import ClientError, ConfigError, Problem
from .sentences import Sentence
from .sentences import Sentence as _

Action = Literal["delete", "update", "create"]

#: What every channel layer accepts. Channels itself says "fewer than 100 characters".
MAX_NAME_LENGTH: Final = 99
_LEGAL_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_NAME_LENGTH}}}\Z")
_ILLEGAL_CHARACTER = re.compile(r"[^A-Za-z0-9._-]")
_BARE_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_BARE_TEXT = re.compile(r"[A-Za-z0-9_-]+")

_HASH_MARK: Final = ".h"
#: 160 bits: a client that chooses the values must not be able to find a collision, and 128 bits would take only 2**64
#: tries.
_HASH_BYTES: Final = 20
_HASH_LENGTH: Final = 32
MAX_LITERAL_LENGTH: Final = MAX_NAME_LENGTH - len(_HASH_MARK) - _HASH_LENGTH

_BRACES = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")


def is_legal_name(name: str) -> bool:
    """Return whether every channel layer accepts ``name`` as the name of a group."""
    return _LEGAL_NAME.match(name) is not None


@dataclass(frozen=True)
class GroupTemplate:
    """A template that turns the values of a row, or the params of a subscription, into a group's name.

    Made by :meth:`parse`. Literals and placeholders alternate. There is one literal more than there are
    placeholders, and a literal may be empty. Two templates are equal if their texts are.
    """

    text: str
    placeholders: tuple[str, ...] = field(compare=False)
    literals: tuple[str, ...] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, path: str = "$") -> GroupTemplate:
        """Parse a template.

        Args:
            text: The template, such as ``room-{room_id}``.
            path: The JSON path of the template in its record, for the messages.

        Raises:
            ConfigError: The template is invalid; the error holds all of its problems.
        """
        problems, literals, placeholders = _scan(text, path)
        if problems:
            raise ConfigError(problems)
        return cls(text, tuple(placeholders), tuple(literals))

    @property
    def is_constant(self) -> bool:
        """Return whether the template names the same group for every row."""
        return not self.placeholders

    def render(self, values: Mapping[str, object]) -> str | None:
        """Return the name of the group of these values, or None if a value that the template needs is None.

        Values that the database considers equal must have the same type: ``3`` and ``"3"`` give the same name.

        Args:
            values: The values by field name. They may include fields that the template does not need.

        Raises:
            KeyError: A value that the template needs is missing.
        """
        texts: list[str] = []
        for placeholder in self.placeholders:
            value = values[placeholder]
            if value is None:
                return None
            texts.append(canonical_text(value))
        name = self.literals[0]
        last = len(texts) - 1
        for index, text in enumerate(texts):
            following = self.literals[index + 1]
            if index == last:
                name += _encode_value(text) + following
            elif following == "" or following.startswith("."):
                name += _encode_value(text) + "._" + following
            else:
                name += _encode_value(text, ends_at=following[0]) + following
        if len(name) <= MAX_NAME_LENGTH:
            return name
        return f"{self.literals[0]}{_HASH_MARK}{_hash_values(texts)}{self.literals[-1]}"

    def is_disjoint(self, other: GroupTemplate) -> bool:
        """Return whether it is certain that the two templates never render the same name.

        Only the text before the first placeholder and after the last one is compared, because every form of
        rendering keeps it. A name without placeholders meets a template only if it has both: ``articles`` is never
        a name of ``articles-by-{author}``. This refuses some pairs that would never collide, and accepts none that
        could.
        """
        if self.is_constant and other.is_constant:
            return self.text != other.text
        if self.is_constant:
            return not other._could_be(self.text)
        if other.is_constant:
            return not self._could_be(other.text)
        head, other_head = self.literals[0], other.literals[0]
        tail, other_tail = self.literals[-1], other.literals[-1]
        heads_differ = not (head.startswith(other_head) or other_head.startswith(head))
        tails_differ = not (tail.endswith(other_tail) or other_tail.endswith(tail))
        return heads_differ or tails_differ

    def _could_be(self, name: str) -> bool:
        """Return whether the template, which has placeholders, might render ``name``."""
        head, tail = self.literals[0], self.literals[-1]
        return name.startswith(head) and name.endswith(tail) and len(name) >= len(head) + len(tail)

    def __str__(self) -> str:
        return self.text


def template_problems(text: str, path: str = "$") -> list[Problem]:
    """Return all problems of one template; an empty list if it can be parsed."""
    return _scan(text, path)[0]


def ambiguity_problems(templates: Sequence[tuple[str, GroupTemplate]]) -> list[Problem]:
    """Return the conflicts between the templates of one binding, each given with its path.

    A subscription's params choose the template whose placeholders they name, so no two templates may have the same
    set. A group's name must lead back to one template, so no two may be able to render the same name.
    """
    problems: list[Problem] = []
    for (first_path, first), (path, second) in combinations(templates, 2):
        if set(first.placeholders) == set(second.placeholders):
            problems.append(Problem(path, _same_placeholders(first, first_path, second)))
        elif not first.is_disjoint(second):
            text = _(
                "Expected templates that never make the same name, got %(second)r, which could make the same name as "
                "%(first)r at %(place)s. Begin each with text of its own, as in 'room-{room_id}' beside "
                "'owner-{owner_id}'.",
                first=first.text, second=second.text, place=first_path,
            )  # fmt: skip
            problems.append(Problem(path, text))
    return problems


def _same_placeholders(first: GroupTemplate, place: str, second: GroupTemplate) -> Sentence:
    values = {"first": first.text, "second": second.text, "place": place}
    if first.is_constant:
        return _(
            "Expected templates with different placeholders, got %(second)r, but %(first)r at %(place)s has no "
            "placeholder either, so a subscription's params could not choose between them. Keep one of the two.",
            **values,
        )
    return _(
        "Expected templates with different placeholders, got %(second)r, but %(first)r at %(place)s has the "
        "placeholders %(names)s too, so a subscription's params could not choose between them. Keep one of the two.",
        names=_join_names(first.placeholders),
        **values,
    )


def match_template(templates: Iterable[GroupTemplate], params: Mapping[str, object]) -> GroupTemplate:
    """Return the template whose placeholders are exactly the keys of ``params``.

    Raises:
        ClientError: Code ``invalid``: no template has exactly these placeholders.
    """
    choices = list(templates)
    names = set(params)
    for template in choices:
        if set(template.placeholders) == names:
            return template
    if not choices:
        raise ClientError("invalid", "This stream has no groups that could be subscribed to by params.")
    expected = " or ".join(_describe_params(template.placeholders) for template in choices)
    raise ClientError("invalid", f"Expected params with {expected}, got {_describe_params(sorted(map(str, names)))}.")


def diff(old: Iterable[str], new: Iterable[str]) -> tuple[tuple[str, Action], ...]:
    """Return the action for each group: ``delete`` for old groups only, ``update`` for both, ``create`` for new.

    The order is part of the protocol: a client in two groups of one event receives the delete before the create.
    Within one action groups keep the order in which they came in. A group named twice counts once.
    """
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    if before == after:
        return tuple([(group, "update") for group in before])
    if not before:
        return tuple([(group, "create") for group in after])
    if not after:
        return tuple([(group, "delete") for group in before])
    return (
        *((group, "delete") for group in before if group not in after),
        *((group, "update") for group in before if group in after),
        *((group, "create") for group in after if group not in before),
    )


def _encode_value(text: str, ends_at: str = "") -> str:
    if _BARE_TEXT.fullmatch(text) and (not ends_at or ends_at not in text):
        return text  # nearly always, at a twentieth of the cost
    if not text:
        return ".-"
    stop = ord(ends_at) if ends_at else -1
    # A client may send half a surrogate pair in JSON. It must give a name like any other, not an exception.
    return "".join(
        ".." if byte == 0x2E else chr(byte) if byte in _BARE_BYTES and byte != stop else f".{byte:02x}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def _hash_values(texts: Sequence[str]) -> str:
    # JSON keeps the values apart. ASCII output prevents an exception for half a surrogate pair.
    digest = hashlib.sha256(json.dumps(list(texts)).encode("ascii")).digest()
    return base64.b32encode(digest[:_HASH_BYTES]).decode("ascii").lower()


def _scan(text: str, path: str) -> tuple[list[Problem], list[str], list[str]]:
    problems: list[Problem] = []
    literals: list[str] = [""]
    placeholders: list[str] = []
    for token in _BRACES.split(text):
        if not token.startswith(("{", "}")):
            literals[-1] += token
            continue
        fault = _placeholder_fault(token, placeholders)
        if fault:
            expected = _(
                "Expected a field's name in braces, such as {room_id}, got %(token)r in %(template)r. ",
                token=token, template=text,
            )  # fmt: skip
            problems.append(Problem(path, expected + fault))
            continue
        placeholders.append(token[1:-1])
        literals.append("")
    strange = sorted({character for literal in literals for character in _ILLEGAL_CHARACTER.findall(literal)})
    if strange:
        shown = ", ".join(map(repr, strange))
        expected = _(
            "Expected ASCII letters, digits, '-', '_' and '.' around the placeholders, got %(characters)s in "
            "%(template)r. Write '-' instead.",
            characters=shown, template=text,
        )  # fmt: skip
        problems.append(Problem(path, expected))
    length, limit = sum(map(len, literals)), MAX_LITERAL_LENGTH if placeholders else MAX_NAME_LENGTH
    if length > limit:
        given: dict[str, object] = {"limit": limit, "length": length, "template": text}
        if placeholders:
            expected = _(
                "Expected at most %(limit)s characters of text around the placeholders, got %(length)s in "
                "%(template)r. Shorten it.",
                **given,
            )
        else:
            expected = _(
                "Expected at most %(limit)s characters of text, got %(length)s in %(template)r. Shorten it.", **given
            )
        problems.append(Problem(path, expected))
    if not text:
        expected = _("Expected a group template like 'room-{room_id}', got ''. Remove it or fill it in.")
        problems.append(Problem(path, expected))
    return problems, literals, placeholders


def _placeholder_fault(token: str, seen: Sequence[str]) -> Sentence | None:
    """Return a sentence that says how to fix ``token``, or ``None`` for a good placeholder."""
    if token in ("{{", "}}"):
        return _("A group name cannot hold braces; remove them.")
    if token in ("{", "}"):
        return _("A brace has no partner. A placeholder is a field's name between one '{' and one '}'.")
    name = token[1:-1]
    if not name:
        return _("Put a field's name between the braces.")
    if name in seen:
        return _("Use each field once.")
    if name.isidentifier():
        return None
    if name.isdigit():
        return _("Use a field's name, not a position.")
    bare = re.split(r"[.\[!:]", name.strip(), maxsplit=1)[0].strip()
    fix = _(" Write %(value)r.", value=f"{{{bare}}}") if bare.isidentifier() else ""
    if "." in name:
        return _relation_fault(bare)
    if "[" in name:
        return _("Only whole fields can be used; nothing is indexed.") + fix
    if "!" in name or ":" in name:
        return _("Conversions and format specs are not supported.") + fix
    return _("That is not a field's name.") + fix


def _relation_fault(bare: str) -> Sentence:
    if bare.isidentifier():
        return _(
            "A template can use only the fields of the model itself. Write '{%(field)s}' for a group for each "
            "%(field)s, or write a binding class whose group_names() returns the names of a row's groups.",
            field=bare,
        )
    return _(
        "A template can use only the fields of the model itself. Write a binding class whose group_names() returns the "
        "names of a row's groups."
    )


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _describe_params(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "no keys"
