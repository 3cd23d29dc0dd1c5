"""Building and installing the package as users do, each time into a clean environment without this checkout.

The environments share the dependencies of the running one, so nothing is downloaded.
"""

from __future__ import annotations

import email
import email.message
import json
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import declbind
from tests.release.project import (
    NPM_FOLDER,
    Broken,
    build_distributions,
    copy_project,
    read_versions,
    run,
    tracked_files,
)
from tests.release.steps import expected_files, wheel_files
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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    build_distributions(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    [path] = distributions.glob("*.whl")
    return path


def test_the_wheel_holds_the_two_packages_and_the_schemas(wheel: Path) -> None:
    """The wheel contains every file of the packages, with the schemas inside declbind, and no other package."""
    with zipfile.ZipFile(wheel) as archive:
        names = wheel_files(archive)
    assert names == expected_files(ROOT)
    assert {name.split("/")[0] for name in names} == {"declbind", "admin_ui"}


@pytest.mark.parametrize(
    "pattern",
    [
        "admin_ui/templates/declbind_admin/*.html",
        "admin_ui/static/declbind_admin/*.css",
        "declbind/static/declbind/declbind.js",
        "declbind/schemas/*.schema.json",
        "declbind/py.typed",
        "declbind/migrations/*.py",
        "declbind/locale/*/LC_MESSAGES/django.mo",
    ],
)
def test_the_wheel_holds_each_kind_of_data(wheel: Path, pattern: str) -> None:
    """The wheel has the templates, static files, schemas, migrations and the marker of types."""
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if Path(name).match(pattern)] != []


def uncompiled(names: set[str]) -> set[str]:
    """Return the catalogues of translations without a compiled one beside them, which Django would ignore."""
    catalogues = {name for name in names if name.endswith(".po")}
    return {name for name in catalogues if name.removesuffix(".po") + ".mo" not in names}


def test_each_translation_is_compiled(wheel: Path) -> None:
    """The wheel has every catalogue of translations in compiled form, and an uncompiled one is found."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert uncompiled(names) == set()
    folder = "admin_ui/locale/de/LC_MESSAGES"
    assert uncompiled({f"{folder}/django.po", f"{folder}/django.mo"}) == set()
    assert uncompiled({f"{folder}/django.po"}) == {f"{folder}/django.po"}


def test_the_source_distribution_builds_the_same_wheel(distributions: Path, wheel: Path, tmp_path: Path) -> None:
    """The archive contains the project's own files only, and its wheel has the same files."""
    [path] = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
        archive.extractall(tmp_path, filter="data")
    assert names - {"PKG-INFO"} == tracked_files(ROOT)
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


# Metadata ---------------------------------------------------------------------------------------------------


def read_metadata(wheel: Path) -> email.message.Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def check_with_twine(folder: Path) -> str:
    """Check what was built as the package index does, with warnings as errors."""
    return run([sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(folder.iterdir()))], folder)


def test_the_package_index_would_accept_the_metadata(distributions: Path) -> None:
    """Both distributions pass the strict check of the tool that uploads them."""
    assert check_with_twine(distributions).count("PASSED") == 2


def test_a_broken_description_is_found(tmp_path: Path) -> None:
    """Control of the test above: a description that cannot be rendered is reported."""
    project = copy_project(ROOT, tmp_path / "project")
    (project / "README.rst").write_text(".. no-such-directive::\n")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('readme = "README.md"', 'readme = "README.rst"'))
    build_distributions(project, tmp_path / "dist")
    with pytest.raises(Broken, match="FAILED"):
        check_with_twine(tmp_path / "dist")


def test_the_metadata_says_what_an_index_shows(wheel: Path) -> None:
    """The wheel names its license, where its source is, and what it runs on."""
    metadata = read_metadata(wheel)
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert {label.split(",")[0] for label in metadata.get_all("Project-URL", [])} >= {
        "Source",
        "Documentation",
        "Issues",
    }
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert [line for line in metadata.get_all("Classifier", []) if line.startswith("License ::")] == []
    assert metadata["Description-Content-Type"] == "text/markdown"


# Versions ---------------------------------------------------------------------------------------------------


def test_one_tag_gives_one_version(distributions: Path, wheel: Path) -> None:
    """The distributions, their metadata, the documentation and the npm package have the version of the module."""
    assert set(read_versions(ROOT).values()) == {declbind.__version__}
    assert read_metadata(wheel)["Version"] == declbind.__version__
    assert {path.name.removeprefix("declbind-").split("-py3")[0] for path in distributions.iterdir()} == {
        declbind.__version__,
        f"{declbind.__version__}.tar.gz",
    }


def test_the_version_is_written_once() -> None:
    """The metadata has no version of its own, so a release changes one line of Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


@pytest.mark.parametrize("part", ["pyproject.toml", "docs/conf.py", f"{NPM_FOLDER}/package.json"])
def test_a_second_version_is_found(tmp_path: Path, part: str) -> None:
    """Control of the tests above: a part with a version of its own differs from the others."""
    project = copy_project(ROOT, tmp_path / "project")
    path = project / part
    if path.suffix == ".json":
        path.write_text(json.dumps({"name": "declbind", "version": "9.9.9"}))
    else:
        before = path.read_text()
        after = before.replace('dynamic = ["version"]', 'version = "9.9.9" #')
        path.write_text(after.replace("release = __version__", 'release = "9.9.9"'))
        assert path.read_text() != before
    versions = dict(read_versions(project))
    assert versions.pop(part) == "9.9.9"
    assert set(versions.values()) == {declbind.__version__}
