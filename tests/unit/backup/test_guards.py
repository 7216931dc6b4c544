"""When do guards alert, and when do they keep quiet?"""

from __future__ import annotations

import pytest

from backup.guards import MB, Action, Guard, GuardSettings, Measured, Watch, complaints

WELL = Measured(
    at=600.0,
    database=100 * MB,
    wal=40 * MB,
    metadata=120 * MB,
    committed_bytes=41 * MB,
    uploaded_bytes=45 * MB,
    unproven_seconds=1.5,
    unreplicated_bytes=2 * MB,
    reader_seconds=1.0,
)
START = Measured(at=0.0)

#: A measurement that each guard must not be content with.
BAD: dict[Guard, dict[str, object]] = {
    Guard.UNPROVEN: {"unproven_seconds": 31.0},
    Guard.UNREPLICATED: {"unreplicated_bytes": 257 * MB},
    Guard.WAL: {"wal": 201 * MB},
    Guard.READER: {"reader_seconds": 16.0, "reader_pids": (4711,)},
    Guard.DISK: {"metadata": 500 * MB},
    Guard.TRAFFIC: {"uploaded_bytes": 9000 * MB},
    Guard.FULL_UPLOADS: {"full_uploads": 4},
    Guard.QUOTA: {"database": 600 * MB},
    Guard.STUCK: {"stuck": True},
}
SETTINGS = GuardSettings(quota_bytes=500 * MB)


def test_a_healthy_node_gives_no_alert() -> None:
    assert complaints(WELL, START, SETTINGS) == {}
    assert complaints(START, START, SETTINGS) == {}


@pytest.mark.parametrize("guard", list(Guard))
def test_each_guard_sees_its_own_trouble_and_no_other(guard: Guard) -> None:
    now = WELL.model_copy(update=BAD[guard])
    assert list(complaints(now, START, SETTINGS)) == [guard]


@pytest.mark.parametrize("guard", [guard for guard in Guard if guard is not Guard.STUCK])
def test_a_guard_can_be_switched_off(guard: Guard) -> None:
    names = [
        name
        for name in GuardSettings.model_fields
        if name.startswith(f"{guard}_") or name == str(guard)
    ]
    off = SETTINGS.model_copy(update={name: None for name in names if not name.endswith("least")})
    assert complaints(WELL.model_copy(update=BAD[guard]), START, off) == {}


def test_a_small_database_may_have_large_files_beside_it() -> None:
    small = Measured(at=1.0, database=MB, wal=50 * MB, metadata=100 * MB)
    assert complaints(small, START, SETTINGS) == {}


def test_traffic_counts_within_the_window_only() -> None:
    watch = Watch(GuardSettings(window=100.0))
    grown = Measured(at=0.0, uploaded_bytes=500 * MB, committed_bytes=1 * MB)
    assert watch.measured(grown, 0.0) == []
    assert watch.measured(grown.model_copy(update={"at": 90.0}), 0.0) == []
    more = Measured(at=99.0, uploaded_bytes=600 * MB, committed_bytes=2 * MB)
    assert [alert.guard for alert in watch.measured(more, 0.0)] == [Guard.TRAFFIC]
    # A hundred seconds later nothing more has been uploaded.
    assert watch.measured(more.model_copy(update={"at": 250.0}), 0.0) == []
    assert watch.alerts == {}


def test_an_alert_begins_once_and_goes_by_itself() -> None:
    watch = Watch(GuardSettings(actions={Guard.WAL: Action.RESTART_SIDECAR}))
    bad = Measured(at=0.0, wal=201 * MB, database=1000 * MB)
    (begun,) = watch.measured(bad, 1000.0)
    assert (begun.guard, begun.since, begun.action) == (Guard.WAL, 1000.0, Action.RESTART_SIDECAR)
    worse = bad.model_copy(update={"at": 5.0, "wal": 300 * MB})
    assert watch.measured(worse, 1005.0) == []
    alert = watch.alerts[Guard.WAL]
    assert (alert.since, "300.0 MB" in alert.text) == (1000.0, True)
    assert watch.measured(Measured(at=10.0), 1010.0) == []
    assert watch.alerts == {}
    assert [one.since for one in watch.measured(bad.model_copy(update={"at": 15.0}), 1015.0)] == [
        1015.0
    ]
