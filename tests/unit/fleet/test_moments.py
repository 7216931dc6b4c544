"""How people name a moment."""

from __future__ import annotations

import pytest

from fleet.moments import parse_moment
from fleet.problem import Problem
from restore.moment import AtBookmark, AtTime, Moment, Now

NOW = 1_795_500_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", Now()),
        ("90s-ago", AtTime(NOW - 90)),
        ("2h-ago", AtTime(NOW - 7200)),
        ("1.5d ago", AtTime(NOW - 129_600)),
        ("3:1712", AtBookmark(3, 1712)),
        ("2026-11-24T06:00:00Z", AtTime(NOW)),
        ("2026-11-24T07:00:00+01:00", AtTime(NOW)),
    ],
)
def test_a_moment(text: str, moment: Moment) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2h", "-2h-ago", "2026-11-24T06:00:00", "2026-11-24T06:00:01Z", "3:"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(Problem) as raised:
        parse_moment(text, NOW)
    assert raised.value.hint
