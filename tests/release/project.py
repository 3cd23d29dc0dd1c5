"""A checkout as the release tools see it: its files, its versions, and what is built from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Variables that would lead a program to this checkout, its settings or its repository.
DROPPED = ("DJANGO", "DATABASE", "TEST", "PYTHONPATH", "CHANNEL_LAYER", "GIT_")
#: The folder with the JavaScript client, which is also that of its npm package.
NPM_FOLDER = "declbind/static/declbind"


class Broken(Exception):
    """A step of the checklist failed. The text says what was expected, what was found and how to fix it."""


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without those that lead to the checkout, its settings or its repository."""
    return {key: value for key, value in os.environ.items() if not key.startswith(DROPPED)}


def run(command: Sequence[str], folder: Path, *, timeout: float = 300, **environment: str) -> str:
    """Run a command in a folder, without the variables that lead to the checkout or its settings.

    Args:
        command: The program and its arguments.
        folder: The working directory.
        timeout: How many seconds the command may take.
        environment: More variables for the command.

    Returns:
        What the command printed.

    Raises:
        Broken: The command failed. The text is everything that it printed.
    """
    env = {**clean_environment(), **environment}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise Broken(done.stdout + done.stderr)
    return done.stdout


def tracked_files(root: Path, *folders: str) -> set[str]:
    """Return the files that belong to the project: those that git tracks or would add."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *folders]
    return {name for name in run(git, root).splitlines() if (root / name).exists()}


def copy_project(root: Path, target: Path) -> Path:
    """Copy the files of a project into a new folder, which becomes a repository with one commit; return it."""
    for name in tracked_files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target / name)
    run(["git", "init", "--quiet"], target)
    commit(target)
    return target


def commit(root: Path) -> None:
    """Commit everything in a repository."""
    run(["git", "add", "--all"], root)
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false"]
    run(["git", *author, "commit", "--quiet", "--no-verify", "--message", "A change"], root)


def build_distributions(root: Path, output: Path) -> tuple[Path, Path]:
    """Build the wheel and the source distribution into a folder; return the paths of both."""
    run([sys.executable, "-m", "hatchling", "build", "-d", str(output)], root)
    [wheel], [archive] = output.glob("*.whl"), output.glob("*.tar.gz")
    return wheel, archive


def read_versions(root: Path) -> Mapping[str, str]:
    """Return the version that each part of a project gives, by the file that decides it.

    The npm package counts as soon as it has a ``package.json``.
    """
    python = [sys.executable, "-c"]
    versions = {
        "declbind/__init__.py": run([*python, "import declbind; print(declbind.__version__)"], root),
        "pyproject.toml": run([sys.executable, "-m", "hatchling", "metadata", "version"], root),
        "docs/conf.py": run([*python, "import runpy; print(runpy.run_path('docs/conf.py')['release'])"], root),
    }
    package = root / NPM_FOLDER / "package.json"
    if package.exists():
        versions[f"{NPM_FOLDER}/package.json"] = json.loads(package.read_text())["version"]
    return {part: version.strip() for part, version in versions.items()}
