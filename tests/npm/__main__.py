"""Install the packages of npm that the tests use; `python -m tests.npm types` also writes the declarations."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.npm.declarations import TypeErrors, write_declarations
from tests.npm.tools import NpmError, load_tools


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    try:
        tools = load_tools()
        sys.stdout.write(f"==> npm packages: {tools.modules}\n")
        if arguments == ["types"]:
            with tempfile.TemporaryDirectory() as folder:
                for path in write_declarations(tools, Path(folder)):
                    sys.stdout.write(f"==> Written: {path}\n")
    except (NpmError, TypeErrors) as error:
        sys.stderr.write(f"declbind: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
