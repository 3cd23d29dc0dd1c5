"""The steps of the checklist. Each returns what it found, or raises ``Broken`` with what to do about it."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from .project import Broken, build_distributions, read_versions, run, tracked_files


@dataclass(frozen=True)
class Release:
    """A checkout that is to be released.

    Args:
        root: The folder of the checkout.
        output: The folder for everything that is built. The steps empty the parts of it that they use.
    """

    root: Path
    output: Path

    @property
    def version(self) -> str:
        """The version of the module."""
        found = re.search(r'^__version__ = "(.+)"$', (self.root / "declbind/__init__.py").read_text(), re.MULTILINE)
        if found is None:
            raise Broken('declbind/__init__.py: expected a line like __version__ = "1.2.3", found none.')
        return found[1]

    @property
    def tag(self) -> str:
        """The name of the tag."""
        return f"v{self.version}"

    @property
    def distributions(self) -> list[Path]:
        """What was built for the package index."""
        return sorted((self.output / "dist").iterdir())

    @property
    def wheel(self) -> Path:
        """The wheel that was built."""
        [path] = (self.output / "dist").glob("*.whl")
        return path

    def empty(self, name: str) -> Path:
        """Return an empty folder inside the output."""
        shutil.rmtree(self.output / name, ignore_errors=True)
        return self.output / name


@dataclass(frozen=True)
class Step:
    """One line of the checklist."""

    title: str
    check: Callable[[Release], str]


def check_versions(release: Release) -> str:
    """Check that all parts have the same version, which is one that may be published."""
    versions = read_versions(release.root)
    if len(set(versions.values())) != 1:
        found = ", ".join(f"{part}: {version}" for part, version in versions.items())
        raise Broken(f"Expected one version, got {found}. Change them to that of declbind/__init__.py.")
    try:
        version = Version(release.version)
    except InvalidVersion:
        version = Version("0.dev0")
    if version.is_devrelease or version.local or str(version) != release.version:
        raise Broken(f"Expected a version like 1.2.3 or 1.2.3rc1, got {release.version}.")
    return release.version


def check_changelog(release: Release) -> str:
    """Check that the first entry of the changelog is the one of this version, and has a date and a text."""
    text = (release.root / "CHANGELOG.md").read_text()
    [first, *_] = re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE) or [("no entry", "")]
    heading, body = map(str, first)
    written = heading.removeprefix(f"{release.version}, ")
    wanted = f"Write '## {release.version}, {today()}' above the changes."
    try:
        day = date.fromisoformat(written)
    except ValueError:
        raise Broken(f"CHANGELOG.md begins with {heading!r}. {wanted}") from None
    if day > today() + timedelta(days=1):
        raise Broken(f"The date in CHANGELOG.md is in the future: {day}. {wanted}")
    if not body.strip():
        raise Broken(f"CHANGELOG.md has no text under {heading!r}. Write what changed for users.")
    return heading


def check_tree(release: Release) -> str:
    """Check that everything is committed, because the tag names a commit and the distributions are built from files."""
    if changed := run(["git", "status", "--porcelain"], release.root).rstrip():
        raise Broken(f"Expected a clean tree, got these changes. Commit or remove them:\n{changed}")
    return run(["git", "rev-parse", "--short", "HEAD"], release.root).strip()


def check_tag(release: Release) -> str:
    """Check that neither this repository nor its origin has the tag."""
    if run(["git", "tag", "--list", release.tag], release.root).strip():
        raise Broken(f"The tag {release.tag} exists. Choose the next version.")
    if "origin" not in run(["git", "remote"], release.root).split():
        return f"{release.tag} is free; there is no origin to ask"
    if run(["git", "ls-remote", "--tags", "origin", f"refs/tags/{release.tag}"], release.root).strip():
        raise Broken(f"The tag {release.tag} exists at the origin. Choose the next version.")
    return f"{release.tag} is free"


def check_addresses(release: Release) -> str:
    """Check that the metadata names the repository that this checkout comes from, if that has an address."""
    source: str = tomllib.loads((release.root / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    if "origin" not in run(["git", "remote"], release.root).split():
        return f"{source}; there is no origin to compare it with"
    origin = run(["git", "remote", "get-url", "origin"], release.root).strip()
    if simple_address(origin) not in ("", simple_address(source)):
        raise Broken(f"pyproject.toml names {source}, and the origin is {origin}. Correct [project.urls].")
    return source if simple_address(origin) else f"{source}; the origin is a folder"


def simple_address(address: str) -> str:
    """Return the host and path of a repository, however it is reached; "" for a folder."""
    parts = urlsplit(re.sub(r"^(?:\w+@)?([\w.-]+):(?!/)", r"ssh://\1/", address))
    return f"{parts.hostname}{parts.path.rstrip('/').removesuffix('.git')}".lower() if parts.hostname else ""


def check_migrations(release: Release) -> str:
    """Check that the models of declbind and of the demo need no other migration."""
    command = [sys.executable, "example_site/manage.py", "makemigrations", "--check", "--dry-run", "--no-color"]
    return run(command, release.root).strip()


def check_documentation(release: Release) -> str:
    """Build the documentation, with warnings as errors."""
    output = release.empty("docs")
    run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(output)], release.root)
    return f"{len(list(output.rglob('*.html')))} pages"


def check_distributions(release: Release) -> str:
    """Build the distributions, and check their metadata as the package index does."""
    folder = release.empty("dist")
    build_distributions(release.root, folder)
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, release.distributions)], release.root)
    if strange := [path.name for path in release.distributions if release.version not in path.name]:
        raise Broken(f"Expected distributions of version {release.version}, got {', '.join(strange)}.")
    return ", ".join(path.name for path in release.distributions)


def check_contents(release: Release) -> str:
    """Check that the wheel has the files of both packages and no others."""
    with zipfile.ZipFile(release.wheel) as archive:
        return describe_difference(expected_files(release.root), wheel_files(archive))


def expected_files(root: Path) -> set[str]:
    """Return the files that belong into the wheel: those of both packages, with the schemas inside declbind."""
    return tracked_files(root, "declbind", "admin_ui") | {f"declbind/{name}" for name in tracked_files(root, "schemas")}


def wheel_files(archive: zipfile.ZipFile) -> set[str]:
    """Return the files of a wheel without its metadata."""
    return {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}


def describe_difference(expected: set[str], found: set[str]) -> str:
    """Return how many files there are.

    Raises:
        Broken: The sets differ.
    """
    if expected != found:
        missing, stray = sorted(expected - found), sorted(found - expected)
        raise Broken(
            f"The wheel lacks {missing[:10]} and has {stray[:10]} too many. See [tool.hatch] in pyproject.toml."
        )
    return f"{len(found)} files"


def check_readme(release: Release) -> str:
    """Install the wheel into an empty environment, and follow the five steps of the README with a browser."""
    from .readme import follow_steps

    folder = release.empty("venv")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], release.root)
    python = str(folder / "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, str(release.wheel), "daphne"], release.output, timeout=500)
    code = "import declbind, django; print('declbind', declbind.__version__, 'on Django', django.__version__)"
    installed = run([python, "-c", code], release.output).strip()
    follow_steps(folder / "bin")
    return installed


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(tz=UTC).date()


STEPS: Sequence[Step] = (
    Step("all parts have one version", check_versions),
    Step("the changelog has a dated entry for it", check_changelog),
    Step("everything is committed", check_tree),
    Step("the name of the tag is free", check_tag),
    Step("the metadata names this repository", check_addresses),
    Step("the migrations are complete", check_migrations),
    Step("the documentation builds", check_documentation),
    Step("the distributions build and would be accepted", check_distributions),
    Step("the wheel has the right files", check_contents),
    Step("the README works with the installed wheel", check_readme),
)


def walk(release: Release, steps: Sequence[Step] = STEPS) -> int:
    """Take the steps in order and print each with its outcome; return 1 at the first broken one, else 0."""
    for number, step in enumerate(steps, 1):
        try:
            say(f"ok      {number}. {step.title}: {step.check(release)}")
        except Exception as error:  # Whatever a step stumbles over, the release is not ready.
            kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
            say(f"BROKEN  {number}. {step.title}: {kind}{error}")
            return 1
    return 0


def say(text: str) -> None:
    """Print a line at once, because the next step may take minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
