"""Lines of a shell, read by the parsers of the programs that they name; nothing is run.

A program that is not known here is an error, so that no command of the documentation goes unread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Callable

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError

from tests.servers import ROOT


def problem_of(line: str) -> str:
    """Return the problem of a command, "" if there is none."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
        del words[0]
    if not words:
        return ""
    read = PROGRAMS.get(words[0])
    if read is None:
        return f"expected one of the programs {sorted(PROGRAMS)}, got {words[0]!r}"
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return read(words[1:]) or ""
    except (SystemExit, CommandError, argparse.ArgumentError) as error:
        return f"{shown.getvalue().strip() or error}"


def split_lines(code: str) -> list[str]:
    """Return the commands of a block, continued lines joined, without comments and prompts."""
    joined = code.replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _python(words: list[str]) -> str:
    if words[:1] == ["manage.py"]:
        return _manage(words[1:])
    if words[:3] == ["-m", "pip", "install"]:
        return _pip(words[2:])
    return "expected manage.py or -m pip install"


def _manage(words: list[str]) -> str:
    name, *arguments = words
    # The examples of a tutorial make these themselves.
    commands = {**get_commands(), "runserver": "daphne", "demo": "example_site.example"}
    if name not in commands:
        return f"manage.py has no command {name!r}"
    command = commands[name]
    loaded = command if isinstance(command, BaseCommand) else load_command_class(command, name)
    parser = loaded.create_parser("manage.py", name)
    _make_strict(parser)
    parser.parse_args(arguments)
    return ""


def _make_strict(parser: argparse.ArgumentParser) -> None:
    """Have a parser refuse abbreviated options, and take any database: the examples have aliases of their own."""
    parser.allow_abbrev = False
    for action in parser._actions:
        if action.dest in ("database", "databases"):
            action.choices = None
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _make_strict(verb)


def _pip(words: list[str]) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {re.split("[= ]", line)[0].lower() for line in (ROOT / ".ci/constraints.txt").read_text().splitlines()}
    for word in words[1:]:
        name, extras = re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?", word.strip("\"'")).groups()  # type: ignore[union-attr]
        if name == "declbind":
            if unknown := set((extras or "").split(",")) - {"", *project["optional-dependencies"]}:
                return f"declbind has no extra {sorted(unknown)}"
        elif name.lower() not in pins and name.lower().replace("-", "_") not in pins:
            return f"{name!r} is not a package that the suite is run with"
    return ""


def _make(words: list[str]) -> str:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = [word for word in words if "=" not in word and word not in targets]
    return f"the Makefile has no target {unknown}" if unknown else ""


def _uvicorn(words: list[str]) -> str:
    import click
    from uvicorn.main import main

    try:
        main.make_context("uvicorn", words)
    except click.ClickException as error:
        return error.format_message()
    return ""


def _daphne(words: list[str]) -> str:
    from daphne.cli import CommandLineInterface

    CommandLineInterface().parser.parse_args(words)
    return ""


def _django_admin(words: list[str]) -> str:
    return "" if words and words[0] in get_commands() else f"django-admin has no command {words[:1]}"


def _anything(words: list[str]) -> str:
    return ""


PROGRAMS: dict[str, Callable[[list[str]], str]] = {
    "python": _python,
    "make": _make,
    "uvicorn": _uvicorn,
    "daphne": _daphne,
    "django-admin": _django_admin,
    "cd": _anything,
}
