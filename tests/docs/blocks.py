"""The fenced code blocks of the documentation, each with the comment above it.

The comment says what the block needs, where it cannot be seen from the block itself:

- `<!-- record -->`, `<!-- request -->`, `<!-- frame -->`: which schema a JSON block follows;
- `<!-- record of another project -->`: its model does not exist here, so only its shape is checked;
- `<!-- with: note, django.db.transaction -->`: names that a Python block uses without defining them. A dotted one is
  imported, the others are made by `runner.NAMES`;
- `<!-- not run: REASON -->`: the block is an illustration. `test_few_blocks_are_not_run` limits their number.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,})(?P<language>\S*)")
COMMENT = re.compile(r"^ *<!-- (.*?) -->$")
#: The first line of a printed file names the file in a comment.
FILE_NAME = re.compile(r"(?:#|<!--|//|;) (\S+\.\w+)(?: -->)?\n")


@dataclass(frozen=True)
class Block:
    """One code block: where it is, what it says, and the comment above it ("" for none)."""

    page: str
    line: int
    language: str
    code: str
    comment: str = ""

    @property
    def place(self) -> str:
        """The page and the line, as an editor opens them."""
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str:
        """The name of the file that the block prints, "" if it is not a whole file."""
        match = FILE_NAME.match(self.code)
        return match[1] if match else ""

    @property
    def names(self) -> list[str]:
        """The names that the block uses without defining them."""
        return re.findall(r"[\w.]+", self.comment[5:]) if self.comment.startswith("with:") else []

    @property
    def reason_not_to_run(self) -> str:
        """Why the block is not run; "" if it is."""
        return self.comment.removeprefix("not run: ") if self.comment.startswith("not run: ") else ""


def find_pages() -> list[Path]:
    """Return the pages whose blocks are run: the README and those of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def find_blocks() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in find_pages() for block in read_blocks(page.read_text(), str(page.relative_to(ROOT)))]


def read_blocks(text: str, page: str) -> Iterator[Block]:
    """Yield the code blocks of a page; directives of Sphinx are for the build, and are left out."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        start, end = number, number + 1
        while end < len(lines) and lines[end].strip() != opening["fence"]:
            end += 1
        if end == len(lines):
            raise ValueError(
                f"{page}:{start + 1}: expected {opening['fence']} after the block, got the end of the page."
            )
        if not opening["language"].startswith("{"):
            above = COMMENT.match(lines[start - 1]) if start else None
            code = textwrap.dedent("\n".join(lines[start + 1 : end])) + "\n"
            yield Block(page, start + 1, opening["language"], code, above[1] if above else "")
        number = end + 1
