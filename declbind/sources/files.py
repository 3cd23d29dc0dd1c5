"""Binding records from the JSON files of a project."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from django.apps import apps

from declbind.conf import settings
from declbind.core.errors import ConfigError, Problem
from declbind.core.schema import parse_documents
from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.record_validation import validate_document

from . import SourceItem

#: The folder of an installed app whose files are read even if no setting names it.
APP_FOLDER = "bindings"


class Reloader(Protocol):
    """The part of Django's reloader that is used."""

    def watch_dir(self, path: Path, glob: str) -> None:
        """Reload when a file of a folder changes."""


def record_folders() -> list[Path]:
    """Return the folders that exist and whose files are read."""
    return [folder for folder, _ in _folders() if folder.is_dir()]


def watch_files(sender: Reloader, **kwargs: object) -> None:
    """Have ``runserver`` reload when a file of records changes, as it does for Python files."""
    for folder in record_folders():
        sender.watch_dir(folder, "*.json")


def load_files() -> list[SourceItem]:
    """Read and validate the records of ``DECLBIND["RECORD_DIRS"]`` and of each app's ``bindings/*.json``.

    Folders are read in the order of the setting, then in the order of ``INSTALLED_APPS``. The files of a folder are
    sorted by name. Nothing is raised: a file that cannot be read becomes an item with a problem. Records are validated
    one by one, so that a bad record affects no other.
    """
    items: list[SourceItem] = []
    for folder, shown in _folders():
        if not folder.is_dir():
            # Only a folder of the setting can be missing here. Apps without a folder are left out.
            text = _("Expected a folder at %(folder)s (from DECLBIND['RECORD_DIRS']), found none.", folder=shown)
            items.append(_unreadable(shown, text))
            continue
        for path in sorted(folder.glob("*.json")):
            items.extend(load_file(path, f"{shown}/{path.name}"))
    return items


def load_file(path: Path, where: str) -> list[SourceItem]:
    """Read and validate the records of one file. ``where`` is the name of the file in messages."""
    try:
        # An editor on Windows may have written a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fault = _(
            "Expected a JSON file in UTF-8 at %(where)s, got one that cannot be read: %(error)s.",
            where=where,
            error=str(error),
        )
        return [_unreadable(where, fault)]
    return load_text(text, where)


def load_text(text: str, where: str) -> list[SourceItem]:
    """Validate the records of a file's text.

    The place of a single record is ``where``. The places of a list are ``where[0]``, ``where[1]`` and so on.
    """
    try:
        documents = parse_documents(text, where)
    except ConfigError as error:
        return [SourceItem(None, None, error.problems, "file", where)]
    is_list = text.lstrip().startswith("[")
    return [_item(document, f"{where}[{index}]" if is_list else where) for index, document in enumerate(documents)]


def _folders() -> Iterator[tuple[Path, str]]:
    seen: set[Path] = set()
    for configured in settings.RECORD_DIRS:
        folder = Path(configured)
        seen.add(folder.resolve())
        yield folder, str(configured).rstrip("/\\")
    for config in apps.get_app_configs():
        folder = Path(config.path) / APP_FOLDER
        # If the setting names the folder too, reading it here again would define each stream twice.
        if folder.is_dir() and folder.resolve() not in seen:
            seen.add(folder.resolve())
            yield folder, f"{config.label}/{APP_FOLDER}"


def _item(document: object, where: str) -> SourceItem:
    spec, problems = validate_document(document)
    record = document if isinstance(document, dict) else None
    stream = record.get("stream") if record is not None else None
    return SourceItem(
        stream=stream if isinstance(stream, str) else None,
        spec=spec,
        problems=tuple(problems),
        source="file",
        where=where,
        document=record,
    )


def _unreadable(where: str, message: Sentence) -> SourceItem:
    return SourceItem(None, None, (Problem("$", message),), "file", where)


def install() -> None:
    """Watch the files of records while ``runserver`` runs."""
    # Only a process that reloads has imported it by now, and others need not.
    autoreload = sys.modules.get("django.utils.autoreload")
    if autoreload is not None:
        autoreload.autoreload_started.connect(watch_files, dispatch_uid="declbind.sources.files")
