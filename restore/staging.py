"""The files of one epoch, brought to a folder here one by one, and kept there if it is cut off.

Whoever comes next downloads only what is missing, from the byte on where it ended. A file counts
once its checksum was verified under its own name. Litestream restores from the folder as from any
replica; only that folder has to be asked then, and not the bucket a second time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import Final

from backup import ltx
from backup.errors import NotFound
from backup.store import ObjectStore
from restore.errors import RestoreFailed
from restore.plan import LtxFile

PART: Final = 8 << 20
"""Bytes that are asked for at once."""
READERS: Final = 4
"""Files that are read at once."""
_PARTIAL: Final = ".part"

Progress = Callable[[int, int], None]
"""Told of bytes that are here, and of how many there will be."""


class Bad(Exception):
    """A file in the bucket is not what Litestream wrote."""

    def __init__(self, file: LtxFile, reason: str) -> None:
        super().__init__(f"{file.name} is damaged: {reason}")
        self.file = file


class Gone(Exception):
    """A file is not in the bucket any more: compaction has merged it into another one."""


class Staging:
    """A folder with files of one epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replica = folder / "chain"
        """What `bring` was asked for last and nothing else, laid out as Litestream's replica in a
        file system is."""
        self._stopped = Event()

    def stop(self) -> None:
        """End `bring`, which another thread is in, soon."""
        self._stopped.set()

    def path(self, file: LtxFile) -> Path:
        """Where a file is once it is whole."""
        return self.folder / "files" / _name(file)

    def bring(
        self,
        store: ObjectStore,
        prefix: str,
        files: Iterable[LtxFile],
        progress: Progress = lambda _done, _all: None,
    ) -> None:
        """Bring these files, and make a replica of them.

        Raises:
            Bad: one is damaged; the others are here.
            Gone: one is not in the bucket any more; list again.
            RestoreFailed: they cannot be written here.
            StoreError: one could not be read; what is here stays.
        """
        wanted = list(files)
        total, here, lock = sum(file.size for file in wanted), 0, Lock()

        def tell(size: int) -> None:
            nonlocal here
            with lock:
                here += size
                progress(here, total)

        def one(file: LtxFile) -> Exception | None:
            try:
                self._one(store, prefix, file, tell)
            except OSError as error:
                return RestoreFailed(f"{self.folder} cannot be written: {error.strerror}")
            except Exception as error:
                return error
            return None

        with ThreadPoolExecutor(READERS) as readers:
            errors = [error for error in readers.map(one, wanted) if error is not None]
        # What is to be done about a damaged file depends on which others are not.
        for kind in (RestoreFailed, Gone):
            for error in errors:
                if isinstance(error, kind):
                    raise error
        for error in sorted(errors, key=lambda error: isinstance(error, Bad)):
            raise error
        try:
            self._lay_out(wanted)
        except OSError as error:
            raise RestoreFailed(f"{self.folder} cannot be written: {error.strerror}") from error

    def _lay_out(self, files: list[LtxFile]) -> None:
        shutil.rmtree(self.replica, ignore_errors=True)
        for file in files:
            place = self.replica / "ltx" / _name(file)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.hardlink_to(self.path(file))
            except OSError:
                shutil.copyfile(self.path(file), place)

    def _one(
        self, store: ObjectStore, prefix: str, file: LtxFile, tell: Callable[[int], None]
    ) -> None:
        path = self.path(file)
        if path.exists():
            tell(file.size)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + _PARTIAL)
        resumed = partial.exists() and partial.stat().st_size > 0
        self._download(store, prefix + file.name, partial, tell)
        reason = _wrong(partial, file)
        if reason is not None and resumed:
            # Its beginning may be of another try, or was not written to its end by a crash.
            tell(-partial.stat().st_size)
            partial.unlink()
            self._download(store, prefix + file.name, partial, tell)
            reason = _wrong(partial, file)
        if reason is not None:
            partial.unlink()
            raise Bad(file, reason)
        partial.rename(path)

    def _download(
        self, store: ObjectStore, key: str, partial: Path, tell: Callable[[int], None]
    ) -> None:
        with partial.open("ab") as target:
            tell(target.tell())
            while not self._stopped.is_set():
                try:
                    part = store.get_part(key, target.tell(), PART)
                except NotFound as error:
                    raise Gone(f"{key} is not there any more") from error
                target.write(part)
                target.flush()
                tell(len(part))
                if len(part) < PART:
                    break
            else:
                raise RestoreFailed("it was stopped")
            os.fsync(target.fileno())


def _name(file: LtxFile) -> str:
    return f"{file.level}/{file.low:016x}-{file.high:016x}.ltx"


def _wrong(path: Path, file: LtxFile) -> str | None:
    """What is wrong with a file that was downloaded; None if nothing is."""
    try:
        with path.open("rb") as content:
            header = ltx.verify(content)
    except ltx.LtxDamaged as error:
        return str(error)
    if (header.low, header.high) != (file.low, file.high):
        return f"it holds transactions {header.low} to {header.high}"
    return None
