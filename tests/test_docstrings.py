"""The form of docstrings and comments: whole sentences, unbroken names, and documented public functions.

The files are parsed, not imported. `docs/` and the JavaScript client have no docstrings and are not read here.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.servers import ROOT

FOLDERS = ("declbind", "admin_ui", "example_site", "tests")
#: Files of the public API, whose functions document their arguments, results and errors.
PUBLIC_FILES = (
    "declbind/audiences.py",
    "declbind/binding_classes.py",
    "declbind/binding_keys.py",
    "declbind/bindings.py",
    "declbind/core/errors.py",
    "declbind/inbound/revocation.py",
    "declbind/live/consumers.py",
    "declbind/outbound/capture.py",
    "declbind/registry.py",
    "declbind/serializers/__init__.py",
    "declbind/serializers/drf.py",
    "declbind/testing.py",
)
#: Files that do not keep the rules yet.
EXEMPT: set[str] = set()

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

#: Words that say nothing beyond a function's name.
EMPTY_WORDS = {"a", "an", "and", "the", "this", "its", "of", "for", "to", "in", "by", "return", "get", "is", "are"}


# Rules --------------------------------------------------------------------------------------------------------------


def find_stray_quotes(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the docstrings with a line that starts with a quotation mark."""
    for node, text in docstrings(tree):
        for number, line in prose_lines(text):
            if line.lstrip().startswith(('"', "'")):
                yield f"{place(node, number)}: the line starts with a quotation mark: {line.strip()[:60]!r}"


