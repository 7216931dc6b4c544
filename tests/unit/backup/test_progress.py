"""When is a sidecar that runs taken for stuck, and what is done about it?"""

from __future__ import annotations

from backup.litestream.progress import FURTHER, SELDOM, STUCK_AFTER, Cure, Progress


def cures(
    progress: Progress, until: float, *, store_answers: bool = True
) -> list[tuple[int, Cure]]:
    """A failed round every second: what was done, and when."""
    rounds = [(now, progress.failed(now, store_answers=store_answers)) for now in range(int(until))]
    return [(now, cure) for now, cure in rounds if cure is not Cure.NONE]


def test_the_cheap_cure_comes_first_and_then_the_dear_one() -> None:
    progress = Progress()
    first, further = int(STUCK_AFTER), int(FURTHER)
    third = first + 2 * further
    assert cures(progress, third + SELDOM + 1) == [
        (first, Cure.RESTART_REPLICATION),
        (first + further, Cure.RESTART_SIDECAR),
        (third, Cure.RESTART_SIDECAR),
        (third + int(SELDOM), Cure.RESTART_SIDECAR),
    ]
    assert progress.stuck
    assert progress.hopeless


def test_a_proof_forgets_everything() -> None:
    progress = Progress()
    cures(progress, 110)
    progress.proven()
    assert not progress.stuck
    assert not progress.hopeless
    assert cures(progress, STUCK_AFTER) == []


def test_an_outage_of_the_store_is_nobodys_fault() -> None:
    assert cures(Progress(), 3600, store_answers=False) == []


def test_what_hangs_since_an_outage_is_cured_after_it() -> None:
    progress = Progress()
    cures(progress, 300, store_answers=False)
    assert progress.failed(300, store_answers=True) is Cure.NONE
    assert progress.failed(300 + STUCK_AFTER, store_answers=True) is Cure.RESTART_REPLICATION


def test_two_short_faults_far_apart_are_not_one_long_one() -> None:
    progress = Progress()
    assert progress.failed(0, store_answers=True) is Cure.NONE
    progress.proven()
    assert progress.failed(1000, store_answers=True) is Cure.NONE
