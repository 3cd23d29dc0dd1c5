"""A number shared by two processes, by which the writer knows the clients' progress without messages."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Self

NUMBER = struct.Struct("=q")


class Progress:
    """One integer in a file that both processes map. One writes it, any number read it."""

    def __init__(self, path: Path | str) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), NUMBER.size)

    @classmethod
    def create(cls, path: Path) -> Self:
        path.write_bytes(NUMBER.pack(0))
        return cls(path)

    @property
    def value(self) -> int:
        return int(NUMBER.unpack_from(self._memory)[0])

    @value.setter
    def value(self, number: int) -> None:
        NUMBER.pack_into(self._memory, 0, number)
