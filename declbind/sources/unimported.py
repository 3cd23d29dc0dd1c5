"""Binding classes in files of the installed apps that this process has not imported.

Such a file may never be imported, so it is parsed and not executed. Only what is certain from its text is used.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.apps import apps

from .code import is_test_module

#: Apps without bindings of a project, by the first part of their names.
FOREIGN = frozenset({"admin_ui", "channels", "daphne", "declbind", "django"})
#: Folders without modules of the app itself.
PRUNED = frozenset({"migrations", "node_modules", "site-packages", "static", "templates", "tests"})
#: Files of an app that are read.
MAX_FILES = 1000
#: The names of declbind's classes.
BASES = frozenset({"Binding", "WebsocketBinding"})


@dataclass(frozen=True)
class UnimportedClass:
    """A class that is a binding by its text; ``stream`` is "" if the text has no literal for it."""

    module: str
    name: str
    stream: str
    has_fields: bool


def find_unimported() -> Iterator[UnimportedClass]:
    """Yield the binding classes of the files that this process has not imported, file by file."""
    for module, path in _files():
        if module in sys.modules or is_test_module(module):
            continue
        try:
            text = path.read_text(encoding="utf-8")
            if "declbind" in text:
                yield from _classes_of(module, ast.parse(text))
        except (OSError, SyntaxError, ValueError):  # An import of the module reports it.
            continue


def _files() -> Iterator[tuple[str, Path]]:
    count = 0
    for config in apps.get_app_configs():
        if config.name.partition(".")[0] in FOREIGN:
            continue
        for folder, folders, files in os.walk(config.path):
            folders[:] = sorted(name for name in folders if name.isidentifier() and name not in PRUNED)
            for file in sorted(files):
                count += 1
                if count > MAX_FILES:
                    return
                if file.endswith(".py"):
                    path = Path(folder, file)
                    parts = path.relative_to(config.path).with_suffix("").parts
                    yield ".".join((config.name, *(part for part in parts if part != "__init__"))), path


def _classes_of(module: str, tree: ast.Module) -> Iterator[UnimportedClass]:
    bases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "declbind"
        for alias in node.names
        if alias.name in BASES
    }
    #: The attributes of each binding class of the file, including those inherited within the file.
    known: dict[str, dict[str, ast.expr | None]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        names = [_name_of(base) for base in node.bases]
        if not ({*names} & {*bases, *known} or any(map(_is_declbinds, node.bases))):
            continue
        has: dict[str, ast.expr | None] = {}
        for name in reversed(names):
            has |= known.get(name, {})
        known[node.name] = has | dict(_assigned(node))
        if {"model", "stream"} <= known[node.name].keys():
            stream = known[node.name]["stream"]
            literal = stream.value if isinstance(stream, ast.Constant) else ""
            has_fields = not {"fields", "exclude"}.isdisjoint(known[node.name])
            yield UnimportedClass(module, node.name, literal if isinstance(literal, str) else "", has_fields)


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        for target in targets:
            value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
            for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(name, ast.Name):
                    yield name.id, value


def _name_of(base: ast.expr) -> str:
    return base.id if isinstance(base, ast.Name) else ""


def _is_declbinds(base: ast.expr) -> bool:
    return isinstance(base, ast.Attribute) and base.attr in BASES and ast.unparse(base).startswith("declbind.")
