"""Checking the seals of a log's commits, event by event, and that what is missing was removed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from node.engine import chain, seals
from node.engine.chain import Link
from node.engine.removed import Range
from node.engine.seals import End, Row


class Sealing:
    """The commits of one log, checked while its events pass by in their order. Every method
    raises ValueError for what does not hold together.

    `rows` are the seals that have rows, `holes` the removed ranges, `rests` the sums over what is
    left of a commit.
    """

    def __init__(
        self,
        start: End,
        rows: Iterable[End],
        holes: Iterable[Range] = (),
        rests: Mapping[int, bytes] | None = None,
    ) -> None:
        self.end = start
        """The newest seal so far."""
        self.sequence = 0
        self._rows = deque(rows)
        self._holes = deque(holes)
        self._rests = dict(rests or {})
        self._links: list[Link] = []
        self._whole = True
        """Nothing is missing of the commit at hand, which begins right after `end`."""

    def reach(self, sequence: int) -> None:
        """The next event is this one."""
        following = self.sequence + 1
        if sequence != following:
            self._hole(Range(following, sequence - 1))
        elif self._holes and self._holes[0].first <= sequence:
            raise ValueError(f"event {sequence} is said to be removed, and is here")
        self.sequence = sequence

    def add(self, row: Row, link: Link) -> None:
        """It says this."""
        self._links.append(link)
        sealed = row.at is not None or row.chain is not None
        if sealed:
            if row.at is None or row.chain is None:
                raise ValueError(f"event {row.sequence} has half a seal")
            if len(self._links) > seals.MOST:
                # Then it would be taken for the seal of fewer events than it is over.
                raise ValueError(f"event {self._links[0][0]} is in no commit")
            self._seal(End(row.sequence, row.at, row.chain))
        while self._rows and self._rows[0].sequence <= row.sequence:
            if sealed or self._rows[0].sequence < row.sequence:
                raise ValueError(f"the seal at event {self._rows[0].sequence} is of no commit")
            self._seal(self._rows.popleft())

    def finish(self) -> None:
        """There are no more events."""
        if self._rows:
            missing = self._rows[0].sequence
            raise ValueError(f"the events of the commit that ends at {missing} are not all here")
        if self._links:
            raise ValueError(f"event {self._links[0][0]} is in no commit")
        if self._holes:
            raise ValueError(f"event {self._holes[0].first} is said to be removed, and never was")
        if self._rests:
            raise ValueError(f"the commit that ends at {min(self._rests)} is said to be cut")

    def _hole(self, hole: Range) -> None:
        if not self._holes or self._holes[0] != hole:
            raise ValueError(
                f"event {hole.first} is missing; {hole.last + 1} follows {hole.first - 1}"
            )
        self._holes.popleft()
        inside: list[End] = []
        while self._rows and self._rows[0].sequence <= hole.last:
            inside.append(self._rows.popleft())
        if self._links:
            self._whole = False
            if inside:
                # The last event of the commit at hand is one of those that went.
                self._seal(inside.pop(0))
        for end in inside:
            if self._links or end.sequence != hole.last:
                raise ValueError(f"the seal at event {end.sequence} is of no commit")
            self._look_at(end)
            self.end = end
        # Where there is no seal at the end of the hole, the next commit has lost its beginning.
        self._whole = not self._links and self.end.sequence == hole.last

    def _seal(self, end: End) -> None:
        self._look_at(end)
        links, self._links = self._links, []
        rest = self._rests.pop(end.sequence, None)
        if self._whole:
            if rest is not None:
                raise ValueError(f"the commit that ends at {end.sequence} is said to be cut")
            if chain.value(len(end.chain), self.end.chain, end.at, links) != end.chain:
                raise ValueError(f"the commit that ends at {end.sequence} does not match its hash")
        else:
            total = chain.rest(end.chain, end.at) + sum(map(chain.term, links))
            if rest != chain.packed(total):
                raise ValueError(
                    f"what is left of the commit that ends at {end.sequence} does not match its sum"
                )
        self.end, self._whole = end, True

    def _look_at(self, end: End) -> None:
        if type(end.at) is not int or end.at < self.end.at:
            raise ValueError(f"the commit that ends at {end.sequence} goes back in time")
        # Long values are only in the part that an older version wrote.
        sizes = {chain.SIZE, len(self.end.chain)}
        if type(end.chain) is not bytes or len(end.chain) not in sizes:
            raise ValueError(f"the commit that ends at {end.sequence} does not match its hash")
