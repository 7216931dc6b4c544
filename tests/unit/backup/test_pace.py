"""When is a tenant idle, and when is it busy again?"""

from __future__ import annotations

from collections.abc import Iterable

from backup.litestream.pace import BUSY_AFTER, GAP, IDLE_AFTER, Pace, Pacing


def paces(pacing: Pacing, commits: Iterable[float], until: float) -> list[tuple[float, Pace]]:
    """Look every five seconds from 0 on: when the pace changed, and to what."""
    times, changes, last = sorted(commits), list[tuple[float, Pace]](), pacing.pace
    for now in range(0, int(until), 5):
        pace = pacing.seen(sum(at <= now for at in times), float(now))
        if pace is not last:
            changes.append((now, pace))
            last = pace
    return changes


def test_it_begins_busy_and_idles_after_its_last_commit() -> None:
    assert paces(Pacing(0.0), [1.0, 100.0], 5000) == [(100 + IDLE_AFTER, Pace.IDLE)]


def test_one_that_was_never_written_idles_too() -> None:
    assert paces(Pacing(0.0), [], 5000) == [(IDLE_AFTER, Pace.IDLE)]


def test_a_commit_now_and_then_keeps_an_idle_one_idle() -> None:
    often = [2000.0 + 100.0 * number for number in range(30)]
    assert paces(Pacing(0.0), often, 6000) == [(IDLE_AFTER, Pace.IDLE)]


def test_going_on_makes_it_busy() -> None:
    work = [2000.0 + number for number in range(100)]
    assert paces(Pacing(0.0), work, 2600) == [
        (IDLE_AFTER, Pace.IDLE),
        (2000 + BUSY_AFTER, Pace.BUSY),
    ]
    assert GAP > BUSY_AFTER


def test_a_busy_one_may_rest_for_a_while() -> None:
    work = [number * 300.0 for number in range(20)]
    assert paces(Pacing(0.0), work, 6000) == []
