"""When the ticks of a schedule are."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from node.engine.errors import BadSchedule
from node.engine.timing import Cron, Every, cron_of

#: Times at which the clocks of these zones change, unix seconds.
CHANGES = {
    "Europe/Berlin": [1774746000, 1792890000],
    "America/New_York": [1772953200, 1793512800],
    "America/Havana": [1772946000, 1793509200],
    "Asia/Beirut": [1774735200, 1792875600],
    # By half an hour, and at a quarter to three.
    "Australia/Lord_Howe": [1775314800, 1791041400],
    "Pacific/Chatham": [1775311200, 1790431200],
}


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(cron: Cron | Every, start: str, end: str) -> list[str]:
    zone = ZoneInfo(cron.zone) if isinstance(cron, Cron) else UTC
    found, at = [], cron.after(ms(start) - 1)
    while at is not None and at <= ms(end):
        found.append(datetime.fromtimestamp(at / 1000, zone).strftime("%d %H:%M %z"))
        at = cron.after(at)
    return found


def test_a_fixed_time_in_the_gap_comes_right_after_it() -> None:
    cron = cron_of(("30 2 * * *",), "Europe/Berlin")
    assert ticks(cron, "2026-03-28T00:00Z", "2026-03-30T12:00Z") == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]


def test_a_fixed_time_that_comes_twice_comes_the_first_time() -> None:
    cron = cron_of(("30 2 * * *",), "Europe/Berlin")
    assert ticks(cron, "2026-10-24T00:00Z", "2026-10-26T12:00Z") == [
        "24 02:30 +0200",
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]
    # Asked from within the hour that comes again.
    assert cron.after(ms("2026-10-25T01:10Z")) == ms("2026-10-26T01:30Z")


def test_every_hour_is_every_hour_that_there_is() -> None:
    cron = cron_of(("@hourly",), "Europe/Berlin")
    assert ticks(cron, "2026-03-29T00:00Z", "2026-03-29T02:00Z") == [
        "29 01:00 +0100",
        "29 03:00 +0200",
        "29 04:00 +0200",
    ]
    assert ticks(cron, "2026-10-24T23:30Z", "2026-10-25T02:00Z") == [
        "25 02:00 +0200",
        "25 02:00 +0100",
        "25 03:00 +0100",
    ]


def test_two_times_in_one_gap_are_one_tick() -> None:
    cron = cron_of(("5,35 2 * * *",), "Europe/Berlin")
    assert ticks(cron, "2026-03-29T00:00Z", "2026-03-29T12:00Z") == ["29 03:00 +0200"]


def test_several_expressions_are_one_schedule() -> None:
    cron = cron_of(("0 9 * * mon", "0 12 * * mon,TUE", "0 9 * * 1"), "UTC")
    assert ticks(cron, "2026-11-23T00:00Z", "2026-11-24T23:00Z") == [
        "23 09:00 +0000",
        "23 12:00 +0000",
        "24 12:00 +0000",
    ]


MINUTE_BY_MINUTE = [
    "*/15 * * * *",
    "*/20 2 * * *",
    "0 */2 * * *",
    "*/30 0-3 * * sun",
    "* 1,2 * * *",
    "*/10 * 1,29-31 * *",
    "*/15 0 * * *",
    "5 * * 3,10 *",
]


@given(
    st.sampled_from(sorted(CHANGES)),
    st.integers(0, 1),
    st.sampled_from(MINUTE_BY_MINUTE),
    st.integers(-300, 300),
)
def test_around_a_change_it_is_every_minute_that_matches(
    zone: str, which: int, expression: str, start: int
) -> None:
    info = ZoneInfo(zone)
    begin = CHANGES[zone][which] + start * 60
    fields = CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))

    def matches(moment: int) -> bool:
        at = datetime.fromtimestamp(moment, info)
        return (
            at.minute in fields.minutes
            and at.hour in fields.hours
            and at.month in fields.months
            and fields.match_day(at.date())
        )

    wanted = [moment for moment in range(begin + 60, begin + 5 * 3600, 60) if matches(moment)]
    cron, at, found = Cron((expression,), zone), begin * 1000, []
    while (after := cron.after(at)) is not None and after < (begin + 5 * 3600) * 1000:
        assert after > at
        found.append(after // 1000)
        at = after
    assert found == wanted


@given(
    st.sampled_from(sorted(CHANGES)),
    st.integers(0, 1),
    st.integers(0, 59),
    st.integers(0, 23),
    st.integers(-3 * 86400, 3 * 86400),
)
def test_a_fixed_time_comes_once_a_day(
    zone: str, which: int, minute: int, hour: int, start: int
) -> None:
    info, cron = ZoneInfo(zone), Cron((f"{minute} {hour} * * *",), zone)
    at, days = (CHANGES[zone][which] + start) * 1000, []
    for _ in range(5):
        after = cron.after(at)
        assert after is not None
        assert after > at
        at = after
        days.append(datetime.fromtimestamp(at / 1000, info).toordinal())
    assert [day - days[0] for day in days] == [0, 1, 2, 3, 4]


@given(st.integers(1, 10**6), st.integers(-(10**9), 10**9), st.integers(0, 2 * 10**12))
def test_an_interval_keeps_its_phase(seconds: int, anchor: int, at: int) -> None:
    after = Every(seconds, anchor).after(at)
    assert at < after <= at + seconds * 1000
    assert (after - anchor * 1000) % (seconds * 1000) == 0


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("61 * * * *", "bad minute"),
        ("* * * *", "4 fields instead of five"),
        ("0 0 * * * *", "6 fields instead of five"),
        ("@reboot", "1 fields instead of five"),
        ("0 9 * * mon-fir", "bad day-of-week"),
        ("0 9 L,7/2/3 * *", "bad day-of-month"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("* * */20 * 1L", "never comes"),
        ("0 9 * * */0", "bad day-of-week"),
        ("", "0 fields"),
    ],
)
def test_what_is_no_expression_is_refused_in_words(expression: str, why: str) -> None:
    with pytest.raises(BadSchedule, match=why) as refused:
        cron_of((expression,), "UTC")
    assert repr(expression) in str(refused.value)
    assert "five fields" in refused.value.hint


@given(st.text("0123456789*/,-#LW mon", max_size=14), st.integers(0, 4))
def test_whatever_is_typed_is_taken_or_refused(text: str, place: int) -> None:
    words = ["0", "9", "1", "*", "*"]
    words[place] = text.replace(" ", "") or "*"
    try:
        cron = cron_of((" ".join(words),), "UTC")
    except BadSchedule:
        return
    assert cron.after(0) is not None


@pytest.mark.parametrize("zone", ["Europe/Paris ", "europe/paris", "Europe", "../x", "", "\0"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(BadSchedule, match="no time zone"):
        cron_of(("@daily",), zone)
