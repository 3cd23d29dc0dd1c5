"""The build of the documentation, as `make docs` runs it, and broken pages that it must detect."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from declbind.conf.table import SETTINGS
from declbind.console.why.causes import Cause
from declbind.core.errors import CODES
from tests.servers import ROOT


def build(docs: Path, output: Path) -> str:
    """Build a folder of pages; return the warnings and errors."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(docs), str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    output = tmp_path_factory.mktemp("site")
    assert build(ROOT / "docs", output) == ""
    return output


def test_every_page_is_in_the_site(site: Path) -> None:
    """The build has no warning, and every page is in the site and in its contents."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).exists()} == set()


def test_the_site_needs_no_other_host(site: Path) -> None:
    """No font, script or picture comes from another host."""
    pages = "".join(page.read_text() for page in site.rglob("*.html"))
    assert re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+\"", pages) == []


@pytest.mark.parametrize(
    ("page", "anchors"),
    [
        ("reference/record.html", ["stream", "permissions", "capture", "description"]),
        ("reference/commands.html", ["apply", "why", "triggers", "relay"]),
        ("reference/models.html", ["bindingrecord", "event"]),
        ("reference/javascript.html", ["client", "stream", "subscription", "declbinderror"]),
        (
            "reference/python.html",
            ["declbind.Binding.group_names", "declbind.touch", "declbind.testing.Client"],
        ),
        ("reference/codes.html", ["error-codes"]),
    ],
)
def test_the_reference_is_complete(site: Path, page: str, anchors: list[str]) -> None:
    """The generated pages have an entry for each name."""
    text = (site / page).read_text()
    assert [anchor for anchor in anchors if f'id="{anchor}"' not in text] == []


@pytest.mark.parametrize("module", ["declbind", "declbind.testing"])
def test_every_public_name_is_in_the_reference(site: Path, module: str) -> None:
    """The Python API has each name that a public module exports."""
    text = (site / "reference/python.html").read_text()
    names = importlib.import_module(module).__all__
    assert [name for name in names if f'id="{module}.{name}"' not in text] == []


def test_every_setting_is_in_the_reference(site: Path) -> None:
    """The page on settings has a section for each key of DECLBIND, with its default and its values."""
    text = (site / "settings.html").read_text()
    assert [key for key in SETTINGS if f'id="{key.lower().replace("_", "-")}"' not in text] == []
    assert text.count("Default: ") == text.count("Takes ") == len(SETTINGS)


def test_every_cause_is_in_the_reference(site: Path) -> None:
    """The page on causes has each cause that "Why?" may name, with the advice."""
    text = (site / "reference/causes.html").read_text()
    assert [cause.code for cause in Cause if f">{cause.code}<" not in text] == []


# Controls: the build fails ----------------------------------------------------------------------------------


def drop_line(beginning: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"^{re.escape(beginning)}.*\n", "", text, count=1, flags=re.MULTILINE)


def copy_docs(folder: Path, **changes: Callable[[str], str]) -> Path:
    """Copy the pages and their sources, with changes to some of them by name."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("declbind", "schemas", "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (folder / name).symlink_to(ROOT / name)
    for name, change in changes.items():
        [path] = (folder / "docs").rglob(f"{name}.md")
        text = path.read_text()
        path.write_text(change(text))
        assert path.read_text() != text
    return folder / "docs"


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """A link to a page or to a heading that does not exist is an error, in any page."""
    docs = copy_docs(
        tmp_path,
        security=lambda text: text + "\n[lost](guarantees.md#no-such-heading)\n",
        scale=lambda text: text + "\n[lost](no-such-page.md)\n",
    )
    complaints = build(docs, tmp_path / "site")
    assert "no-such-heading" in complaints
    assert "no-such-page" in complaints


@pytest.mark.parametrize(
    ("page", "change", "complaint"),
    [
        ("security", lambda text: text + "\n[lost](../NOTHING.md)\n", "NOTHING.md leads nowhere"),
        ("record", lambda text: text.replace("record-keys", "record-kyes"), "record-kyes"),
        ("settings", lambda text: text.replace("generated: settings", "generated: setings"), "setings"),
        ("checks", drop_line("| `declbind.W001`"), "missing ['declbind.W001']"),
    ],
)
def test_a_broken_page_fails_the_build(tmp_path: Path, page: str, change: Callable[[str], str], complaint: str) -> None:
    """A link out of the site, the name of a part and a table beside its source are checked by the build."""
    assert complaint in build(copy_docs(tmp_path, **{page: change}), tmp_path / "site")


@pytest.mark.parametrize(
    ("page", "change", "complaint"),
    [
        ("checks", drop_line("| `declbind.W001`"), "missing ['declbind.W001']"),
        ("codes", drop_line(f"| `{CODES[0]}`"), f"missing ['{CODES[0]}']"),
        ("codes", drop_line("| `4408`"), "missing ['4408']"),
        ("codes", drop_line("| `expired`"), "missing ['expired']"),
        ("codes", lambda text: text.replace("| `removed`", "| `remvoed`"), "not in the code ['remvoed']"),
    ],
)
def test_a_table_that_differs_from_its_source_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, change: Callable[[str], str], complaint: str
) -> None:
    """The comparison that the build makes names what is missing, unknown or different."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/_extensions"))
    reference = importlib.import_module("reference")
    reference.check_pages(ROOT / "docs")
    with pytest.raises(reference.ExtensionError, match=re.escape(complaint)):
        reference.check_pages(copy_docs(tmp_path, **{page: change}))
