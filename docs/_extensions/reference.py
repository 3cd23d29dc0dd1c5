"""The parts of the reference that are written by the code: `<!-- generated: NAME -->` in a page is replaced.

Each part is made from its one source while the documentation is built, so no part can be out of date. Where a page
is written by hand beside a source, `check_pages` compares the two and stops the build if they differ.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from javascript import describe_entry, describe_module
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parent.parent.parent
#: What the arguments are that the command leaves without a help text.
OBVIOUS = {"stream": "the stream of a binding", "pk": "the key of a row"}
#: The options that most verbs have; the page describes them once.
COMMON = re.compile(r" \[(?:-h|--database|--format)[^\]]*\]")
MARKER = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
#: A link to a page of the repository that is not part of the site.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([A-Z]+\.md)\)")
SCHEMA = ROOT / "schemas/binding.schema.json"
SETTINGS = ROOT / "declbind/conf"
CLIENT = ROOT / "declbind/static/declbind/declbind.js"
CAUSES = ROOT / "declbind/console/why/causes.py"
MODELS = ROOT / "declbind/models"
VERBS = ROOT / "declbind/management"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda _: check_pages(ROOT / "docs"))
    app.connect("source-read", fill_markers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill_markers(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the markers of one page, and have the page read again when a source changes.

    Links to pages of the repository outside of `docs/` become plain text, after a look whether the page exists.
    """

    def fill(match: re.Match[str]) -> str:
        if match[1] not in PARTS:
            raise ExtensionError(f"{docname}: expected one of {sorted(PARTS)}, got 'generated: {match[1]}'.")
        make, origin = PARTS[match[1]]
        sources = sorted([*origin.rglob("*.py"), *origin.rglob("*.js")]) if origin.is_dir() else [origin]
        for path in [*sources, *Path(__file__).parent.glob("*.py")]:
            app.env.note_dependency(str(path))
        return make()

    def name(match: re.Match[str]) -> str:
        if not (ROOT / match[2]).exists():
            raise ExtensionError(f"{docname}: the link to {match[2]} leads nowhere.")
        return match[1]

    source[0] = OUTSIDE.sub(name, MARKER.sub(fill, source[0]))


# Parts ------------------------------------------------------------------------------------------------------


def describe_record() -> str:
    """Describe each key of a binding record from the published schema."""
    schema = json.loads(SCHEMA.read_text())
    return "\n".join(_describe_keys(schema, level=2))


def _describe_keys(schema: dict[str, Any], level: int) -> Iterator[str]:
    required = schema.get("required", [])
    for name, key in schema["properties"].items():
        facts = [f"Type: {_describe_type(key)}."]
        if name in required:
            facts.append("Required.")
        elif "default" in key:
            facts.append(f"Default: `{json.dumps(key['default'])}`.")
        yield f"{'#' * level} `{name}`\n"
        yield f"{key['description']}\n"
        yield f"{' '.join(facts)}\n"
        if examples := key.get("examples"):
            shown = "; ".join(f"`{json.dumps(example, ensure_ascii=False)}`" for example in examples)
            yield f"{'Example' if len(examples) == 1 else 'Examples'}: {shown}\n"
        for form in key.get("anyOf", []):
            if "properties" in form:
                yield from _describe_keys(form, level + 1)


def _describe_type(key: dict[str, Any]) -> str:
    """Return the JSON types that a key may have, in words."""
    if "enum" in key:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in key["enum"])
    if "const" in key:
        return f"`{json.dumps(key['const'])}`"
    if "$ref" in key:
        return {"codename": "a permission codename"}.get(key["$ref"].rpartition("/")[2], "a word")
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_describe_type(form) for form in key["anyOf"]))
    types = key.get("type", "object")
    names = {"array": "list", "null": "null"}
    return " or ".join(names.get(one, one) for one in ([types] if isinstance(types, str) else types))


def describe_causes() -> str:
    """Return the table of the causes that "Why?" may answer."""
    from declbind.console.why.causes import Cause

    rows = [(f"`{cause.code}`", cause.value.title, cause.value.remedy or "Nothing.") for cause in Cause]
    return format_table(("cause", "meaning", "what to do"), rows)


def describe_settings() -> str:
    """Return a section for each key of the setting `DECLBIND`."""
    from declbind.conf.table import SETTINGS

    parts = []
    for key, setting in SETTINGS.items():
        unit = f" {setting.unit}" if setting.unit and setting.default is not None else ""
        counted = f", in {setting.unit}" if setting.unit and not unit else ""
        default = json.dumps(setting.default) if isinstance(setting.default, str) else repr(setting.default)
        facts = f"Default: `{default}`{unit}. Takes {setting.kind.words}{counted}."
        parts.append(f"## `{key}`\n\n{setting.description}\n\n{facts}\n")
    return "\n".join(parts)


def describe_models() -> str:
    """Return a section for each public model, with its fields."""
    from django.db import models

    import declbind.models

    parts = []
    for name in declbind.models.__all__:
        model = getattr(declbind.models, name)
        if not (isinstance(model, type) and issubclass(model, models.Model)):
            continue
        rows = [(f"`{field.name}`", f"`{field.get_internal_type()}`") for field in model._meta.concrete_fields]
        parts.append(f"## {name}\n\n{(model.__doc__ or '').strip()}\n\n{format_table(('field', 'type'), rows)}\n")
    return "\n".join(parts)


