"""The structure of the repository: allowed imports, the purity of the core, the entries at the top level.

The files are read, never imported. An import inside a function or under TYPE_CHECKING therefore counts too, because
it is a dependency for the reader.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import ROOT

# A file may import from its own line and the lines above it.
LAYERS = [
    ["declbind.core"],
    [
        "declbind.conf",
        "declbind.signals",
        "declbind.asgi_types",
        "declbind.batches",
        "declbind.codenames",
        "declbind.exposure",
        "declbind.django_types",
        "declbind.english",
        "declbind.field_validation",
        "declbind.fields",
        "declbind.obstacles",
        "declbind.record_validation",
        "declbind.record_warnings",
        "declbind.relations",
        "declbind.rights_models",
        "declbind.serializers",
        "declbind.stored_rows",
        "declbind.stored_values",
        "declbind.value_validation",
    ],
    ["declbind.models", "declbind.migrations"],
    ["declbind.configuration_version"],
    ["declbind.equality"],
    [
        "declbind.audiences",
        "declbind.binding_classes",
        "declbind.binding_keys",
        "declbind.binding_rows",
        "declbind.bindings",
        "declbind.resolved_binding",
        "declbind.row_validation",
        "declbind.validation_errors",
    ],
    ["declbind.sources"],
    ["declbind.registry", "declbind.registry_entries", "declbind.code_digest", "declbind.growth"],
    ["declbind.tenancy"],
    ["declbind.tokens"],
    ["declbind.outbound"],
    ["declbind.inbound"],
    ["declbind.live"],
    [
        "declbind.checks",
        "declbind.routing",
        "declbind.urls",
        "declbind.testing",
        "declbind.apps",
    ],
    ["declbind.console"],
    ["declbind.management", "declbind.contrib"],
    # The package's public names come from every layer; code inside the package does not use them.
    ["declbind"],
    ["admin_ui.common"],
    ["admin_ui.editor"],
    ["admin_ui.traffic"],
    ["admin_ui.bindings"],
    ["admin_ui.pages"],
    ["admin_ui.menu", "admin_ui.screens", "admin_ui.templatetags"],
    ["admin_ui"],
]
CORE_STDLIB_BANS = {"asyncio", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "time"}
CORE_PACKAGES = {"jsonschema", "referencing"}
CLOCK_READINGS = {"now", "today", "utcnow"}
OUTSIDERS = {"example_site", "tests"}
#: How often `Any` may occur in a thousand lines of capture.
MAX_ANY = 25
TOP_LEVEL = {
    ".ci", ".editorconfig", ".github", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md",
    "LICENSE", "Makefile", "README.md", "SECURITY.md", "admin_ui", "declbind", "docs", "example_site", "pyproject.toml",
    "schemas", "tests",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import of one module: `eager` if it happens as soon as the importing file is imported."""

    importer: str
    target: str
    place: str
    eager: bool


class Tree:
    """The parsed files of the packages below `root`, by module name."""

    def __init__(self, root: Path, packages: tuple[str, ...] = ("declbind", "admin_ui")) -> None:
        self.root = root
        paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
        self.paths = {self._module_name(path): path for path in paths}
        self.trees = {name: ast.parse(path.read_text(), str(path)) for name, path in self.paths.items()}

    def _module_name(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def place(self, module: str, node: ast.AST) -> str:
        return f"{self.paths[module].relative_to(self.root)}:{getattr(node, 'lineno', 0)}"

    def imports(self) -> Iterator[Import]:
        for module, tree in self.trees.items():
            eager = set(self._eager_nodes(tree))
            for node in ast.walk(tree):
                for target in self._targets(module, node):
                    yield Import(module, target, self.place(module, node), node in eager)

    def _eager_nodes(self, node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for child in ast.iter_child_nodes(node):
            is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not is_typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from self._eager_nodes(child)

    def _targets(self, module: str, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self._base(module, node)
            for alias in node.names:
                # `from declbind import conf` means the module, `from declbind import Binding` the public name.
                full = f"{base}.{alias.name}"
                yield full if full in self.paths else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "import_module",
            "import_string",
            "__import__",
        }:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        is_package = self.paths[module].name == "__init__.py"
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts, *([node.module] if node.module else [])])


