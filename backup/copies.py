"""Independent copies: the belt to Litestream's braces.

Now and then a whole copy of a tenant's database goes to the bucket by another route: SQLite's own
backup interface, gzip, one object. None of Litestream's code, format or bookkeeping has a part in
it, and nothing of ours is needed to read it: `gunzip` and any SQLite tool do, unless it is sealed
(see `backup.sealing`). Beside each copy lies what it must be: its hash, its size, and the log's end
in it. A copy counts only once it was read back from the bucket and had that hash.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
from pydantic import BaseModel, ConfigDict, ValidationError

from backup import keys
from backup.errors import StoreError
from backup.sealing import Key, NotOpened, seal, unseal
from backup.store import ObjectStore

_PIECE = 1 << 20
_LEVEL = 3
"""gzip's: further ones take twice the time for a tenth of the size."""


class BadCopy(Exception):
    """A copy in the bucket is not what it was when it was made; the message says how."""


class Copy(BaseModel):
    """One copy. ``sha256`` is that of the database file, ``size`` its bytes, ``packed`` those of
    the object. ``made_at`` is in unix seconds. ``epoch``, ``sequence`` and ``chain`` (hex) say
    where the log ends in it. ``key`` is the id of the master key that it is sealed under, None for
    one that is not sealed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: str
    lineage: str
    epoch: int
    sequence: int
    chain: str
    made_at: float
    sha256: str
    size: int
    packed: int
    key: str | None = None

    @property
    def object(self) -> str:
        """The key of its object in the bucket."""
        plain = keys.copy(self.tenant, self.name)
        return plain if self.key is None else f"{plain}{keys.SEALED}"

    @property
    def name(self) -> str:
        """Its name: when it was made, the bookmark, and for one that is sealed a mark of the key:
        the same state may be copied under another one within a second."""
        when = datetime.fromtimestamp(self.made_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        plain = f"{when}-{self.epoch}-{self.sequence}"
        if self.key is None:
            return plain
        # An id may have characters that no name should have.
        return f"{plain}-{hashlib.sha256(self.key.encode()).hexdigest()[:8]}"

    @property
    def bookmark(self) -> str:
        return f"{self.epoch}:{self.sequence}"


def snapshot(database: Path, into: Path) -> None:
    """Copy a database that may be in use to a new file, whole and as of one moment.

    In one step: a read transaction of some seconds for a gigabyte. In several, a busy writer would
    make it begin anew for ever. The copy is in no need of a WAL.
    """
    source = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    with closing(source), closing(apsw.Connection(str(into))) as target:
        # Nobody but Litestream may checkpoint the source, not even by closing it.
        source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        source.execute("PRAGMA wal_autocheckpoint=0").fetchall()
        with target.backup("main", source, "main") as backup:
            backup.step()
        target.execute("PRAGMA journal_mode=DELETE").fetchall()
    for suffix in ("-wal", "-shm"):
        into.with_name(into.name + suffix).unlink(missing_ok=True)


def hashed(file: Path) -> tuple[str, int]:
    """The hash (hex SHA-256) and the size of a file."""
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256")
        return digest.hexdigest(), source.tell()


def pack(database: Path, into: Path) -> tuple[str, int]:
    """Compress a file; the hash (hex SHA-256) and the size of what was compressed."""
    digest, size = hashlib.sha256(), 0
    # No name and no time in it: equal files give equal objects.
    with (
        database.open("rb") as source,
        into.open("wb") as raw,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as target,
    ):
        while piece := source.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            target.write(piece)
    return digest.hexdigest(), size


def unpack(packed: Path, into: Path, copy: Copy) -> None:
    """Write the database of a fetched copy to a new file.

    Raises:
        BadCopy: it is not what was put there.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with gzip.open(packed, "rb") as source, into.open("xb") as target:
            while piece := source.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                target.write(piece)
    except (OSError, EOFError, zlib.error) as error:
        into.unlink(missing_ok=True)
        raise BadCopy(f"copy {copy.name} of {copy.tenant} cannot be unpacked: {error}") from error
    if (digest.hexdigest(), size) != (copy.sha256, copy.size):
        into.unlink(missing_ok=True)
        raise BadCopy(f"copy {copy.name} of {copy.tenant} does not have the hash it was made with")


