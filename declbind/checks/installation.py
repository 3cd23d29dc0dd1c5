"""Checks of the installed files: the console and the JavaScript client must belong to this declbind (W010, W011)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

CONSOLE = "admin_ui"
CONFIG = "DeclbindAdminConfig"
CLIENT = "declbind/declbind.js"
SILENCE = "SILENCED_SYSTEM_CHECKS"
REINSTALL = "`pip install --force-reinstall --no-deps declbind`"


def check_installation(**kwargs: object) -> list[CheckMessage]:
    """Check that ``admin_ui`` and the JavaScript client are declbind's own and complete (W010, W011). Makes no query.

    There is no warning for a project that does not list ``admin_ui`` in INSTALLED_APPS.
    """
    config = next((config for config in apps.get_app_configs() if config.name == CONSOLE), None)
    found = [] if config is None else list(_console(config))
    return [*found, *_client()]


def _console(config: AppConfig) -> Iterator[CheckMessage]:
    own, imported = _own_folder(), _folder_of(config)
    if imported != own and imported.resolve() != own.resolve():
        missing = "" if own.joinpath("apps.py").is_file() else ", which is missing"
        yield CheckWarning(
            f"INSTALLED_APPS: {CONSOLE!r} is the package at {str(imported)!r} and not declbind's console at "
            f"{str(own)!r}{missing}. The console's pages are missing from the admin.",
            hint=f"Rename your package, or move it into another package, so that `import {CONSOLE}` finds declbind's. "
            f'If the console is not wanted, silence the check: {SILENCE} = ["declbind.W010"].',
            id="declbind.W010",
        )
        return
    changed, names = _changed_files(own), _other_owners(own)
    effect = (
        "Uninstalling or updating it removes or overwrites declbind's files."
        if _is_own(config) and not changed
        else f"Files of declbind were overwritten ({_listed(changed) or 'unknown'}), so the console does not work."
    )
    for name in names:
        yield CheckWarning(
            f"The distribution {name!r} installed files in {str(own)!r}, the folder of declbind's console. {effect}",
            hint=f"Uninstall it, and install declbind again: `pip uninstall {name}` and {REINSTALL}. The two cannot "
            "share an environment.",
            id="declbind.W010",
        )
    if not names and not _is_own(config):
        yield CheckWarning(
            f"The files of declbind's console in {str(own)!r} were overwritten: the app there is "
            f"{type(config).__module__}.{type(config).__name__}. The console's pages are missing from the admin.",
            hint=f"Install declbind again: {REINSTALL}.",
            id="declbind.W010",
        )


def _own_folder() -> Path:
    # The distribution installs both packages side by side.
    return Path(__file__).parents[2] / CONSOLE


def _folder_of(config: AppConfig) -> Path:
    return Path(getattr(config.module, "__file__", None) or config.path).parent if config.module else Path(config.path)


def _is_own(config: AppConfig) -> bool:
    # The class is compared by name, because this package may not import the console. A project may use a subclass.
    return any((base.__module__, base.__name__) == (f"{CONSOLE}.apps", CONFIG) for base in type(config).__mro__)


def _changed_files(own: Path) -> list[str]:
    """Return files of the console that differ from the installed ones. For an editable install there are none."""
    try:
        files = metadata.distribution("declbind").files or []
    except metadata.PackageNotFoundError:
        return []
    changed = []
    for file in files:
        if file.parts[0] != CONSOLE or file.hash is None or file.hash.mode != "sha256":
            continue
        path = Path(str(file.locate()))
        if path.parent != own and own not in path.parents:
            return []  # The metadata belong to another copy of declbind.
        digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            changed.append(str(file))
    return changed


def _other_owners(own: Path) -> list[str]:
    """Return the other distributions whose files lie in the console's folder."""
    names = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] or ""
        # Search the text before parsing it, because parsing the file lists of all distributions takes half a second.
        listed = distribution.read_text("RECORD") or distribution.read_text("installed-files.txt") or ""
        if name.lower() == "declbind" or f"{CONSOLE}/" not in listed.replace("\\", "/"):
            continue
        if any(own in Path(str(file.locate())).parents for file in distribution.files or []):
            names.add(name)
    return sorted(names)


def _listed(files: list[str], shown: int = 3) -> str:
    more = len(files) - shown
    return ", ".join(files[:shown]) + (f" and {more} more" if more > 0 else "")


def _client() -> Iterator[CheckMessage]:
    """Compare the JavaScript client that is served with the client of this version."""
    if not apps.is_installed("django.contrib.staticfiles"):
        return
    from django.contrib.staticfiles import finders

    own = Path(__file__).parents[1] / "static" / CLIENT
    try:
        served = finders.find(CLIENT)
    except Exception:  # Django's own check reports a finder that does not work.
        return
    if not isinstance(served, str) or not own.is_file() or Path(served).read_bytes() == own.read_bytes():
        return
    yield CheckWarning(
        f"The static file {CLIENT!r} is {served!r} and not declbind's own at {str(own)!r}: browsers get another client "
        "than the one that belongs to this version.",
        hint="Remove the copy, or put it under another name. If it is intended, silence the check: "
        f'{SILENCE} = ["declbind.W011"].',
        id="declbind.W011",
    )
