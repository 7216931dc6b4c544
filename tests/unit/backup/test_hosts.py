"""What operators want of hosts."""

from __future__ import annotations

from backup.hosts import HostRecord, cordon, uncordon


def test_a_host_is_cordoned_drained_and_used_again() -> None:
    first = cordon(None, "h", drain=False, at=1.0, why="disks")
    assert (first.host, first.rev, first.cordoned, first.draining, first.why) == (
        *("h", 1, True, False),
        "disks",
    )
    drained = cordon(first, "h", drain=True, at=2.0, why="")
    assert (drained.rev, drained.draining, drained.why) == (2, True, "disks")
    assert drained.nonce != first.nonce
    # Cordoning it again does not end the drain.
    assert cordon(drained, "h", drain=False, at=3.0, why="").draining
    back = uncordon(drained, at=4.0)
    assert back is not None
    assert (back.cordoned, back.draining, back.why, back.rev) == (False, False, "", 3)
    assert uncordon(back, at=5.0) is None
    assert uncordon(None, at=5.0) is None


def test_a_record_of_a_later_version_can_be_read() -> None:
    assert HostRecord.model_validate({"host": "h", "cordoned": True, "new": 1}).cordoned
