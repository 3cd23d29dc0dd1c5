"""The tools of npm, and the package as npm packs it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.npm.declarations import PACKAGE
from tests.npm.tools import Tools, load_tools


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Return the tools; they are installed if they are missing."""
    return load_tools()


@pytest.fixture(scope="session")
def packed(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked archive that npm would publish."""
    folder = tmp_path_factory.mktemp("packed")
    [packing] = json.loads(tools.node.run_npm("pack", "--json", "--pack-destination", str(folder), cwd=PACKAGE))
    with tarfile.open(folder / packing["filename"]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"
