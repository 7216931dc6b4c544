"""What a process has logged of late, read back from its files."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a log: the file by its inode, and the bytes of it that were read."""

    inode: int
    offset: int

    @staticmethod
    def read(text: str) -> Cursor:
        """The reverse of `str`. Raises ValueError."""
        inode, _, offset = text.partition(":")
        return Cursor(int(inode), int(offset))

    def __str__(self) -> str:
        return f"{self.inode}:{self.offset}"


def newest_lines(
    path: Path, limit: int, wanted: Callable[[Line], bool], after: Cursor | None = None
) -> tuple[list[Line], Cursor | None]:
    """The last `limit` lines that are wanted, oldest first, of those after a cursor; and the
    cursor for those that come next. A line that is no JSON is its `message`."""
    found: deque[Line] = deque(maxlen=limit)
    last = after
    for text, cursor in _lines(path, after):
        last = cursor
        line = _parsed(text)
        if wanted(line):
            found.append(line)
    return list(found), last


def _lines(path: Path, after: Cursor | None) -> Iterator[tuple[bytes, Cursor]]:
    # Those that were put aside are numbered from the newest on.
    names = [path, *(Path(f"{path}.{number}") for number in range(1, 10))]
    files = [(name.stat().st_ino, name) for name in names if name.exists()]
    known = [inode for inode, _ in files]
    if after is not None and after.inode in known:
        files = files[: known.index(after.inode) + 1]
    for inode, name in reversed(files):
        begin = after.offset if after is not None and after.inode == inode else 0
        with name.open("rb") as file:
            if os.fstat(file.fileno()).st_ino != inode:
                continue  # put aside just now; the next one to ask sees it
            file.seek(begin)
            at = begin
            for text in file:
                if not text.endswith(b"\n"):
                    break  # still being written
                at += len(text)
                yield text, Cursor(inode, at)


def _parsed(text: bytes) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if isinstance(line, dict) and "message" in line:
        return line
    return {"message": text.decode(errors="replace").rstrip("\n")}