def find_broken_names(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the lines of docstrings and comments that end inside a quoted or back-ticked name."""
    for node, text in docstrings(tree):
        for number, line in prose_lines(text):
            if ends_in_name(line):
                yield f"{place(node, number)}: the line ends inside a name: {line.strip()[-60:]!r}"
    if not any(map(ends_in_name, re.findall(r"(?=(#.*))", source))):
        return  # Most files, for which reading the tokens would take long.
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and ends_in_name(token.string):
            yield f"line {token.start[0]}: the comment ends inside a name: {token.string[-60:]!r}"


def find_bad_summaries(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield the function docstrings whose first line is no sentence, or only repeats the name."""
    for node, text in docstrings(tree):
        if not isinstance(node, Function):
            continue
        first = text.split("\n")[0].strip()
        if not first.endswith((".", "?")):
            yield f"{place(node)}: the first line is no sentence: {first!r}"
        elif words_of(first) <= words_of(node.name.replace("_", " ")):
            yield f"{place(node)}: the first line repeats the name {node.name}: {first!r}"


def find_undocumented(tree: ast.Module, source: str) -> Iterator[str]:
    """Yield what the docstrings of public functions leave out: an argument, the result, or an error."""
    for function in public_functions(tree):
        text = ast.get_docstring(function) or ""
        if not text:
            yield f"{place(function)}: {function.name} has no docstring"
            continue
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        names = [one.arg for one in named if one.arg not in ("self", "cls") and not one.arg.startswith("_")]
        for name in names:
            if not re.search(rf"\b{name}\b", text):
                yield f"{place(function)}: {function.name} does not document the argument {name}"
        if returns_something(function) and not re.search(r"\b(Return|Returns|Yield|Yields)\b", text):
            yield f"{place(function)}: {function.name} does not document its result"
        for error in raised_errors(function):
            if not re.search(rf"\b{error}\b", text):
                yield f"{place(function)}: {function.name} does not document the error {error}"


# Parts of the rules -------------------------------------------------------------------------------------------------


def docstrings(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    """Yield the nodes of a module that have a docstring, with its text."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a docstring except code blocks, which are indented and follow an empty line."""
    is_code, was_empty = False, False
    for number, line in enumerate(text.split("\n")):
        is_code = line.startswith("    ") and (is_code or was_empty)
        was_empty = not line.strip() and not is_code
        if not is_code:
            yield number, line


def place(node: Documented, number: int = 0) -> str:
    """Return the line of a docstring for messages."""
    start = node.body[0].lineno
    return f"line {start + number}"


def ends_in_name(line: str) -> bool:
    """Return whether a back-ticked or double-quoted text is open at the end of a line."""
    return line.count("`") % 2 == 1 or re.sub(r"`[^`]*`", "", line).count('"') % 2 == 1


def words_of(text: str) -> set[str]:
    """Return the words of a text that say something, in lower case and in the singular."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return {word.removesuffix("s") for word in found} - EMPTY_WORDS


def public_functions(tree: ast.Module) -> Iterator[Function]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for one in node.body:
                if isinstance(one, Function) and not one.name.startswith("_") and not is_property(one):
                    yield one


def is_property(function: Function) -> bool:
    """Return whether a method is read like an attribute."""
    return any("property" in ast.unparse(one) for one in function.decorator_list)


def returns_something(function: Function) -> bool:
    """Return whether a function is annotated with a result other than None."""
    return function.returns is not None and ast.unparse(function.returns) not in ("None", "NoReturn", "Never")


def raised_errors(function: Function) -> set[str]:
    """Return the names of the exceptions that a function raises itself, outside its inner functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*Documented.__args__, ast.Lambda)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
        waiting.extend(ast.iter_child_nodes(node))
    return found


# Tests --------------------------------------------------------------------------------------------------------------

Rule = Callable[[ast.Module, str], Iterator[str]]


def files() -> list[str]:
    """Return the paths of the Python files that the rules apply to."""
    found = (path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "/migrations/" not in path and "/." not in path)


def check(rule: Rule, paths: list[str]) -> list[str]:
    """Apply a rule to files; return its findings, each with the path."""
    found = []
    for path in sorted(set(paths) - EXEMPT):
        found += [f"{path}, {text}" for text in rule(*load(path))]
    return found


@cache
def load(path: str) -> tuple[ast.Module, str]:
    """Return the parsed file at a path, and its source."""
    source = (ROOT / path).read_text()
    return ast.parse(source), source


@pytest.fixture(autouse=True, scope="module")
def forget_files() -> Iterator[None]:
    """Drop the parsed files after the last test here, because they slow the garbage collector down."""
    yield
    load.cache_clear()


@pytest.mark.parametrize("rule", [find_stray_quotes, find_broken_names, find_bad_summaries])
def test_docstrings_are_well_formed(rule: Rule) -> None:
    """No docstring or comment of the repository breaks a rule of form."""
    assert check(rule, files()) == []


def test_public_functions_are_documented() -> None:
    """The docstrings of the public API name each argument, the result and the errors."""
    assert check(find_undocumented, list(PUBLIC_FILES)) == []


#: A rule, a function that breaks it, and a part of the finding.
BROKEN = {
    "a stray quote": (find_stray_quotes, ["Return the rows of the", '"table.'], "starts with a quotation mark"),
    "a broken back-ticked name": (find_broken_names, ["Return the rows of `the", "table`."], "ends inside a name"),
    "a broken quoted name": (find_broken_names, ['Return the rows of "the', 'table".'], "ends inside a name"),
    "no full stop": (find_bad_summaries, ["Return the rows that", "match."], "no sentence"),
    "an echo of the name": (find_bad_summaries, ["Return the loaded rows."], "repeats the name loaded_rows"),
    "no argument": (find_undocumented, ["Return all.", "", "Raises:", "    LookupError: None."], "the argument table"),
    "no result": (find_undocumented, ["Read a table.", "", "Raises:", "    LookupError: None."], "its result"),
    "no error": (find_undocumented, ["Return the rows of a table."], "the error LookupError"),
}
SOUND = ["Return the rows of a `table`.", "", "Raises:", "    LookupError: There is no such table."]


def write_function(lines: list[str]) -> str:
    """Return the source of a function with a docstring of these lines."""
    text = "\n".join(f"    {line}" if line else "" for line in lines).lstrip()
    return (
        f'def loaded_rows(table: str) -> list[str]:\n    """{text}\n    """\n'
        "    if not table:\n        raise LookupError(table)\n    return [table]\n"
    )


@pytest.mark.parametrize("name", BROKEN)
def test_rule_catches_a_broken_docstring(name: str) -> None:
    """Each rule reports a function that breaks it, and accepts a sound one."""
    rule, lines, finding = BROKEN[name]
    source = write_function(lines)
    [found, *_] = rule(ast.parse(source), source)
    assert finding in found
    sound = write_function(SOUND)
    assert list(rule(ast.parse(sound), sound)) == []


def test_rule_catches_a_broken_comment() -> None:
    """Comments must not end inside a name either."""
    source = "# The rows of `the\n# table`.\n"
    [first, second] = find_broken_names(ast.parse(source), source)
    assert "line 1: the comment ends inside a name" in first
    assert "line 2" in second
