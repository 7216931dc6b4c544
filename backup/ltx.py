"""Litestream's LTX files: what a header says, and whether a file is whole.

The format is version 3 as Litestream 0.5.17 writes it (the `superfly/ltx` module's file format):
a header of 100 bytes, pages compressed one by one, an index of the pages, and a trailer with a
CRC-64 over all of it but over the pages as they are uncompressed. So a damaged file is found
without restoring anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import lz4.block
from fastcrc import crc64

HEADER_SIZE: Final = 100
"""Bytes at the front of a file that `parse` needs."""

_HEADER: Final = struct.Struct(">4sIIIQQq8xqqII")
_PAGE: Final = struct.Struct(">IH")
_SIZE: Final = struct.Struct(">I")
_CHECKSUM: Final = struct.Struct(">Q")
_MAGIC: Final = b"LTX1"
_SIZED: Final = 1
"""The page's flag that says how long its compressed data is; 0.5.17 always sets it."""
_CHECKSUM_FLAG: Final = 1 << 63
_PAGE_SIZES: Final = frozenset(1 << bits for bits in range(9, 17))


class LtxDamaged(Exception):
    """A file is not what Litestream wrote; the message says where that shows."""


@dataclass(frozen=True, slots=True)
class LtxHeader:
    """A run of transactions, ``low`` to ``high`` inclusive, the newest of them at ``at``.

    ``at`` is in unix seconds: when Litestream took it from the WAL; compaction keeps the newest.
    ``database_pages`` is the size of the database after them. A file of level 0 was taken from
    ``wal_size`` bytes of the WAL up to ``wal_end``, while that had ``wal_salt``.
    """

    page_size: int
    database_pages: int
    low: int
    high: int
    at: float
    wal_size: int = 0
    wal_end: int = 0
    wal_salt: tuple[int, int] = (0, 0)


def parse(front: bytes) -> LtxHeader:
    """Read the header at the ``front`` of a file.

    Raises:
        LtxDamaged: it is none.
    """
    if len(front) < HEADER_SIZE:
        raise LtxDamaged(f"it ends within its header, after {len(front)} bytes")
    magic, _flags, page_size, pages, low, high, at, offset, size, *salt = _HEADER.unpack_from(front)
    if magic != _MAGIC:
        raise LtxDamaged("it does not begin as an LTX file")
    if page_size not in _PAGE_SIZES or not 1 <= low <= high:
        raise LtxDamaged("its header makes no sense")
    wal = (size, offset + size, (salt[0], salt[1]))
    return LtxHeader(page_size, pages, low, high, at / 1000, *wal)


def verify(file: BinaryIO) -> LtxHeader:
    """Read a whole file and check its checksum; one page is held in memory at a time.

    Raises:
        LtxDamaged: it is truncated, changed or too long.
    """
    front = file.read(HEADER_SIZE)
    header = parse(front)
    checksum = crc64.go_iso(front)
    while True:
        head = _exactly(file, _PAGE.size)
        checksum = crc64.go_iso(head, checksum)
        number, flags = _PAGE.unpack(head)
        if number == 0:
            break
        if not flags & _SIZED:
            raise LtxDamaged(f"page {number} is not in the format of Litestream 0.5.17")
        length = _exactly(file, _SIZE.size)
        page = _page(_exactly(file, _SIZE.unpack(length)[0]), header.page_size, number)
        checksum = crc64.go_iso(page, crc64.go_iso(length, checksum))
    rest = file.read()
    if len(rest) < _CHECKSUM.size:
        raise LtxDamaged("it ends before its checksum")
    checksum = crc64.go_iso(rest[: -_CHECKSUM.size], checksum)
    if _CHECKSUM.unpack(rest[-_CHECKSUM.size :])[0] != checksum | _CHECKSUM_FLAG:
        raise LtxDamaged("its checksum does not match its content")
    return header


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise LtxDamaged("it ends too soon")
    return found


def _page(compressed: bytes, size: int, number: int) -> bytes:
    try:
        page: bytes = lz4.block.decompress(compressed, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise LtxDamaged(f"page {number} cannot be uncompressed") from error
    if len(page) != size:
        raise LtxDamaged(f"page {number} has {len(page)} bytes in place of {size}")
    return page
