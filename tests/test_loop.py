"""The commands of a developer's loop: they leave out Django where they can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.servers import ROOT

COUNT_IMPORTS = """
import sys, pytest
status = pytest.main(sys.argv[1:])
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules} & {"channels", "declbind", "django"}))
sys.exit(status)
"""


def imported_by(arguments: Sequence[str]) -> str:
    """Run pytest in a process of its own, and return which of three packages it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_IMPORTS, "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("path", ["tests/core", "tests/core/test_rate.py"])
def test_the_core_is_tested_without_django(path):
    """Naming `tests/core` on the command line is enough, since it has its own settings."""
    assert imported_by([path, "-k", "rate or recent"]) == "imported: declbind"


def test_a_run_with_django_is_detected():
    """Negative control: with another test beside them, the settings of the project apply."""
    found = imported_by(["tests/core/test_rate.py", "tests/test_rounds.py", "-k", "rate"])
    assert found == "imported: channels declbind django"
