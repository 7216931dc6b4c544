"""Where the documents come from: a folder, or the language reference inside every CPython."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

SUFFIXES = frozenset({".txt", ".md", ".rst"})
"""Files of a folder that count as documents."""


class LibraryError(Exception):
    """There are no such documents; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a name of its own in its library."""

    id: str
    title: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hex: says that it is the same text as before."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Library:
    """A fixed set of documents; their texts are read when they are asked for."""

    def __init__(self, texts: Mapping[str, Callable[[], str]]) -> None:
        self._texts = texts
        self._titles: dict[str, str] | None = None

    def ids(self) -> list[str]:
        """The names of all documents, in order."""
        return sorted(self._texts)

    def read(self, id: str) -> Document:
        """Read a document.

        Raises:
            LibraryError: there is no such document, or it cannot be read.
        """
        if id not in self._texts:
            raise LibraryError(f"no document is called {id!r} (there are {len(self._texts)})")
        try:
            text = self._texts[id]()
        except OSError as error:
            raise LibraryError(f"document {id!r} cannot be read: {error}") from error
        return Document(id, _title(text) or id, text)

    def titles(self) -> dict[str, str]:
        """The title of every document, by its name."""
        if self._titles is None:
            self._titles = {id: self.read(id).title for id in self.ids()}
        return self._titles


@functools.cache
def open_library(folder: Path | None = None) -> Library:
    """The documents of a folder and its subfolders; without one, the language reference.

    Raises:
        LibraryError: the folder is not there or holds no document.
    """
    if folder is None:
        return Library({id: functools.partial(topics.__getitem__, id) for id in topics})
    if not folder.is_dir():
        raise LibraryError(f"{folder} is not a folder")
    files = {
        file.relative_to(folder).as_posix(): functools.partial(
            file.read_text, encoding="utf-8", errors="replace"
        )
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file()
    }
    if not files:
        kinds = ", ".join(f"*{suffix}" for suffix in sorted(SUFFIXES))
        raise LibraryError(f"{folder} holds no document ({kinds})")
    return Library(files)


def _title(text: str) -> str:
    """The first line that has words, without the marks that make it a heading."""
    for line in text.splitlines():
        title = line.strip().strip("#*=~-_ \t")
        if any(letter.isalnum() for letter in title):
            return " ".join(title.split())[:200]
    return ""
