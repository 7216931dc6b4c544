"""Lag is measured from proofs."""

from __future__ import annotations

from backup.lag import LagTracker


def test_nothing_committed_is_no_lag() -> None:
    lag = LagTracker().lag(now=100.0)
    assert (lag.seconds, lag.txids, lag.proven_at) == (0.0, 0, None)


def test_the_lag_is_the_age_of_the_oldest_unproven_commit() -> None:
    tracker = LagTracker()
    tracker.committed(10, 100.0)
    tracker.committed(20, 101.0)
    assert tracker.lag(103.0).seconds == 3.0
    tracker.proven(10, txid=1, at=103.0)
    assert tracker.lag(103.0).seconds == 2.0
    assert tracker.behind
    tracker.proven(20, txid=2, at=104.0)
    assert tracker.lag(110.0).seconds == 0.0
    assert not tracker.behind


def test_what_the_sidecar_says_of_itself_proves_nothing() -> None:
    tracker = LagTracker()
    tracker.committed(10, 100.0)
    tracker.positions(txid=5, replicated=5)
    lag = tracker.lag(130.0)
    assert (lag.seconds, lag.proven_sequence, lag.proven_at) == (30.0, 0, None)


def test_a_proof_covers_only_what_was_committed_before_it_began() -> None:
    tracker = LagTracker()
    tracker.committed(10, 100.0)
    covered = tracker.sequence
    tracker.committed(11, 100.5)
    tracker.proven(covered, txid=3, at=101.0)
    lag = tracker.lag(102.0)
    assert (lag.proven_sequence, lag.seconds) == (10, 1.5)
