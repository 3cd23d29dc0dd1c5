"""The type declarations of the npm package, made by TypeScript from the JSDoc comments of its modules."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.npm.tools import Tools
from tests.release.project import NPM_FOLDER
from tests.servers import ROOT

PACKAGE = ROOT / NPM_FOLDER
STRICT = (
    "--strict", "--noUncheckedSideEffectImports", "--target", "es2022", "--module", "nodenext",
    "--lib", "es2022,dom,dom.iterable", "--types", "",
)  # fmt: skip
#: `@internal` members are left out of the declarations.
FROM_JAVASCRIPT = ("--allowJs", "--checkJs", "--declaration", "--emitDeclarationOnly", "--stripInternal")


class TypeErrors(Exception):
    """The modules have errors of types."""


def make_declarations(tools: Tools, folder: Path, package: Path = PACKAGE) -> dict[str, str]:
    """Check the modules of the package strictly, and return the declarations by file name.

    Args:
        tools: The tools of npm.
        folder: An empty folder to work in.
        package: The folder with the modules.

    Raises:
        TypeErrors: There are errors of types, each in a line of the message.
    """
    source = folder / "declbind"
    source.mkdir()
    modules = sorted(package.glob("*.js"))
    for path in [package / "package.json", *modules]:
        shutil.copy(path, source)
    tools.link_modules(folder)
    names = [path.name for path in modules]
    report = tools.run_tsc(*STRICT, *FROM_JAVASCRIPT, "--outDir", str(folder / "types"), *names, cwd=source)
    if report:
        raise TypeErrors(report)
    return {path.name: path.read_text() for path in (folder / "types").rglob("*.d.ts")}


def write_declarations(tools: Tools, folder: Path) -> list[Path]:
    """Write the declarations into the package; return the files."""
    made = make_declarations(tools, folder)
    for path in PACKAGE.glob("*.d.ts"):
        path.unlink()
    for name, text in made.items():
        (PACKAGE / name).write_text(text)
    return [PACKAGE / name for name in made]
