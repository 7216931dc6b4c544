"""A store whose user is killed at a request: before it is sent, or once it has been carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backup.store import Entry, ObjectStore, Stored, Versioning

T = TypeVar("T")


class Killed(BaseException):
    """Nothing of the process goes on; no handler of errors may see it."""


class KilledStore:
    """`ObjectStore` that kills at the ``at``-th request (from 1), ``after`` it or before it."""

    def __init__(self, store: ObjectStore, at: int, after: bool = False):
        self._store = store
        self._left = at
        self._after = after

    def _do(self, call: Callable[[], T]) -> T:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        try:
            return call()
        finally:
            if self._left == 0:
                raise Killed

    def get(self, key: str) -> Stored:
        return self._do(lambda: self._store.get(key))

    def get_part(self, key: str, start: int, length: int) -> bytes:
        return self._do(lambda: self._store.get_part(key, start, length))

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        put = self._store.put
        return self._do(lambda: put(key, body, if_match=if_match, if_none_match=if_none_match))

    def upload(self, key: str, file: Path) -> None:
        self._do(lambda: self._store.upload(key, file))

    def download(self, key: str, file: Path) -> None:
        self._do(lambda: self._store.download(key, file))

    def list(self, prefix: str) -> Iterator[Entry]:
        return iter(self._do(lambda: [*self._store.list(prefix)]))

    def prefixes(self, prefix: str) -> Iterator[str]:
        return iter(self._do(lambda: [*self._store.prefixes(prefix)]))

    def delete(self, key: str) -> None:
        self._do(lambda: self._store.delete(key))

    def versioning(self) -> Versioning:
        return self._do(self._store.versioning)

    def date(self) -> datetime:
        return self._do(self._store.date)