def put(
    store: ObjectStore, database: Path, about: Copy, scratch: Path, key: Key | None = None
) -> Copy:
    """Bring a file that nobody writes into the bucket, read it back, and record it.

    ``about`` tells of everything but hash and sizes. With ``key``, it is sealed before it leaves.

    Raises:
        BadCopy: what was read back is something else; nothing is recorded then.
        StoreError: the store did not take it; a copy without its record does not count.
    """
    with TemporaryDirectory(prefix="copy-", dir=scratch) as folder:
        packed = Path(folder) / "packed"
        sha256, size = pack(database, packed)
        if key is not None:
            plain, packed = packed, Path(folder) / "sealed"
            with plain.open("rb") as source, packed.open("wb") as target:
                seal(source, target, key)
            plain.unlink()
        copy = about.model_copy(
            update={
                "sha256": sha256,
                "size": size,
                "packed": packed.stat().st_size,
                "key": key.id if key is not None else None,
            }
        )
        store.upload(copy.object, packed)
        packed.unlink()
        fetch(store, copy, Path(folder) / "back", key)
    store.put(keys.copy_record(copy.tenant, copy.name), copy.model_dump_json().encode())
    return copy


def fetch(store: ObjectStore, copy: Copy, into: Path, key: Key | None = None) -> None:
    """Bring a copy's database from the bucket to a new file, with its hash checked.

    Args:
        key: the tenant's, of the id that the copy has, for one that is sealed.

    Raises:
        BadCopy: it is not what was put there, or the key is missing or another one.
        StoreError: it could not be read.
    """
    if copy.key is not None and key is None:
        raise BadCopy(
            f"copy {copy.name} of {copy.tenant} is sealed under key {copy.key!r}: it cannot be "
            "read without a keyring that has it"
        )
    packed = into.with_name(into.name + ".packed")
    opened = into.with_name(into.name + ".opened")
    try:
        store.download(copy.object, packed)
        if copy.key is not None and key is not None:
            with packed.open("rb") as source, opened.open("wb") as target:
                unseal(source, target, key)
            opened.replace(packed)
        unpack(packed, into, copy)
    except NotOpened as error:
        raise BadCopy(f"copy {copy.name} of {copy.tenant} cannot be opened: {error}") from error
    finally:
        packed.unlink(missing_ok=True)
        opened.unlink(missing_ok=True)


def read(store: ObjectStore, tenant: str) -> list[Copy]:
    """A tenant's copies, oldest first. Raises `StoreError`."""
    found = []
    for entry in store.list(keys.copies(tenant)):
        if entry.key.endswith(keys.COPY_RECORD):
            try:
                found.append(Copy.model_validate_json(store.get(entry.key).body))
            except ValidationError as error:
                raise StoreError(f"{entry.key} is no record of a copy") from error
    return sorted(found, key=lambda copy: copy.made_at)


def expired(copies: Iterable[Copy], now: float, keep_days: int, keep_least: int) -> list[Copy]:
    """Which copies may go: those older than ``keep_days``, but never the newest ``keep_least``."""
    ordered = sorted(copies, key=lambda copy: copy.made_at)
    old = ordered[: max(0, len(ordered) - max(1, keep_least))]
    return [copy for copy in old if now - copy.made_at > keep_days * 86_400]


def remove(store: ObjectStore, copy: Copy) -> None:
    """Remove one copy, its record first: what has no record does not count. Raises `StoreError`."""
    store.delete(keys.copy_record(copy.tenant, copy.name))
    store.delete(copy.object)


def has_room(folder: Path, needed: int) -> bool:
    """Whether a copy of so many bytes can be made here, beside what must stay free."""
    return shutil.disk_usage(folder).free > 3 * needed + (64 << 20)
