"""How long a take-over waits."""

from __future__ import annotations

from node.takeover import BASE_TIMEOUT, base_patience


def test_a_large_base_is_given_more_time() -> None:
    assert base_patience(0) == BASE_TIMEOUT
    assert base_patience(1 << 30) > 4 * 60
    assert base_patience(2 << 30) - base_patience(1 << 30) == base_patience(1 << 30) - BASE_TIMEOUT