def layer_of(module: str) -> int | None:
    """Return the layer of `module` in LAYERS, by its longest known prefix; None for an unknown module."""
    owner = [
        (name, line)
        for line, names in enumerate(LAYERS)
        for name in names
        # Only the package itself has that name: a new module below it must choose its layer.
        if module == name or (name != "declbind" and module.startswith(f"{name}."))
    ]
    return max(owner)[1] if owner else None


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def find_direction_faults(tree: Tree) -> list[str]:
    """Return the imports from lower layers, or from the program to its tests or its example."""
    faults = [
        f"{tree.place(module, tree.trees[module])}: {module} has no layer; give it one in LAYERS"
        for module in tree.paths
        if layer_of(module) is None
    ]
    for found in tree.imports():
        if found.target.split(".")[0] in OUTSIDERS:
            faults.append(f"{found.place}: {found.importer} imports {found.target}, which users do not have")
            continue
        own, other = layer_of(found.importer), layer_of(found.target)
        if own is not None and other is not None and other > own:
            faults.append(f"{found.place}: {found.importer} imports {found.target}, from a lower layer")
    return sorted(set(faults))


def find_core_faults(tree: Tree, package: str = "declbind.core") -> list[str]:
    """Return the core's forbidden imports: packages other than its few, and clocks, sockets and threads."""
    faults = []
    for found in tree.imports():
        top = found.target.split(".")[0]
        allowed = top in CORE_PACKAGES or (top in sys.stdlib_module_names and top not in CORE_STDLIB_BANS)
        if is_inside(found.importer, package) and not is_inside(found.target, "declbind.core") and not allowed:
            faults.append(f"{found.place}: the core imports {found.target}")
    for module, parsed in tree.trees.items():
        for node in ast.walk(parsed):
            if is_inside(module, package) and isinstance(node, ast.Call):
                owner, _, name = ast.unparse(node.func).rpartition(".")
                if name in CLOCK_READINGS and owner.split(".")[-1] in {"date", "datetime"}:
                    faults.append(f"{tree.place(module, node)}: the core reads a clock; take the time as an argument")
    return sorted(set(faults))


def find_cycles(tree: Tree, is_drawn: bool = False) -> list[str]:
    """Return the modules that import each other while being imported, each cycle once.

    With `is_drawn`, imports for types and inside functions count too, as in a diagram of the modules.
    """
    edges: dict[str, set[str]] = {module: set() for module in tree.paths}
    for found in tree.imports():
        if (found.eager or is_drawn) and found.target in edges and found.target != found.importer:
            edges[found.importer].add(found.target)
    cycles: set[str] = set()
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            cycle = trail[trail.index(module) :]
            first = cycle.index(min(cycle))
            cycles.add(" -> ".join([*cycle[first:], *cycle[:first], cycle[first]]))
        elif module not in done:
            for target in sorted(edges[module]):
                walk(target, [*trail, module])
            done.add(module)

    for module in sorted(edges):
        walk(module, [])
    return sorted(cycles)


def count_of_any(package: Path) -> float:
    """Return how often the files of a package use `Any`, imports included, per thousand lines."""
    texts = [path.read_text() for path in sorted(package.rglob("*.py"))]
    return 1_000 * sum(len(re.findall(r"\bAny\b", text)) for text in texts) / sum(map(len, map(str.splitlines, texts)))


@pytest.fixture(scope="module")
def own_tree() -> Tree:
    """Return the tree of this repository."""
    return Tree(ROOT)


def test_imports_go_up_the_layers_only(own_tree: Tree) -> None:
    """No file imports from a layer below its own, and the program imports neither its tests nor its example."""
    assert find_direction_faults(own_tree) == []


def test_the_core_is_pure(own_tree: Tree) -> None:
    """The core imports no Django, no Channels, no clock and no socket."""
    assert find_core_faults(own_tree) == []


def test_the_tests_of_the_core_need_no_django() -> None:
    """The tests of the core follow the core's own rule, except for testing tools."""
    tree = Tree(ROOT / "tests", ("core",))
    tops = {found.target.split(".")[0]: found.place for found in tree.imports()}
    assert {top: place for top, place in tops.items() if top in {"django", "channels", "asgiref"}} == {}
    faults = [
        f"{found.place}: {found.target}"
        for found in tree.imports()
        if is_inside(found.target, "declbind") and not is_inside(found.target, "declbind.core")
        if found.target != "declbind"
    ]
    assert faults == []


def test_no_module_imports_itself_in_a_cycle(own_tree: Tree) -> None:
    """Files of one layer may use each other, but each can be imported first."""
    assert find_cycles(own_tree) == []


def test_a_diagram_of_the_modules_has_no_cycle(own_tree: Tree) -> None:
    """A file uses a protocol for what it needs of the files that use it."""
    assert find_cycles(own_tree, is_drawn=True) == []


def test_capture_names_the_types_of_its_values() -> None:
    """The files of capture name real types, which helps readers and mypy."""
    assert count_of_any(ROOT / "declbind" / "outbound") <= MAX_ANY


