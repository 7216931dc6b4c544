"""Files as Litestream writes them, made for tests that need many of them or broken ones."""

from __future__ import annotations

import random
import struct

import lz4.block
from fastcrc import crc64

from backup import keys
from backup.store import ObjectStore


def ltx_file(low: int, high: int, *, at: float, pages: int = 1) -> bytes:
    """A file of transactions ``low`` to ``high`` whose newest was taken at unix time ``at``."""
    header = struct.pack(">4sIIIQQq", b"LTX1", 2, 4096, pages, low, high, round(at * 1000))
    logical, stored = [header.ljust(100, b"\0")], [header.ljust(100, b"\0")]
    for number in range(1, pages + 1):
        # Of chance, or a changed bit could uncompress to the same page.
        page = random.Random(f"{number} {low} {high}").randbytes(4096)
        packed = lz4.block.compress(page, store_size=False)
        head = struct.pack(">IHI", number, 1, len(packed))
        logical += [head, page]
        stored += [head, packed]
    # No index: whoever reads a file to its end needs none.
    rest = struct.pack(">IH", 0, 0) + b"\0" + struct.pack(">QQ", 1, 0)
    checksum = crc64.go_iso(b"".join([*logical, rest])) | 1 << 63
    return b"".join([*stored, rest]) + struct.pack(">Q", checksum)


def put_ltx(
    store: ObjectStore, epoch: int, low: int, high: int, *, at: float, level: int = 0
) -> str:
    """Put such a file where tenant ``t``'s ``epoch`` has it; returns its key."""
    key = f"{keys.epoch('t', epoch)}{level:04d}/{low:016x}-{high:016x}.ltx"
    store.put(key, ltx_file(low, high, at=at))
    return key
