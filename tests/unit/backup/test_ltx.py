"""LTX files: what is whole, and that whatever is changed in one is seen."""

from __future__ import annotations

import io
import random

import pytest

from backup.ltx import HEADER_SIZE, LtxDamaged, LtxHeader, parse, verify
from tests.ltx_files import ltx_file


def test_a_whole_file() -> None:
    body = ltx_file(3, 7, at=1_795_536_878.758, pages=5)
    assert verify(io.BytesIO(body)) == LtxHeader(4096, 5, 3, 7, 1_795_536_878.758)
    assert parse(body[:HEADER_SIZE]) == verify(io.BytesIO(body))


def test_every_bit_counts() -> None:
    body = ltx_file(1, 1, at=1.0)
    chance = random.Random(7)
    unseen = []
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1 << chance.randrange(8)
        try:
            verify(io.BytesIO(bytes(changed)))
        except LtxDamaged:
            continue
        unseen.append(place)
    # The low half of the page's first compressed byte means nothing where no match follows.
    assert set(unseen) <= {HEADER_SIZE + 6 + 4}


def test_every_truncation_is_seen_and_so_is_more() -> None:
    body = ltx_file(1, 1, at=1.0, pages=2)
    for length in range(0, len(body), 37):
        with pytest.raises(LtxDamaged):
            verify(io.BytesIO(body[:length]))
    with pytest.raises(LtxDamaged):
        verify(io.BytesIO(body + b"\0"))


def test_what_is_no_ltx_file() -> None:
    with pytest.raises(LtxDamaged, match="does not begin"):
        parse(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(LtxDamaged, match="within its header"):
        parse(b"LTX1")