def describe_verbs() -> str:
    """Return a section for each verb of `manage.py declbind`, from the parser that reads the command line."""
    parts = []
    for verb, parser in verb_parsers().items():
        usage = COMMON.sub("", " ".join(parser.format_usage().split()).removeprefix("usage: "))
        rows = [
            (_write_argument(action), (action.help or OBVIOUS.get(action.dest, "")) % _help_values(action))
            for action in parser._actions
            if action.help != argparse.SUPPRESS and action.dest not in ("help", "database", "format")
        ]
        table = format_table(("argument", "meaning"), rows) if rows else ""
        parts.append(f"## `{verb}`\n\n{parser.description}\n\n```text\n{_fold(usage)}\n```\n\n{table}\n")
    return "\n".join(parts)


def describe_entries() -> str:
    """Return a section for each module of the npm package beside its core."""
    return "\n".join(describe_entry(path.read_text()) for path in sorted(CLIENT.parent.glob("*.js")) if path != CLIENT)


def verb_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the verbs by name."""
    from declbind.management.commands.declbind import Command

    parser = Command().create_parser("manage.py", "declbind")
    [verbs] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(verbs.choices)


def _write_argument(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    values = "" if action.nargs == 0 else f" {action.metavar or _choices(action) or action.dest.upper()}"
    return f"`{', '.join(action.option_strings)}{values}`"


def _choices(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices and action.dest != "database" else ""


def _help_values(action: argparse.Action) -> dict[str, Any]:
    return {**vars(action), "prog": "manage.py declbind"}


def _fold(usage: str) -> str:
    """Break a usage line between its arguments."""
    head, *arguments = re.findall(r"\[[^\]]*(?:\[[^\]]*\][^\]]*)?\]|\S+", usage)
    lines, indent = [head], "    "
    for argument in arguments:
        if len(lines[-1]) + len(argument) > 90:
            lines.append(indent + argument)
        else:
            lines[-1] += f" {argument}"
    return "\n".join(lines)


def format_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


#: The parts by name: what makes one, and the file or folder that it is made from.
PARTS: dict[str, tuple[Callable[[], str], Path]] = {
    "record-keys": (describe_record, SCHEMA),
    "causes": (describe_causes, CAUSES),
    "settings": (describe_settings, SETTINGS),
    "models": (describe_models, MODELS),
    "verbs": (describe_verbs, VERBS),
    "javascript": (lambda: describe_module(CLIENT.read_text()), CLIENT),
    "frameworks": (describe_entries, CLIENT.parent),
}


# Pages that are written by hand beside a source -------------------------------------------------------------


def check_pages(docs: Path) -> None:
    """Raise ``ExtensionError`` if a page names other checks, codes or reasons than the code does."""
    _compare("checks.md", set(documented_names((docs / "checks.md").read_text(), "declbind.")), check_ids())
    page = (docs / "reference/codes.md").read_text()
    for title, names in codes_and_reasons().items():
        _compare(f"reference/codes.md, {title}", set(documented_names(section_of(page, title))), names)


def _compare(page: str, documented: set[str], defined: set[str]) -> None:
    if documented != defined:
        missing, unknown = sorted(defined - documented), sorted(documented - defined)
        raise ExtensionError(f"docs/{page}: missing {missing}, not in the code {unknown}.")


def documented_names(page: str, prefix: str = "") -> list[str]:
    """Return the names in code font that begin the rows of the tables of a page."""
    return re.findall(rf"^\| `({re.escape(prefix)}[^`]+)` \|", page, re.MULTILINE)


def section_of(page: str, title: str) -> str:
    """Return the text under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def check_ids() -> set[str]:
    """Return the ids of the system checks that the code can report."""
    files = (ROOT / "declbind/checks").rglob("*.py")
    return {name for file in files for name in re.findall(r"declbind\.[EW]\d{3}", file.read_text())}


def codes_and_reasons() -> dict[str, set[str]]:
    """Return the error codes, reasons and close codes of the code, by the heading that explains them."""
    from declbind.core.errors import CODES
    from declbind.live import socket

    frames = json.loads((ROOT / "schemas/event.schema.json").read_text())["$defs"]
    # WebSocket reserves the numbers from 1000 on for close codes, and no other constant of the module is as large but
    # a number of characters.
    closing = {
        value
        for name, value in vars(socket).items()
        if name.isupper() and isinstance(value, int) and 1000 <= value < 5000
    }
    thrown = set(re.findall(r"(?:DeclbindError\(|#giveUp\(ref, |#giveUpWrites\()\s*'(\w+)'", CLIENT.read_text()))
    return {
        "Error codes": set(CODES),
        "Codes of the JavaScript client": thrown - set(CODES),
        "Reasons of `resync`": set(find_enum(frames["resync"], "reason")),
        "Reasons of `closed`": set(find_enum(frames["closed"], "reason")),
        "Close codes": {str(code) for code in closing},
    }


def find_enum(schema: dict[str, Any], name: str) -> list[str]:
    """Return the values that a property of a frame may have."""
    values: list[str] = schema["properties"][name]["enum"]
    return values
