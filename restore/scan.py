"""Is a chain in the bucket whole? Every file present, in line and with its checksum, and nothing
restored."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from backup import keys, ltx
from backup.errors import NotFound
from backup.store import ObjectStore
from restore.history import Span
from restore.plan import LtxFile, Plan, list_epoch, plan

PART: Final = 4 << 20
"""Bytes that are read of an object at once."""
READERS: Final = 4
"""Objects that are read at once."""


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that is there and is not what Litestream wrote."""

    file: LtxFile
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found of one epoch's chain.

    ``reachable`` is the newest position that only whole files lead to, ``wanted`` the one that all
    files together would lead to. ``missing`` says what lacks between them, None where nothing does.
    ``bytes`` were read.
    """

    epoch: int
    files: int
    bytes: int
    bad: tuple[BadFile, ...]
    reachable: int
    wanted: int
    missing: str | None

    @property
    def whole(self) -> bool:
        """Whether the newest state can be restored, and every file that is there is sound."""
        return self.missing is None and not self.bad


def scan(
    store: ObjectStore,
    tenant: str,
    span: Span,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Scan:
    """Read every file of one epoch's part of a tenant's history and check it.

    A file that compaction removes meanwhile is passed over, if what is left is still a chain.
    ``progress`` is told of bytes read, of how many.

    Raises:
        StoreError: something could not be read; that says nothing about the chain.
    """
    found = _list(store, tenant, span)
    prefix = keys.epoch(tenant, span.epoch)
    bad: list[BadFile] = []
    gone: set[LtxFile] = set()
    done = 0
    with ThreadPoolExecutor(READERS) as readers:
        for file, verdict in zip(
            found.files,
            readers.map(lambda file: _look(store, prefix, file), found.files),
            strict=True,
        ):
            if verdict is None:
                gone.add(file)
            elif verdict:
                bad.append(BadFile(file, verdict))
            done += file.size
            progress(done, found.bytes)
    lost = {item.file for item in bad}
    if gone:
        # Compaction puts the longer file there before it removes what went into it.
        found = _list(store, tenant, span)
    sound = plan(file for file in found.files if file not in lost)
    wanted = max(found.highest, span.floor_txid)
    return Scan(
        span.epoch,
        len(found.files),
        done,
        tuple(bad),
        sound.reachable,
        wanted,
        sound.missing(wanted),
    )


def _list(store: ObjectStore, tenant: str, span: Span) -> Plan:
    found = list_epoch(store, tenant, span.epoch)
    return found if span.last_txid is None else found.up_to(span.last_txid)


def _look(store: ObjectStore, prefix: str, file: LtxFile) -> str | None:
    """What is wrong with a file, "" if nothing is; None where it is gone."""
    try:
        with io.BufferedReader(_Object(store, prefix + file.name), PART) as content:
            header = ltx.verify(content)
    except NotFound:
        return None
    except ltx.LtxDamaged as error:
        return str(error)
    if (header.low, header.high) != (file.low, file.high):
        return f"it holds transactions {header.low} to {header.high}"
    return ""


class _Object(io.RawIOBase):
    """An object as a file, read part by part."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self._key = key
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._store.get_part(self._key, self._at, len(buffer))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
