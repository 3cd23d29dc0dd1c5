"""Building and installing the package as users do, each time into a clean environment without this checkout.

The environments share the dependencies of the running one, so nothing is downloaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.test_readme import write_files

#: Imports the package and prints its location, then which names of the checkout could be imported as well.
LOOK = """
import importlib.util
import admin_ui, declbind
from declbind.core.schema import load_schema
print(admin_ui.__file__)
print(declbind.__file__)
print(load_schema("binding")["title"])
print([name for name in ("tests", "example_site", "schemas") if importlib.util.find_spec(name)])
"""


class Environment:
    """A virtual environment with the dependencies of the running one, but not with declbind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
        # A path in this file is used directly; the `.pth` files in that folder, which lead to the checkout, are not.
        (self.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def site_packages(self) -> Path:
        [path] = (self.folder / "lib").glob("python*/site-packages")
        return path

    def install(self, *arguments: str) -> None:
        """Install with pip; nothing is downloaded, and the running environment's declbind is ignored."""
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", *options, "--ignore-installed"]
        run([*pip, *arguments], ROOT)


def run(command: Sequence[str], folder: Path) -> str:
    """Run a command in a folder, without the variables that lead to the checkout or its settings."""
    dropped = ("DJANGO", "DATABASE", "TEST", "PYTHONPATH")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked_files(*folders: str) -> set[str]:
    """Return the files that belong to the project: those that git tracks or would add."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *folders]
    return {name for name in run(git, ROOT).splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    [path] = distributions.glob("*.whl")
    return path


def test_the_wheel_holds_the_two_packages_and_the_schemas(wheel: Path) -> None:
    """The wheel contains every file of the packages, with the schemas inside declbind, and no other package."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    schemas = {f"declbind/{name}" for name in tracked_files("schemas")}
    assert names == tracked_files("declbind", "admin_ui") | schemas
    assert {name.split("/")[0] for name in names} == {"declbind", "admin_ui"}


def test_the_source_distribution_builds_the_same_wheel(distributions: Path, wheel: Path, tmp_path: Path) -> None:
    """The archive contains the project's own files only, and its wheel has the same files."""
    [path] = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
        archive.extractall(tmp_path, filter="data")
    assert names - {"PKG-INFO"} == tracked_files()
    [root] = tmp_path.iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], root)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(tmp_path / wheel.name) as second:
        assert first.namelist() == second.namelist()


def test_an_editable_install_exposes_the_packages_only(tmp_path: Path) -> None:
    """From another folder, declbind and admin_ui of the checkout can be imported; its tests and its example cannot."""
    environment = Environment(tmp_path / "venv")
    environment.install("--editable", str(ROOT))
    admin_ui, declbind, title, others = run([environment.python, "-c", LOOK], tmp_path).splitlines()
    assert (admin_ui, declbind) == (str(ROOT / "admin_ui/__init__.py"), str(ROOT / "declbind/__init__.py"))
    assert title
    assert others == "[]"


def test_a_path_to_the_checkout_would_expose_more(tmp_path: Path) -> None:
    """Control of the test above: with the checkout itself on the path, its tests can be imported."""
    environment = Environment(tmp_path / "venv")
    (environment.site_packages / "declbind.pth").write_text(str(ROOT))
    [*_, others] = run([environment.python, "-c", LOOK], tmp_path).splitlines()
    assert others == "['tests', 'example_site', 'schemas']"


def test_a_project_runs_on_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """A new project with the wheel passes its checks, migrates, and finds the schema and the JavaScript."""
    environment = Environment(tmp_path / "venv")
    environment.install(str(wheel))
    python = environment.python
    admin_ui, declbind, title, _ = run([python, "-c", LOOK], tmp_path).splitlines()
    assert Path(admin_ui).parent.parent == Path(declbind).parent.parent == environment.site_packages
    assert title
    run([python, "-m", "django", "startproject", "mysite"], tmp_path)
    project = tmp_path / "mysite"
    write_files(project)
    assert "no issues" in run([python, "manage.py", "check", "--fail-level", "WARNING"], project)
    run([python, "manage.py", "migrate", "--verbosity", "0"], project)
    assert "no changes" in run([python, "manage.py", "makemigrations", "--check", "--dry-run"], project).lower()
    run([python, "manage.py", "declbind", "apply", "--yes", "people.json"], project)
    assert "people" in run([python, "manage.py", "declbind", "list"], project)
    for name in ("declbind/declbind.js", "declbind_admin/admin.css"):
        assert str(environment.site_packages) in run([python, "manage.py", "findstatic", name], project)
