"""The exported names of a JavaScript module, described from its JSDoc comments as Markdown.

Understood is what `declbind.js` uses: `export class` and `export function`, methods and getters, `@typedef`,
`@property`, `@param`, `@returns` and `@internal` (not public). An export without a comment raises ``ValueError``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

COMMENT = re.compile(r"/\*\*(.*?)\*/[ \t]*\n?", re.DOTALL)
DECLARATION = re.compile(r"( *)(export )?(?:(class|function) (\w+)|(get )?(\w+))(?:\((.*?)\))?[^\n]*\{")
TAG = re.compile(r"^@(\w+) ?(.*?)(?=^@|\Z)", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}\s*(.*)", re.DOTALL)
NAMED = re.compile(r"(\[[^\]]*\]|\S+)\s*(.*)", re.DOTALL)


@dataclass
class Comment:
    """One JSDoc comment: its text and its tags, in order."""

    text: str
    tags: list[tuple[str, str]]

    def find(self, name: str) -> list[str]:
        """Return the texts of the tags with a name."""
        return [text for tag, text in self.tags if tag == name]


@dataclass
class Member:
    """A function, method or getter with the comment above it."""

    name: str
    parameters: str
    comment: Comment
    is_getter: bool = False


@dataclass
class ExportedClass:
    """An exported class with its public members."""

    name: str
    comment: Comment
    members: list[Member] = field(default_factory=list)


def describe_module(text: str, level: int = 2) -> str:
    """Return the public interface of a module as Markdown sections of a level."""
    parts = []
    for export in read_exports(text):
        if isinstance(export, Member):
            parts.append("\n".join(_describe_member(export, level)))
        else:
            parts.append(f"{'#' * level} {export.name}\n\n{_format(export.comment.text)}\n")
            parts += ["\n".join(_describe_member(member, level + 1)) for member in export.members]
    if types := list(read_types(text)):
        parts.append(f"{'#' * level} Types\n")
        parts += ["\n".join(lines) for lines in types]
    return "\n".join(parts)


def describe_entry(text: str) -> str:
    """Return a section for a module with what its comment `@module` says, and its interface below.

    Raises:
        ValueError: The module has no such comment.
    """
    comments = [parse_comment(match[1]) for match in COMMENT.finditer(text)]
    found = next((comment for comment in comments if comment.find("module")), None)
    if found is None:
        raise ValueError("Expected a comment with @module at the head of each module, got none.")
    [name] = found.find("module")
    paragraphs = []
    for is_code, lines in groupby(found.text.splitlines(), key=lambda line: line.startswith("    ") or not line):
        body = "\n".join(lines).strip("\n")
        if body:
            paragraphs.append(f"```text\n{textwrap.dedent(body)}\n```" if is_code else _format(body))
    return "\n\n".join([f"## `{name.strip()}`", *paragraphs, describe_module(text, level=3)])


def read_exports(text: str) -> list[Member | ExportedClass]:
    """Return the exported functions and classes in their order."""
    exports: list[Member | ExportedClass] = []
    documented = set()
    inside: ExportedClass | None = None
    for match in COMMENT.finditer(text):
        declaration = DECLARATION.match(text, match.end())
        if declaration is None:
            continue
        indent, exported, kind, name, getter, member, parameters = declaration.groups()
        comment = parse_comment(match[1])
        if not indent:
            inside = None
            if exported and kind == "class":
                inside = ExportedClass(name, comment)
                exports.append(inside)
            elif exported:
                exports.append(Member(name, parameters or "", comment))
            documented.add(name)
        elif inside is not None and member and len(indent) == 2 and not comment.find("internal"):
            inside.members.append(Member(member, parameters or "", comment, bool(getter)))
    if missing := set(re.findall(r"^export \w+ (\w+)", text, re.MULTILINE)) - documented:
        raise ValueError(f"Expected a JSDoc comment above each export, got none above {sorted(missing)}.")
    return exports


def parse_comment(text: str) -> Comment:
    """Split a JSDoc comment into its text and its tags."""
    lines = [re.sub(r"^\s*\* ?", "", line) for line in text.splitlines()]
    body = "\n".join(lines).strip()
    first = re.search(r"^@", body, re.MULTILINE)
    return Comment(
        body[: first.start()].strip() if first else body, TAG.findall(body[first.start() :]) if first else []
    )


def _describe_member(member: Member, level: int) -> Iterator[str]:
    if member.name == "constructor":
        parameters = [_name_of(_split_type(text)[1]) for text in member.comment.find("param")]
        yield f"{'#' * level} `constructor({', '.join(parameters)})`\n"
    else:
        signature = member.name if member.is_getter else f"{member.name}({member.parameters})"
        yield f"{'#' * level} `{signature}`\n"
    if member.comment.text:
        yield f"{_format(member.comment.text)}\n"
    yield from _describe_values(member.comment.find("param"))
    for text in member.comment.find("returns"):
        kind, meaning = _split_type(text)
        yield f"Returns `{kind}`. {_format(meaning)}\n"


def read_types(text: str) -> Iterator[list[str]]:
    """Yield a section for each `@typedef`, with the properties of those that are objects."""
    for match in COMMENT.finditer(text):
        comment = parse_comment(match[1])
        if not comment.find("typedef"):
            continue
        groups: list[list[tuple[str, str]]] = []
        for tag in comment.tags:
            if tag[0] == "typedef":
                groups.append([])
            if groups:
                groups[-1].append(tag)
        for (_, head), *properties in groups:
            kind, rest = _split_type(head)
            name, meaning = NAMED.match(rest).groups()  # type: ignore[union-attr]
            lines = [f"### `{name}`\n"]
            if kind != "object":
                lines.append(f"`{kind}`\n")
            if meaning.strip():
                lines.append(f"{_format(meaning)}\n")
            yield [*lines, *_describe_values([text for tag, text in properties if tag == "property"])]


def _describe_values(texts: list[str]) -> Iterator[str]:
    """Yield a list of parameters or properties: name, type, default and meaning."""
    for text in texts:
        kind, rest = _split_type(text)
        name, meaning = NAMED.match(rest).groups()  # type: ignore[union-attr]
        optional = name.startswith("[")
        name, _, default = name.strip("[]").partition("=")
        facts = f"`{kind}`" + (f", default `{default}`" if default else ", optional" if optional else "")
        yield f"- `{name}` ({facts}){': ' + _format(meaning) if meaning.strip() else ''}"
    if texts:
        yield ""


def _name_of(text: str) -> str:
    return text.split()[0].strip("[]").partition("=")[0]


def _split_type(text: str) -> tuple[str, str]:
    match = TYPED.match(" ".join(text.split()))
    if match is None:
        raise ValueError(f"Expected a type in braces, got {text!r}.")
    return match[1].strip(), match[2].strip()


def _format(text: str) -> str:
    """Return the text of a comment as a paragraph of Markdown."""
    return " ".join(text.split())
