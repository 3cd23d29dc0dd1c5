"""The steps of the checklist of a release, each beside a project that breaks it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.servers import ROOT

from . import steps
from .project import NPM_FOLDER, Broken, commit, copy_project, run
from .steps import Release, Step, walk

#: The steps that need neither a build of the documentation nor a browser.
QUICK = [step.title for step in steps.STEPS if step.check not in (steps.check_documentation, steps.check_readme)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Return a copy of this project that may be released, with an origin."""
    folder = tmp_path_factory.mktemp("release")
    root = copy_project(ROOT, folder / "project")
    date_changelog(root, f"{declared_version(root)}, {steps.today()}")
    commit(root)
    run(["git", "clone", "--quiet", "--bare", str(root), str(folder / "origin.git")], folder)
    run(["git", "remote", "add", "origin", str(folder / "origin.git")], root)
    return Release(root, folder / "output")


@pytest.fixture
def release(sound: Release, tmp_path: Path) -> Release:
    """Return a clone of the sound project, which a test may break, with an origin of its own."""
    run(["git", "clone", "--quiet", "--bare", str(sound.root), str(tmp_path / "origin.git")], tmp_path)
    run(["git", "clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / "project")], tmp_path)
    return Release(tmp_path / "project", tmp_path / "output")


def declared_version(root: Path) -> str:
    return Release(root, root).version


def date_changelog(root: Path, heading: str) -> None:
    """Replace the heading of the first entry."""
    edit(root / "CHANGELOG.md", lambda text: re.sub(r"^## .*$", f"## {heading}", text, count=1, flags=re.MULTILINE))


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change a file. The change must have an effect."""
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before or "## " in before


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


# Faults -----------------------------------------------------------------------------------------------------


def add_npm_package(release: Release) -> None:
    (release.root / NPM_FOLDER / "package.json").write_text(json.dumps({"name": "declbind", "version": "9.9.9"}))


def use_development_version(release: Release) -> None:
    version = release.version
    for file in ("declbind/__init__.py", "declbind/static/declbind/package.json"):
        edit(release.root / file, replacing(version, f"{version}.dev1"))


def leave_changelog_open(release: Release) -> None:
    date_changelog(release.root, f"{release.version}, unreleased")


def date_changelog_in_the_future(release: Release) -> None:
    date_changelog(release.root, f"{release.version}, {steps.today() + timedelta(days=9)}")


def describe_another_version(release: Release) -> None:
    date_changelog(release.root, f"9.9.9, {steps.today()}")


def leave_entry_empty(release: Release) -> None:
    heading = f"## {release.version}, {steps.today()}\n"
    (release.root / "CHANGELOG.md").write_text(f"# Changes\n\n{heading}\n## 0.0.1, 2020-01-01\n\nThe past.\n")


def leave_a_file(release: Release) -> None:
    (release.root / "notes.txt").write_text("Do not forget.")


def change_a_file(release: Release) -> None:
    edit(release.root / "README.md", lambda text: text + "\n")


def tag(release: Release) -> None:
    run(["git", "tag", release.tag], release.root)


def tag_at_the_origin(release: Release) -> None:
    run(["git", "tag", release.tag], release.root.parent / "origin.git")


def have_another_origin(release: Release) -> None:
    run(["git", "remote", "set-url", "origin", "git@example.com:someone/declbind.git"], release.root)


def change_a_model(release: Release) -> None:
    edit(release.root / "declbind/models/__init__.py", lambda text: text + MODEL)


MODEL = """

from django.db import models


class Forgotten(models.Model):
    class Meta:
        app_label = "declbind"
"""


def break_the_description(release: Release) -> None:
    (release.root / "README.rst").write_text(".. no-such-directive::\n")
    edit(release.root / "pyproject.toml", replacing('readme = "README.md"', 'readme = "README.rst"'))


def package_the_tests(release: Release) -> None:
    edit(
        release.root / "pyproject.toml",
        replacing('"declbind", "admin_ui", "schemas"]', '"declbind", "admin_ui", "tests"]'),
    )


#: Each fault with the step that finds it and a part of its message.
FAULTS: dict[Callable[[Release], None], tuple[Callable[[Release], str], str]] = {
    add_npm_package: (steps.check_versions, "package.json: 9.9.9"),
    use_development_version: (steps.check_versions, "Expected a version like 1.2.3"),
    leave_changelog_open: (steps.check_changelog, "begins with '.*, unreleased'"),
    date_changelog_in_the_future: (steps.check_changelog, "in the future"),
    describe_another_version: (steps.check_changelog, "begins with '9.9.9"),
    leave_entry_empty: (steps.check_changelog, "no text under"),
    leave_a_file: (steps.check_tree, "notes.txt"),
    change_a_file: (steps.check_tree, "README.md"),
    tag: (steps.check_tag, "exists. Choose"),
    tag_at_the_origin: (steps.check_tag, "exists at the origin"),
    have_another_origin: (steps.check_addresses, "Correct .project.urls"),
    change_a_model: (steps.check_migrations, "Forgotten"),
    break_the_description: (steps.check_distributions, "FAILED"),
    package_the_tests: (steps.check_contents, "lacks .*schemas.* and has .*tests/"),
}


def take(release: Release, check: Callable[[Release], str]) -> str:
    """Take one step, after the one that makes what it needs."""
    if check is steps.check_contents:
        steps.check_distributions(release)
    return check(release)


def state(release: Release) -> list[str]:
    """Return the commits, tags and changes of a repository and its origin."""
    git = [["status", "--porcelain"], ["show-ref"], ["ls-remote", "origin"], ["rev-parse", "HEAD"]]
    return [run(["git", *command], release.root) for command in git]


@pytest.mark.parametrize("title", QUICK)
def test_a_sound_project_passes_each_step(sound: Release, title: str) -> None:
    """Each step has an outcome to print, and leaves no tag, branch or file in the repository and its origin."""
    before = state(sound)
    [step] = [step for step in steps.STEPS if step.title == title]
    assert take(sound, step.check) != ""
    assert state(sound) == before


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_each_step_finds_its_fault(release: Release, spoil: Callable[[Release], None]) -> None:
    """A project that breaks one step is stopped by it, with the reason."""
    check, reason = FAULTS[spoil]
    spoil(release)
    with pytest.raises(Broken, match=reason):
        take(release, check)


def test_each_quick_step_has_a_fault() -> None:
    """No step is without a project that breaks it; the documentation and the README have tests of their own."""
    assert {step.check for step in steps.STEPS if step.title in QUICK} == {check for check, _ in FAULTS.values()}


@pytest.mark.parametrize(
    ("address", "simple"),
    [
        ("https://Example.com/team/declbind", "example.com/team/declbind"),
        ("https://example.com/team/declbind.git", "example.com/team/declbind"),
        ("git@example.com:team/declbind.git", "example.com/team/declbind"),
        ("ssh://git@example.com/team/declbind/", "example.com/team/declbind"),
        ("/srv/git/declbind", ""),
        ("../declbind", ""),
    ],
)
def test_an_address_is_compared_without_its_form(address: str, simple: str) -> None:
    """A repository has one address, however it is reached."""
    assert steps.simple_address(address) == simple


def test_broken_documentation_is_found(tmp_path: Path) -> None:
    """Pages that build without a warning pass, and a broken link stops the release."""
    release = Release(tmp_path, tmp_path / "output")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/conf.py").write_text('project = "small"\nextensions = ["myst_parser"]\n')
    page = tmp_path / "docs/index.md"
    page.write_text("# Small\n")
    assert steps.check_documentation(release).endswith("pages")
    page.write_text("# Small\n\n[lost](nowhere.md)\n")
    with pytest.raises(Broken, match="nowhere"):
        steps.check_documentation(release)


# The README -------------------------------------------------------------------------------------------------


def follow_readme(release: Release) -> str:
    """Take the step of the README, in a thread of its own because Playwright runs an event loop in it."""
    steps.check_distributions(release)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(steps.check_readme, release).result()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pip install the versions that the suite runs with."""
    monkeypatch.setenv("PIP_CONSTRAINT", str(ROOT / ".ci/constraints.txt"))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("pinned")
def test_the_readme_works_with_the_installed_wheel(sound: Release) -> None:
    """The wheel installs what it needs, and the five steps lead to a live page."""
    assert follow_readme(sound).startswith(f"declbind {sound.version} on Django ")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("pinned")
def test_a_missing_dependency_is_found(release: Release) -> None:
    """A package that the metadata leaves out is not in an empty environment."""
    edit(release.root / "pyproject.toml", lambda text: re.sub(r'^    "jsonschema.*\n', "", text, flags=re.MULTILINE))
    with pytest.raises(AssertionError, match="No module named 'jsonschema'"):
        follow_readme(release)


# The walk ---------------------------------------------------------------------------------------------------


def succeed(release: Release) -> str:
    return release.version


def fail(release: Release) -> str:
    raise Broken("Something is missing.")


def crash(release: Release) -> str:
    raise FileNotFoundError("nothing there")


def test_the_walk_prints_each_step(sound: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """A release without faults has exit status 0, and a line for each step with its outcome."""
    assert walk(sound, [Step("one", succeed), Step("two", succeed)]) == 0
    assert capsys.readouterr().out == f"ok      1. one: {sound.version}\nok      2. two: {sound.version}\n"


@pytest.mark.parametrize(
    ("check", "reason"), [(fail, "Something is missing."), (crash, "FileNotFoundError: nothing there")]
)
def test_the_walk_stops_at_the_first_broken_step(
    sound: Release, capsys: pytest.CaptureFixture[str], check: Callable[[Release], str], reason: str
) -> None:
    """A broken step, or one that crashes, gives exit status 1, and no later step is taken."""
    assert walk(sound, [Step("one", succeed), Step("two", check), Step("three", crash)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [f"BROKEN  2. two: {reason}"]


def test_the_command_ends_with_the_status_of_the_walk(release: Release) -> None:
    """The command prints the steps, and its exit status is 1 if one is broken."""
    leave_changelog_open(release)
    with pytest.raises(Broken) as failed:
        run([sys.executable, "-m", "tests.release"], release.root)
    printed = str(failed.value)
    assert printed.startswith("ok      1. all parts have one version")
    assert "BROKEN  2. the changelog has a dated entry for it" in printed
    assert "3. " not in printed
