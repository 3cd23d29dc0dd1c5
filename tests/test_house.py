"""The rules of the house: sizes of files and functions, uses of `Any`, and the words of the documentation.

What breaks a rule today is listed with its present size. A test fails if it grows, and if it no longer breaks the rule,
so that the lists can only shrink.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers import ROOT

FOLDERS = ("declbind", "admin_ui", "tests", "example_site")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
#: How often `Any` may occur in a thousand lines of a package.
MAX_ANY = 25
#: The comment above a long function that says why it is one function.
JUSTIFICATION = re.compile(r"^\s*# Long: \w.+")
#: Files of others, and files that programs write.
FOREIGN = re.compile(r"/(migrations|vendor|__pycache__|node_modules|\.venv[^/]*)/")
#: Files that stay whole, with the reason.
WHOLE_FILES = {
    "declbind/static/declbind/declbind.js": "Under Django's hashed names it cannot import parts of itself; "
    "tests/npm/test_package.py::test_modules_work_under_hashed_names shows it.",
}
#: Modules whose public names users import.
PUBLIC_FILES = (
    "declbind/binding_keys.py",
    "declbind/binding_rows.py",
    "declbind/bindings.py",
    "declbind/contrib/tenants.py",
    "declbind/core/errors.py",
    "declbind/inbound/revocation.py",
    "declbind/live/consumers.py",
    "declbind/outbound/capture.py",
    "declbind/registry.py",
    "declbind/routing.py",
    "declbind/serializers/__init__.py",
    "declbind/serializers/drf.py",
    "declbind/tenancy.py",
    "declbind/testing.py",
    "declbind/tokens.py",
)
#: The pages in which permissions are called permissions.
PAGES = ("README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs")

# What breaks the rules today -----------------------------------------------------------------------------------------

LONG_FILES: Mapping[str, int] = {}
LONG_FUNCTIONS: Mapping[str, int] = {
    "tests/benchmarks/crowd.py:_burst": 51,
    "tests/browser/console.py:fill_console": 71,
    "tests/guests/visits.py:visit_admin": 51,
    "tests/tenants/revocation.py:_lose_under_load": 51,
    "tests/tenants/sabotage.py:sabotage": 73,
    "tests/test_why_agreement.py:play": 61,
}
UNTYPED_PACKAGES: Mapping[str, int] = {}
UNTYPED_SIGNATURES: Mapping[str, int] = {}

# Rules ---------------------------------------------------------------------------------------------------------------


def find_files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Yield the files of the project below the folders, sorted."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and not FOREIGN.search(f"/{path.relative_to(root).as_posix()}"):
                yield path


def long_files(root: Path) -> dict[str, int]:
    """Return the files of more than 400 lines, with their lines, without those that stay whole."""
    sizes = {
        path.relative_to(root).as_posix(): len(path.read_text().splitlines())
        for path in find_files(root, ".py", ".js", ".css", ".html")
    }
    return {path: size for path, size in sizes.items() if size > MAX_FILE_LINES and path not in WHOLE_FILES}


def long_functions(root: Path) -> dict[str, int]:
    """Return the functions of more than 50 lines without a comment `# Long: REASON` above them, with their lines."""
    found = {}
    for path in find_files(root, ".py"):
        source = path.read_text()
        lines = source.splitlines()
        for name, node in named_functions(ast.parse(source)):
            size = (node.end_lineno or 0) - node.lineno + 1
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if size > MAX_FUNCTION_LINES and not (first > 1 and JUSTIFICATION.match(lines[first - 2])):
                found[f"{path.relative_to(root).as_posix()}:{name}"] = size
    return found


Function = ast.FunctionDef | ast.AsyncFunctionDef


def named_functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods below a node, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}{child.name}" if isinstance(child, Function | ast.ClassDef) else prefix.removesuffix(".")
        if isinstance(child, Function):
            yield name, child
        yield from named_functions(child, f"{name}." if name else "")


def untyped_packages(root: Path) -> dict[str, int]:
    """Return the packages that use `Any` more than 25 times in a thousand lines, with that number, rounded up."""
    lines: dict[str, int] = {}
    uses: dict[str, int] = {}
    for path in find_files(root, ".py"):
        package = path.parent.relative_to(root).as_posix()
        if package.split("/")[0] in ("declbind", "admin_ui"):
            text = path.read_text()
            lines[package] = lines.get(package, 0) + len(text.splitlines())
            uses[package] = uses.get(package, 0) + len(re.findall(r"\bAny\b", text))
    rates = {package: -(-1_000 * uses[package] // lines[package]) for package in lines if lines[package]}
    return {package: rate for package, rate in rates.items() if rate > MAX_ANY}


def untyped_signatures(root: Path, files: tuple[str, ...] = PUBLIC_FILES) -> dict[str, int]:
    """Return the public functions, attributes and aliases whose annotations contain `Any`, with the number of uses."""
    found = {}
    for file in files:
        for name, given in public_annotations(ast.parse((root / file).read_text())):
            count = sum(len(re.findall(r"\bAny\b", ast.unparse(one))) for one in given)
            if count:
                found[f"{file}:{name}"] = count
    return found


def public_annotations(tree: ast.Module) -> Iterator[tuple[str, list[ast.expr]]]:
    """Yield the public names of a module and of its public classes, each with its annotations."""
    bodies = [("", tree.body)]
    bodies += [(f"{one.name}.", one.body) for one in tree.body if isinstance(one, ast.ClassDef) and is_public(one.name)]
    for prefix, body in bodies:
        for node in body:
            if isinstance(node, Function) and is_public(node.name):
                arguments = node.args
                named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                named += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
                given = [node.returns, *(one.annotation for one in named)]
                yield prefix + node.name, [one for one in given if one is not None]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_public(node.target.id):
                # Of an alias, the value is what it stands for.
                is_alias = "TypeAlias" in ast.unparse(node.annotation) and node.value is not None
                yield prefix + node.target.id, [node.value if is_alias and node.value else node.annotation]
            elif isinstance(node, ast.Assign) and not prefix and isinstance(node.value, ast.Subscript):
                yield ast.unparse(node.targets[0]), [node.value]


def is_public(name: str) -> bool:
    """Return whether a name is for users: ``__init__`` and ``__call__`` are, other names with an underscore are not."""
    return name in ("__init__", "__call__") or not name.startswith("_")


def misused_rights(root: Path) -> list[str]:
    """Return the lines that say "rights" for permissions. "Rights models" is the name of a kind of models."""
    found = []
    for page in PAGES:
        paths = sorted((root / page).rglob("*.md")) if (root / page).is_dir() else [root / page]
        for path in paths:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"\brights\b(?![- ]models?\b)", line, re.IGNORECASE):
                    found.append(f"{path.relative_to(root).as_posix()}:{number}")
    return found


def changes_of(found: Mapping[str, int], listed: Mapping[str, int]) -> dict[str, str]:
    """Return how the present state differs from a list that may only shrink, by what to do about it."""
    changes = {}
    for name in sorted(found.keys() | listed.keys()):
        now, before = found.get(name), listed.get(name)
        if now is None:
            changes[name] = "keeps the rule now: remove it from the list"
        elif before is None:
            changes[name] = f"breaks the rule with {now}"
        elif now > before:
            changes[name] = f"has grown from {before} to {now}"
    return changes


# Tests ---------------------------------------------------------------------------------------------------------------

RULES = {
    "files": (long_files, LONG_FILES),
    "functions": (long_functions, LONG_FUNCTIONS),
    "packages": (untyped_packages, UNTYPED_PACKAGES),
    "signatures": (untyped_signatures, UNTYPED_SIGNATURES),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_repository_keeps_the_rule(rule: str) -> None:
    """Nothing breaks the rule but what is listed, and the listed ones have not grown."""
    find, listed = RULES[rule]
    assert changes_of(find(ROOT), listed) == {}


def test_permissions_are_called_permissions() -> None:
    """The documentation has one word for what users may do."""
    assert misused_rights(ROOT) == []


def test_the_public_modules_exist() -> None:
    """Each public name is in one of the modules whose signatures are read."""
    assert [file for file in PUBLIC_FILES if not (ROOT / file).exists()] == []


# Controls ------------------------------------------------------------------------------------------------------------


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize("name", ["declbind/long.py", "admin_ui/static/long.js", "tests/core/long.py"])
def test_a_long_file_is_found(tmp_path: Path, name: str) -> None:
    """A file of 401 lines breaks the rule, one of 400 does not, and migrations are not read."""
    write(tmp_path, name, "\n" * 400)
    write(tmp_path, "declbind/migrations/0001_initial.py", "\n" * 500)
    assert long_files(tmp_path) == {}
    write(tmp_path, name, "\n" * 401)
    assert long_files(tmp_path) == {name: 401}


def test_a_long_function_is_found(tmp_path: Path) -> None:
    """A function of 51 lines breaks the rule, unless the comment above it says why it is long."""
    body = "        pass\n" * 50
    write(tmp_path, "declbind/a.py", f"class A:\n    @property\n    def b(self):\n{body}")
    assert long_functions(tmp_path) == {"declbind/a.py:A.b": 51}
    write(tmp_path, "declbind/a.py", f"class A:\n    # Long: one table.\n    @property\n    def b(self):\n{body}")
    assert long_functions(tmp_path) == {}
    write(tmp_path, "declbind/a.py", f"class A:\n    def b(self):\n{body.removesuffix('        pass' + chr(10))}")
    assert long_functions(tmp_path) == {}


def test_a_package_without_types_is_found(tmp_path: Path) -> None:
    """The rate of `Any` is that of the files of one package, without the packages inside of it."""
    write(tmp_path, "declbind/a.py", "value: Any\n" + "\n" * 38)
    write(tmp_path, "declbind/core/b.py", "\n" * 500)
    assert untyped_packages(tmp_path) == {"declbind": 26}
    write(tmp_path, "declbind/a.py", "value: Any\n" + "\n" * 39)
    assert untyped_packages(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(a: Any) -> int: ...", ["f"]),
        ("def f(a: int) -> dict[str, Any]: ...", ["f"]),
        ("async def f(*a: int, **b: Any) -> int: ...", ["f"]),
        ("class A:\n    b: ClassVar[Any] = 1", ["A.b"]),
        ("class A:\n    def __init__(self, b: Any) -> None: ...", ["A.__init__"]),
        ("Frame: TypeAlias = dict[str, Any]", ["Frame"]),
        ("Serializer = Callable[[Any], str]", ["Serializer"]),
        ("def _f(a: Any) -> Any: ...\nclass _A:\n    b: Any = 1\n_c: Any = 1", []),
        ("def f(a: object) -> int:\n    b: Any = a\n    return b", []),
    ],
)
def test_a_public_signature_without_types_is_found(tmp_path: Path, text: str, names: list[str]) -> None:
    """`Any` is found in arguments, results, attributes and aliases, but not in private names or inside functions."""
    write(tmp_path, "declbind/a.py", text)
    assert list(untyped_signatures(tmp_path, ("declbind/a.py",))) == [f"declbind/a.py:{name}" for name in names]


def test_another_word_for_permissions_is_found(tmp_path: Path) -> None:
    """Rights are found in each page, rights models are not."""
    for page in PAGES[:-1]:
        write(tmp_path, page, "Rights models, `RIGHTS_MODELS`, a right, `bind_rights_models`.\n")
    write(tmp_path, "docs/howto/a.md", "Permissions.\nUsers with rights.\n")
    assert misused_rights(tmp_path) == ["docs/howto/a.md:2"]


def test_a_list_can_only_shrink() -> None:
    """What is new, has grown, or keeps the rule by now is reported; what has shrunk but breaks the rule is not."""
    listed = {"same": 500, "smaller": 600, "larger": 500, "mended": 500}
    found = {"same": 500, "smaller": 550, "larger": 501, "new": 401}
    assert changes_of(found, listed) == {
        "larger": "has grown from 500 to 501",
        "mended": "keeps the rule now: remove it from the list",
        "new": "breaks the rule with 401",
    }


# The recipes of CONTRIBUTING.md -------------------------------------------------------------------------------------


def missing_references(text: str) -> list[str]:
    """Return the files and tests that a text names and that do not exist."""
    named = re.findall(r"`((?:admin_ui|declbind|docs|schemas|tests)/[\w./]+\.\w+)(?:::(\w+))?`", text)
    return [
        f"{path}::{name}" if name else path
        for path, name in named
        if not (ROOT / path).exists() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]


def test_the_recipes_name_what_exists() -> None:
    """Each file and each test that CONTRIBUTING.md names is in the repository."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert missing_references(text) == []
    # Negative control: names that do not exist are found.
    broken = text.replace("`declbind/conf/table.py`", "`declbind/conf/tables.py`").replace(
        "::test_every_id", "::test_an_id"
    )
    assert set(missing_references(broken)) == {
        "declbind/conf/tables.py",
        "tests/test_checks.py::test_an_id_is_documented",
    }
