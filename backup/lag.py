"""How far the bucket is behind a tenant's log, from proofs only.

Litestream has no lag metric, and its logs and ``last_sync_at`` advance even when nothing was
uploaded. So the engine tells of its commits, a barrier round tells what is proven, and the lag is
the age of the oldest commit that is not.
"""

from __future__ import annotations

from collections import deque

from pydantic import BaseModel, ConfigDict


class Lag(BaseModel):
    """One tenant's lag at one moment.

    ``seconds`` is 0 when everything committed is proven. ``sequence`` counts log events, ``txid``
    Litestream's sync batches. ``bytes`` are those of the WAL that are not in the bucket, None where
    that cannot be told. ``proven_at`` is in unix seconds, None before the first proof.
    """

    model_config = ConfigDict(frozen=True)

    sequence: int = 0
    proven_sequence: int = 0
    txid: int = 0
    replicated_txid: int = 0
    seconds: float = 0.0
    bytes: int | None = None
    proven_at: float | None = None

    @property
    def txids(self) -> int:
        return max(0, self.txid - self.replicated_txid)


class LagTracker:
    """Fed by commits and proofs; asked for the `Lag`. Not safe for threads."""

    def __init__(self) -> None:
        self._unproven: deque[tuple[int, float]] = deque()
        self._sequence = 0
        self._proven_sequence = 0
        self._txid = 0
        self._replicated = 0
        self._proven_at: float | None = None

    @property
    def sequence(self) -> int:
        """The newest committed event that was told of."""
        return self._sequence

    @property
    def behind(self) -> bool:
        """Whether anything committed is not proven."""
        return self._proven_sequence < self._sequence

    def committed(self, sequence: int, at: float) -> None:
        """A commit up to ``sequence`` returned at unix time ``at``."""
        if sequence > self._sequence:
            self._sequence = sequence
            self._unproven.append((sequence, at))

    def positions(self, txid: int, replicated: int) -> None:
        """What the sidecar says of itself: shown, never taken for a proof."""
        self._txid = txid
        self._replicated = replicated

    def proven(self, sequence: int, txid: int, at: float) -> None:
        """A barrier round that began after ``sequence`` was committed proved ``txid``."""
        self._proven_sequence = max(self._proven_sequence, sequence)
        self._proven_at = at
        self._txid = max(self._txid, txid)
        self._replicated = max(self._replicated, txid)
        while self._unproven and self._unproven[0][0] <= sequence:
            self._unproven.popleft()

    def lag(self, now: float) -> Lag:
        """The lag at unix time ``now``."""
        oldest = self._unproven[0][1] if self._unproven else now
        return Lag(
            sequence=self._sequence,
            proven_sequence=self._proven_sequence,
            txid=self._txid,
            replicated_txid=self._replicated,
            seconds=max(0.0, now - oldest),
            proven_at=self._proven_at,
        )
