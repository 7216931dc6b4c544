"""Token bucket and room: never more than allowed, never less, and every tenant for itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.limits import RequestLimits
from fleet.gateway.limits import Bucket, Room

STEPS = st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=60)


@given(STEPS, st.floats(min_value=0.1, max_value=50), st.integers(min_value=1, max_value=20))
def test_a_bucket_never_gives_more_than_its_rate_and_its_burst(
    pauses: list[float], rate: float, burst: int
) -> None:
    bucket, now, taken = Bucket(), 100.0, 0
    for pause in pauses:
        now += pause
        while bucket.take(now, rate, burst) == 0.0:
            taken += 1
        assert taken <= burst + (now - 100.0) * rate + 1e-6


@given(STEPS, st.floats(min_value=0.1, max_value=50), st.integers(min_value=1, max_value=20))
def test_who_comes_when_it_was_told_is_given_a_token(
    pauses: list[float], rate: float, burst: int
) -> None:
    bucket, now = Bucket(), 100.0
    for pause in pauses:
        now += pause
        wait = bucket.take(now, rate, burst)
        if wait:
            now += wait + 1e-6
            assert bucket.take(now, rate, burst) == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket()
    assert bucket.take(100.0, 1.0, 1) == 0.0
    assert bucket.take(50.0, 1.0, 1) == 1.0
    assert bucket.take(100.5, 1.0, 1) == 0.5


def test_a_room_lets_in_what_the_limits_allow() -> None:
    room, bucket = Room(), Bucket()
    limits = RequestLimits(rate=1, burst=3, concurrency=2, body_bytes=10)
    large = room.enter(bucket, 0.0, limits, 11)
    assert large is not None
    assert (large.why, large.retry_after) == ("body", None)
    assert room.enter(bucket, 0.0, limits, 10) is None
    assert room.enter(bucket, 0.0, limits, None) is None
    full = room.enter(bucket, 0.0, limits, 0)
    assert full is not None
    assert full.why == "concurrency"
    room.leave()
    # Who is refused takes no token: there is one left.
    assert room.enter(bucket, 0.0, limits, 0) is None
    room.leave()
    fast = room.enter(bucket, 0.0, limits, 0)
    assert fast is not None
    assert (fast.why, fast.retry_after) == ("rate", 1.0)


def test_nothing_is_limited_where_nothing_is_set_or_zero() -> None:
    for limits in (RequestLimits(), RequestLimits(rate=0, concurrency=0, body_bytes=0)):
        room, bucket = Room(), Bucket()
        assert all(room.enter(bucket, 0.0, limits, 1 << 40) is None for _ in range(1000))


def test_what_is_held_is_bounded_in_number_and_bytes() -> None:
    room = Room()
    assert room.hold(10, most=3, most_bytes=25) is None
    assert room.hold(10, most=3, most_bytes=25) is None
    for size, why in ((10, "bytes"), (5, None), (0, "held")):
        refused = room.hold(size, most=3, most_bytes=25)
        assert (refused.why if refused else None) == why
    room.let_go(10)
    assert room.hold(0, most=3, most_bytes=25) is None


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (RequestLimits(), RequestLimits(rate=10, burst=50, concurrency=5)),
        (RequestLimits(rate=2), RequestLimits(rate=2, concurrency=5)),
        (RequestLimits(rate=0), RequestLimits(rate=0, concurrency=5)),
        (RequestLimits(burst=9), RequestLimits(rate=10, burst=9, concurrency=5)),
        (
            RequestLimits(body_bytes=7),
            RequestLimits(rate=10, burst=50, concurrency=5, body_bytes=7),
        ),
    ],
)
def test_a_tenants_own_limits_go_before_the_fleets(
    own: RequestLimits, expected: RequestLimits
) -> None:
    assert own.over(RequestLimits(rate=10, burst=50, concurrency=5)) == expected
