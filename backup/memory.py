"""The object store's contract in memory, with faults on demand: for tests, ours and users'."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Literal

from backup.errors import Ambiguous, NotFound, Precondition, StoreError
from backup.store import Entry, Stored, Versioning

Operation = Literal["get", "put", "list", "delete"]
Fault = Callable[[Operation, str], StoreError | Literal["after"] | None]
"""Called before each operation with its name and key. Return an error to raise in its stead, or
``"after"`` to let the operation happen and lose the answer (`Ambiguous`), or None."""


class MemoryStore:
    """`backup.store.ObjectStore` in memory. Set ``fault`` to inject errors."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.fault: Fault | None = None
        self.operations: list[tuple[Operation, str]] = []
        self._clock = clock
        self._lock = RLock()

    def get(self, key: str) -> Stored:
        lost = self._enter("get", key)
        with self._lock:
            if key not in self.objects:
                raise NotFound(f"no object {key}")
            body = self.objects[key][0]
        self._leave(lost, key)
        return Stored(body, _etag(body))

    def get_part(self, key: str, start: int, length: int) -> bytes:
        return self.get(key).body[start : start + length]

    def put(
        self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        lost = self._enter("put", key)
        with self._lock:
            now = self.objects.get(key)
            if if_none_match and now is not None:
                raise Precondition(f"{key} exists")
            if if_match is not None and (now is None or _etag(now[0]) != if_match):
                raise Precondition(f"{key} has changed")
            self.objects[key] = (body, self._clock())
        self._leave(lost, key)
        return _etag(body)

    def upload(self, key: str, file: Path) -> None:
        self.put(key, file.read_bytes())

    def download(self, key: str, file: Path) -> None:
        file.write_bytes(self.get(key).body)

    def list(self, prefix: str) -> Iterator[Entry]:
        lost = self._enter("list", prefix)
        with self._lock:
            found = [
                Entry(key, len(body), modified)
                for key, (body, modified) in sorted(self.objects.items())
                if key.startswith(prefix)
            ]
        self._leave(lost, prefix)
        return iter(found)

    def prefixes(self, prefix: str) -> Iterator[str]:
        names = {
            entry.key.removeprefix(prefix).split("/", 1)[0]
            for entry in self.list(prefix)
            if "/" in entry.key.removeprefix(prefix)
        }
        return iter(sorted(names))

    def delete(self, key: str) -> None:
        lost = self._enter("delete", key)
        with self._lock:
            self.objects.pop(key, None)
        self._leave(lost, key)

    def versioning(self) -> Versioning:
        return "off"

    def date(self) -> datetime:
        return self._clock()

    def _enter(self, operation: Operation, key: str) -> bool:
        self.operations.append((operation, key))
        verdict = self.fault(operation, key) if self.fault else None
        if isinstance(verdict, StoreError):
            raise verdict
        return verdict == "after"

    def _leave(self, lost: bool, key: str) -> None:
        if lost:
            raise Ambiguous(f"the answer about {key} was lost")


def _etag(body: bytes) -> str:
    # Equal bodies give equal ETags, as on S3: this is why every record carries a nonce.
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
