"""Which events of the log were removed: ranges of sequences, and what the chain knows of them.

The ranges are in a table. A number that depends on all of them, the fingerprint, is in an event,
and so in the chain: rows that are lost without a word are told from rows that were removed. It is
the value of the polynomial with a term for each removed sequence, at a point that depends on the
log. So it does not matter how the ranges were merged, adding a range costs two powers, and that two
different sets have the same one is not to be expected.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from node.engine.events import Kind

TABLES: Final = f"""
-- Ranges of events that were removed. Two never touch.
CREATE TABLE litefleet_removed(first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
-- One row a commit of which a part is left, by its last sequence: the sum over what is left.
CREATE TABLE litefleet_rest(sequence INTEGER PRIMARY KEY, sum BLOB NOT NULL);
-- Ids of executions that were removed, as numbers: how their steps were counted, and until which
-- day (since 1970) that is remembered.
CREATE TABLE litefleet_gone(
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, counts TEXT NOT NULL, until INTEGER NOT NULL);
-- Executions that no rule removes.
CREATE TABLE litefleet_hold(execution INTEGER PRIMARY KEY, at INTEGER NOT NULL, reason TEXT);
-- The length that a stream had where a history begins whose predecessors were removed.
CREATE TABLE litefleet_offset(
  execution INTEGER, sequence INTEGER, stream TEXT, length INTEGER NOT NULL,
  PRIMARY KEY (execution, sequence, stream)) WITHOUT ROWID;
-- To find histories that have others before them, and events that have the same blob.
CREATE INDEX litefleet_again ON litefleet_event(kind) 
  WHERE kind IN ({Kind.CONTINUED.value}, {Kind.RESTARTED.value});
CREATE INDEX litefleet_kept ON litefleet_event(payload) WHERE typeof(payload) = 'blob';
"""
#: A prime, of which the fingerprint is a remainder.
_PRIME: Final = 2**127 - 1
#: Bytes of a fingerprint.
SIZE: Final = 16


class Range(NamedTuple):
    """The sequences from `first` to `last`."""

    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def ranges_of(sequences: Iterable[int]) -> list[Range]:
    """The ranges that ascending sequences make up."""
    found: list[Range] = []
    for sequence in sequences:
        if found and found[-1].last == sequence - 1:
            found[-1] = Range(found[-1].first, sequence)
        else:
            found.append(Range(sequence, sequence))
    return found


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same sequences in as few ranges as there can be, in order.

    Raises ValueError when two have a sequence in common.
    """
    found: list[Range] = []
    for one in sorted(ranges):
        if found and one.first <= found[-1].last:
            raise ValueError(f"event {one.first} was removed twice")
        if found and one.first == found[-1].last + 1:
            found[-1] = Range(found[-1].first, one.last)
        else:
            found.append(one)
    return found


class Removed:
    """The removed ranges of a log, to be asked."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = ranges
        self._firsts = [one.first for one in ranges]

    def between(self, low: int, high: int) -> bool:
        """Whether anything was removed after `low` and before `high`."""
        at = bisect_left(self._firsts, low + 1)
        return at < len(self.ranges) and self.ranges[at].first < high


class Fingerprint:
    """Takes the fingerprint of sets of sequences, or of other whole numbers above zero."""

    def __init__(self, genesis: bytes) -> None:
        """`genesis` is the chain's value in the log's beginning."""
        text = blake2b(genesis, digest_size=SIZE, person=b"removed").digest()
        self._point = int.from_bytes(text) % (_PRIME - 3) + 2
        self._below = pow(self._point - 1, -1, _PRIME)

    def add(self, before: int, ranges: Iterable[Range]) -> int:
        """The fingerprint of a set with these ranges, given the one without."""
        return (before + self._sum(ranges)) % _PRIME

    def take(self, before: int, ranges: Iterable[Range]) -> int:
        """The fingerprint of a set without these ranges, given the one with them."""
        return (before - self._sum(ranges)) % _PRIME

    def _sum(self, ranges: Iterable[Range]) -> int:
        ends = (
            pow(self._point, last + 1, _PRIME) - pow(self._point, first, _PRIME)
            for first, last in ranges
        )
        return sum(ends) * self._below
