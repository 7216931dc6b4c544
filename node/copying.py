"""An independent copy of a node's live log, made and checked in a process of its own.

To check every rule of a log and to compress it takes a processor for seconds, and the supervisor's
has barriers to answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from backup import copies
from backup.copies import BadCopy, Copy
from backup.errors import StoreError
from backup.ownership import OwnerRecord
from backup.parent import die_with_parent
from backup.sealing import Key
from backup.settings import REVEAL, StoreSettings
from backup.store import ObjectStore, S3Store
from node.log import check_restored
from restore.errors import Damaged

NICE = 10
"""How far the process stands back behind the engines."""


class CopyOrder(BaseModel):
    """What the process is told, on its standard input: the secrets in it are for nobody else.

    With ``into``, the copy becomes that file, and nothing goes to the bucket. With ``key``, a copy
    is sealed with it.
    """

    store: StoreSettings
    database: Path
    record: OwnerRecord
    into: Path | None = None
    key: Key | None = None


class Copying:
    """Copies of one live log, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def copy(self, order: CopyOrder) -> Copy:
        """Have a process make a copy; see `make_copy`. It dies with this one.

        Raises:
            BadCopy: it could not be made; the message says why.
        """
        async with self._turn:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "node.copying",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
            try:
                out, err = await process.communicate(order.model_dump_json(context=REVEAL).encode())
            except BaseException:
                process.kill()
                await process.wait()
                raise
        if process.returncode != 0:
            words = err.decode(errors="replace").strip().splitlines()
            raise BadCopy(words[-1] if words else f"it ended with {process.returncode}")
        return Copy.model_validate_json(out)

    async def cut_off(self) -> bool:
        """End a copy that is being made; whether there was one. It is asked for again later."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        process.kill()
        await process.wait()
        return True


def main() -> int:
    """Make the copy that the order on standard input asks for, and print what it is."""
    os.nice(NICE)
    order = CopyOrder.model_validate_json(sys.stdin.buffer.read())
    store = S3Store(order.store)
    try:
        if order.into is not None:
            made = export(order.database, order.record, order.into, time.time)
            print(made.model_dump_json())
            return 0
        known = copies.read(store, order.record.tenant)
        newest = known[-1] if known else None
        made = make_copy(store, order.database, order.record, newest, time.time, order.key)
    except (BadCopy, StoreError, OSError) as error:
        print(f"no copy was made: {error}", file=sys.stderr)
        return 1
    print(made.model_dump_json())
    return 0


def export(database: Path, record: OwnerRecord, into: Path, clock: Callable[[], float]) -> Copy:
    """Write a live log to the new file ``into``, whole, as of one moment, and checked.

    Raises:
        BadCopy: there is no room, or what was copied does not hold together.
    """
    _refuse_full(into.parent, database)
    try:
        taken = _take(database, record, into, clock)
        sha256, size = copies.hashed(into)
    except BaseException:
        into.unlink(missing_ok=True)
        raise
    return taken.model_copy(update={"sha256": sha256, "size": size, "packed": size})


def make_copy(
    store: ObjectStore,
    database: Path,
    record: OwnerRecord,
    newest: Copy | None,
    clock: Callable[[], float],
    key: Key | None = None,
) -> Copy:
    """Copy a live log to the bucket, by SQLite's own backup; the newest copy itself where nothing
    has been committed since. Takes what reading the whole file takes. With ``key``, it is sealed.

    Raises:
        BadCopy: there is no room, the copy does not hold together, or was not what was sent.
        StoreError: the store did not take it.
    """
    folder = database.parent.parent
    _refuse_full(folder, database)
    with TemporaryDirectory(prefix="snapshot-", dir=folder) as scratch:
        file = Path(scratch) / "log.db"
        taken = _take(database, record, file, clock)
        same_key = newest is not None and newest.key == (key.id if key is not None else None)
        if (
            newest is not None
            and same_key
            and newest.chain == taken.chain
            and newest.lineage == taken.lineage
        ):
            return newest
        return copies.put(store, file, taken, Path(scratch), key)


def _refuse_full(folder: Path, database: Path) -> None:
    size = database.stat().st_size
    if not copies.has_room(folder, size):
        raise BadCopy(f"there is no room at {folder} for a copy of {size >> 20} MB")


def _take(database: Path, record: OwnerRecord, into: Path, clock: Callable[[], float]) -> Copy:
    """Write a live log to a new file, by SQLite's own backup, and check it; what there is to say
    of it, but for its hash and sizes. Raises `BadCopy`."""
    made_at = clock()
    copies.snapshot(database, into)
    try:
        log = check_restored(into, record)
    except Damaged as error:
        raise BadCopy(f"the copy does not hold together: {error}") from error
    return Copy(
        tenant=record.tenant,
        lineage=record.lineage,
        epoch=record.epoch,
        sequence=log.sequence,
        chain=log.chain,
        made_at=made_at,
        sha256="",
        size=0,
        packed=0,
    )


if __name__ == "__main__":
    sys.exit(main())