def test_the_top_level_has_no_other_entries() -> None:
    """The top level contains only what CONTRIBUTING.md explains."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert listed.returncode == 0, f"this test reads git's list of files, and git said: {listed.stderr}"
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} - TOP_LEVEL == set()


# Negative controls ------------------------------------------------------------------------------------------


def plant(root: Path, files: dict[str, str]) -> Tree:
    """Write a small, correct tree with `files` merged over it."""
    sound = {
        "declbind/__init__.py": "from declbind.bindings import Binding",
        "declbind/core/__init__.py": "",
        "declbind/core/spec.py": "import json\nfrom datetime import date\nfrom .errors import ConfigError",
        "declbind/core/errors.py": "",
        "declbind/bindings.py": "from django.db import models\nfrom declbind.core import spec",
        "declbind/live/__init__.py": "",
        "declbind/live/consumers.py": "from declbind.bindings import Binding\nfrom .nodes import Node",
        "declbind/live/nodes.py": "import time",
        "admin_ui/__init__.py": "",
        "admin_ui/views.py": "import declbind\nfrom declbind import bindings",
    }
    for name, text in {**sound, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Tree(root)


def test_a_correct_tree_has_no_faults(tmp_path: Path) -> None:
    """The controls below start from a tree that passes, so each fails for its own reason only."""
    tree = plant(tmp_path, {})
    assert (find_direction_faults(tree), find_core_faults(tree), find_cycles(tree)) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("bindings", "from declbind.live import consumers", "declbind.live.consumers, from a lower"),
        ("bindings", "from .live.consumers import X", "declbind.live.consumers, from a lower"),
        ("bindings", "def f():\n    import declbind.live.nodes", "declbind.live.nodes, from a lower"),
        ("bindings", "import importlib\nimportlib.import_module('declbind.live')", "declbind.live, from"),
        ("core/spec", "if TYPE_CHECKING:\n    from .. import bindings", "declbind.bindings, from a lower"),
        ("live/nodes", "from admin_ui import views", "admin_ui.views, from a lower"),
        ("live/nodes", "from declbind import Binding", "declbind, from a lower layer"),
        ("live/nodes", "import example_site.example.models", "which users do not have"),
        ("live/nodes", "from tests import servers", "which users do not have"),
        ("gadgets", "", "declbind.gadgets has no layer"),
    ],
)
def test_a_wrong_direction_is_found(tmp_path: Path, name: str, text: str, fault: str) -> None:
    """Whatever its form, at the top or deep in the file, the import is reported once with its place."""
    faults = find_direction_faults(plant(tmp_path, {f"declbind/{name}.py": text}))
    assert len(faults) == 1
    assert fault in faults[0]
    assert faults[0].startswith(f"declbind/{name}.py:")


@pytest.mark.parametrize(
    "text",
    [
        "import django",
        "from django.utils import timezone",
        "import channels.layers",
        "from asgiref.sync import sync_to_async",
        "import asyncio",
        "def f():\n    from time import monotonic",
        "import socket",
        "import threading",
        "import redis",
        "from datetime import datetime\nmoment = datetime.now()",
        "import datetime\nday = datetime.date.today()",
    ],
)
def test_an_impure_core_is_found(tmp_path: Path, text: str) -> None:
    """Each way of importing the framework, the clock or the network in the core is reported."""
    assert len(find_core_faults(plant(tmp_path, {"declbind/core/spec.py": text}))) == 1


def test_a_cycle_is_found(tmp_path: Path) -> None:
    """Two files that import each other first are reported; an import inside a function is not."""
    eager = {"declbind/live/nodes.py": "from .consumers import X"}
    circle = "declbind.live.consumers -> declbind.live.nodes -> declbind.live.consumers"
    assert find_cycles(plant(tmp_path, eager)) == [circle]
    late = {"declbind/live/nodes.py": "def f():\n    from .consumers import X"}
    assert find_cycles(plant(tmp_path, late)) == []
    assert find_cycles(plant(tmp_path, late), is_drawn=True) == [circle]
    typed = {"declbind/live/nodes.py": "if TYPE_CHECKING:\n    from .consumers import X"}
    assert find_cycles(plant(tmp_path, typed)) == []
    assert find_cycles(plant(tmp_path, typed), is_drawn=True) == [circle]


def test_code_without_types_is_found(tmp_path: Path) -> None:
    """One use in twenty lines is more than allowed. Words that only contain the name do not count."""
    lines = ["import typing", "def read(row: typing.Any) -> None: ...", *["ANY = anyone = Anybody = 1"] * 18]
    (tmp_path / "rows.py").write_text("\n".join(lines))
    assert count_of_any(tmp_path) == 50
    assert count_of_any(tmp_path) > MAX_ANY
