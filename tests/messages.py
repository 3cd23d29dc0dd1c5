"""The texts that are marked for translation, and the catalogues that translate them; needs no GNU gettext.

``python -m tests.messages`` brings the catalogues up to date: it adds new texts without a translation, removes those
that are gone, and compiles.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils.translation.template import templatize

from tests.servers import ROOT

#: The packages with catalogues.
PACKAGES = ("admin_ui", "declbind")
#: The languages, and how each tells numbers apart; the same text as in Django's own catalogues.
LANGUAGES = {"de": "nplurals=2; plural=(n != 1);", "zh_Hans": "nplurals=1; plural=0;"}
#: By function, the positions of context, text and plural among its arguments.
FUNCTIONS: dict[str, tuple[int | None, int, int | None]] = {
    **dict.fromkeys(("gettext", "gettext_lazy", "gettext_noop", "_"), (None, 0, None)),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (None, 0, 1)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), (0, 1, None)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), (0, 1, 2)),
}
#: A text of a script, in double quotes.
SCRIPT_TEXT = re.compile(r"\b(?:text|declbindText|declbindNodes)\(\s*(\"(?:[^\"\\]|\\.)*\")")

#: Context and text.
Key: TypeAlias = tuple[str, str]


@dataclass
class Message:
    """One marked text: its plural, or "", and the files that it is in."""

    plural: str = ""
    files: set[str] = field(default_factory=set)


def find_calls(code: str) -> Iterator[tuple[str, str, str]]:
    """Yield context, text and plural of each marked text of Python code.

    Raises:
        ValueError: A marked text is not a literal, so that no catalogue could hold it.
    """
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name not in FUNCTIONS or not node.args:
            continue
        context, text, plural = FUNCTIONS[name]
        if name in ("_", "gettext") and isinstance(node.args[0], ast.Name):
            # The literal is marked with gettext_noop() elsewhere.
            continue
        yield (
            _literal(node, context) if context is not None else "",
            _literal(node, text),
            _literal(node, plural) if plural is not None else "",
        )


def _literal(call: ast.Call, position: int) -> str:
    value = call.args[position]
    if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
        raise ValueError(f"Line {call.lineno}: expected a literal text, got {ast.unparse(value)}.")
    return value.value


def find_template_texts(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield context, text and plural of each marked text of a template, as Django reads templates."""
    code = templatize(source)
    for start in re.finditer(r"\b(?:gettext|ngettext|pgettext|npgettext|_)\(", code):
        for end in re.finditer(r"\)", code[start.start() :]):
            call = code[start.start() : start.start() + end.end()]
            try:
                ast.parse(call.replace(",count)", ", 1)"))
            except SyntaxError:
                continue
            yield from find_calls(call.replace(",count)", ", 1)"))
            break


def find_script_texts(source: str) -> list[str]:
    """Return the texts that the JavaScript ``source`` asks a translation of."""
    return [ast.literal_eval(text) for text in SCRIPT_TEXT.findall(source)]


def find_messages(package: str, root: Path = ROOT) -> dict[Key, Message]:
    """Return all marked texts of a package's code and templates. Those of scripts are in ``script_texts.py`` too."""
    found: dict[Key, Message] = {}
    for path in sorted((root / package).rglob("*")):
        if path.suffix == ".py":
            texts = find_calls(path.read_text(encoding="utf-8"))
        elif path.suffix == ".html":
            texts = find_template_texts(path.read_text(encoding="utf-8"))
        else:
            continue
        for context, text, plural in texts:
            message = found.setdefault((context, text), Message())
            message.plural = message.plural or plural
            message.files.add(path.relative_to(root).as_posix())
    return found


def catalogue_path(package: str, language: str) -> Path:
    """Return the file of a catalogue."""
    return ROOT / package / "locale" / language / "LC_MESSAGES" / "django.po"


def read_catalogue(path: Path) -> Catalog:
    """Return a catalogue; faults in its format raise an error."""
    with path.open("rb") as file:
        return read_po(file, abort_invalid=True)


def texts_of(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the texts of a message: one, or one for each form of a plural."""
    return (value or "",) if isinstance(value, str) or value is None else tuple(value)


def translations_of(catalogue: Catalog) -> dict[Key, tuple[str, ...]]:
    """Return the translations by context and text: one for each form of a plural."""
    return {
        (message.context or "", texts_of(message.id)[0]): texts_of(message.string)
        for message in catalogue
        if message.id
    }


def header_of(language: str) -> str:
    """Return the first entry of a catalogue, without dates, which would differ each time."""
    return (
        f"Language: {language}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        f"Content-Transfer-Encoding: 8bit\nPlural-Forms: {LANGUAGES[language]}\n"
    )


def format_catalogue(language: str, messages: dict[Key, Message], known: dict[Key, tuple[str, ...]]) -> str:
    """Return the text of a catalogue: all messages in order, each with its known translation or none."""
    lines = ['msgid ""', 'msgstr ""', *(_quote(f"{line}\n") for line in header_of(language).splitlines())]
    forms = int(LANGUAGES[language].partition(";")[0].removeprefix("nplurals="))
    for (context, text), message in sorted(messages.items(), key=lambda item: (min(item[1].files), item[0])):
        strings = known.get((context, text), ())
        lines += ["", *(f"#: {name}" for name in sorted(message.files))]
        if "%(" in text:
            lines.append("#, python-format")
        lines += [f"msgctxt {_quote(context)}"] if context else []
        lines.append(f"msgid {_quote(text)}")
        if message.plural:
            given = strings if len(strings) == forms else ("",) * forms
            lines.append(f"msgid_plural {_quote(message.plural)}")
            lines += [f"msgstr[{number}] {_quote(string)}" for number, string in enumerate(given)]
        else:
            lines.append(f"msgstr {_quote(strings[0] if len(strings) == 1 else '')}")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def compile_catalogue(language: str, catalogue: Catalog) -> bytes:
    """Return the compiled form of a catalogue (GNU gettext manual, "The Format of GNU MO Files")."""
    entries = {b"": header_of(language).encode()}
    for message in catalogue:
        if not message.id:
            continue
        begin = f"{message.context}\x04" if message.context else ""
        entries[(begin + "\0".join(texts_of(message.id))).encode()] = "\0".join(texts_of(message.string)).encode()
    return _pack(sorted(entries.items()))


def _pack(entries: list[tuple[bytes, bytes]]) -> bytes:
    start = 28
    data_start = start + 16 * len(entries)
    data = b""
    tables: list[bytes] = []
    for column in zip(*entries, strict=True):
        for text in column:
            tables.append(struct.pack("<II", len(text), data_start + len(data)))
            data += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(entries), start, start + 8 * len(entries), 0, data_start)
    return head + b"".join(tables) + data


def update(packages: Iterable[str] = PACKAGES) -> list[str]:
    """Write all catalogues anew; return how many texts of each still need a translation."""
    told = []
    for package in packages:
        messages = find_messages(package)
        for language in LANGUAGES:
            path = catalogue_path(package, language)
            known = translations_of(read_catalogue(path)) if path.exists() else {}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(format_catalogue(language, messages, known), encoding="utf-8")
            catalogue = read_catalogue(path)
            path.with_suffix(".mo").write_bytes(compile_catalogue(language, catalogue))
            empty = sum(not all(strings) for strings in translations_of(catalogue).values())
            told.append(f"{path.relative_to(ROOT)}: {len(messages)} texts, {empty} without a translation")
    return told


if __name__ == "__main__":
    settings.configure()
    print("\n".join(update()))  # noqa: T201  # the answer to the person who runs it
