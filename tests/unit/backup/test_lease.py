"""Deadlines of a lease, from both sides."""

from __future__ import annotations

from backup.lease import SELF_FENCE_AFTER, WATCH, Authority, Watch


def test_authority_counts_from_before_the_renewal_was_sent() -> None:
    authority = Authority.granted(sent_at=100.0)
    assert authority.alive(100.0 + SELF_FENCE_AFTER - 0.001)
    assert not authority.alive(100.0 + SELF_FENCE_AFTER)
    assert authority.renewed(sent_at=105.0, answered_at=111.0)
    assert authority.deadline == 105.0 + SELF_FENCE_AFTER


def test_a_renewal_after_the_deadline_is_not_credited() -> None:
    authority = Authority.granted(sent_at=100.0)
    assert not authority.renewed(sent_at=113.0, answered_at=113.1)
    assert authority.deadline == 112.0


def test_a_renewal_answered_after_the_deadline_is_not_credited() -> None:
    """The zombie: sent in time, frozen, answered on waking up."""
    authority = Authority.granted(sent_at=100.0)
    assert not authority.renewed(sent_at=111.0, answered_at=140.0)
    assert not authority.alive(140.0)


def test_a_holder_is_dead_before_a_watcher_may_fence_it() -> None:
    """The watcher sees the lease at the latest moment it can have been written, and waits."""
    written = 100.0
    assert Authority.granted(sent_at=written).deadline < Watch("e", since=written).since + WATCH


def test_watch_restarts_with_every_change() -> None:
    watch = Watch("one", since=0.0)
    watch.seen("one", 10.0)
    assert watch.unchanged_for(10.0) == 10.0
    watch.seen("two", 12.0)
    assert watch.unchanged_for(20.0) == 8.0
    assert not watch.lapsed(12.0 + WATCH - 0.1)
    assert watch.lapsed(12.0 + WATCH)
