"""The outside observer of the tests with hosts as containers notices what it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docker.observer import Promise, contradictions

PROMISE = Promise("t", "e", 3)


def arrival(number: int, host: str = "a", key: str | None = None) -> dict[str, Any]:
    body = {"number": number, "host": host}
    step = f"effect-{number}"
    return {
        "tenant": "t",
        "execution": "e",
        "step": step,
        "key": key or f"key-{number}",
        "body": body,
    }


def seen(*arrivals: dict[str, Any], epochs: int = 2) -> list[str]:
    return contradictions([PROMISE], arrivals, {"t": epochs})


def test_what_is_repeated_under_its_key_on_the_next_host_is_right() -> None:
    assert seen(arrival(0), arrival(1), arrival(1, "b"), arrival(2, "b")) == []


@pytest.mark.parametrize(
    ("arrivals", "told"),
    [
        ([arrival(0), arrival(2)], "step 1 came under 0 keys"),
        ([arrival(0), arrival(1), arrival(1, key="other"), arrival(2)], "step 1 came under 2 keys"),
        ([arrival(0), arrival(2), arrival(1)], "out of order"),
        ([arrival(0), arrival(1, "b"), arrival(1), arrival(2, "b")], "2 epochs, but its effects"),
    ],
)
def test_what_is_lost_doubled_or_a_zombies_is_told(
    arrivals: list[dict[str, Any]], told: str
) -> None:
    assert any(told in one for one in seen(*arrivals))
