"""Deleting tenants, the coordinator's part: who is buried, who may still write, what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backup import burial, ownership
from backup.ownership import Deletion, OwnerRecord, OwnerState, TenantRecord
from backup.records import Versioned
from fleet.agent import remains
from fleet.coordinator.decide import decide
from fleet.coordinator.deletions import writers
from fleet.coordinator.picture import Bury, Drain, SeenHost, SeenTenant
from tests.unit.fleet.test_decide import host, node, owned, picture

DELETION = Deletion(number=1, asked_at=1.0, purge_after=2.0)


def deleted(record: OwnerRecord | None, **more: object) -> SeenTenant:
    wanted = TenantRecord(tenant="t", app="app", deletion=DELETION)
    owner = Versioned(record, "e-owner") if record else None
    return SeenTenant(wanted, owner, 5.0, **more)  # type: ignore[arg-type]


def kinds(hosts: list[SeenHost], tenant: SeenTenant) -> list[type]:
    return [type(action) for action in decide(picture(hosts, {"t": tenant}))]


def test_one_that_serves_is_stopped_first() -> None:
    (drain,) = decide(picture([host("a", nodes=(node("a"),))], {"t": deleted(owned("a"))}))
    assert drain == Drain("t", "a", "delete")


@pytest.mark.parametrize("state", [OwnerState.RELEASED, OwnerState.DAMAGED])
def test_one_that_nobody_runs_is_buried_and_not_started(state: OwnerState) -> None:
    (bury,) = decide(picture([host("a"), host("b")], {"t": deleted(owned("a", state))}))
    assert isinstance(bury, Bury)
    assert (bury.tenant, bury.number) == ("t", 1)


def test_one_that_was_never_started_is_buried() -> None:
    assert kinds([host("a")], deleted(None)) == [Bury]


def test_one_whose_host_is_lost_is_buried_once_that_is_fenced() -> None:
    silent = host("a", silent=5.0, nodes=None)
    assert kinds([silent, host("b")], deleted(owned("a"))) == []
    assert kinds([host("a", ended=True), host("b")], deleted(owned("a"))) == [Bury]


def test_one_that_is_buried_is_left_alone_by_everybody() -> None:
    record = burial.bury(owned("a", OwnerState.RELEASED), "t", 1, authority_ended=True)
    assert kinds([host("a"), host("b")], deleted(record)) == []


def test_one_whose_deletion_was_taken_back_is_not_buried_again() -> None:
    back = burial.unbury(owned("a"), "t", 1)
    # The tombstone is still there: whoever took it back was killed in between.
    assert kinds([host("a", nodes=(node("a"),))], deleted(back)) == []


def test_a_name_that_is_free_is_started_anew() -> None:
    buried = burial.bury(owned("a", OwnerState.RELEASED), "t", 1, authority_ended=True)
    erased = burial.end_erasing(burial.begin_erasing(buried, 1), 1)
    again = replace(deleted(erased), wanted=TenantRecord(tenant="t", app="app", follows=1))
    (start,) = decide(picture([host("a")], {"t": again}))
    assert (start.cause, start.expected) == ("created", "e-owner")  # type: ignore[union-attr]
    # What a coordinator read before the removal brings nobody back, and nobody else to life.
    stale = replace(again, wanted=TenantRecord(tenant="t", app="app"))
    assert decide(picture([host("a")], {"t": stale})) == []
    claimed = ownership.claim(erased, "t", ownership.Owner(host="a", incarnation="l.n"),
                              authority_ended=True)  # fmt: skip
    assert claimed.genesis


# -- who may still write -------------------------------------------------------------------------


def blocked(*hosts: SeenHost, known: tuple[str, ...] = ("a", "b")) -> list[str]:
    return writers(known, {one.name: one for one in hosts}, "t", buried_at=5.0)


def test_nobody_writes_once_all_hosts_have_said_so() -> None:
    assert blocked(host("a", nodes=(node("a", "other"),)), host("b")) == []
    assert blocked(host("a", ended=True, nodes=None), host("b")) == []
    assert blocked(host("a", nodes=(node("a", over=True),)), host("b")) == []


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (host("a", nodes=(node("a"),)), "a still has a node of it"),
        (host("a", nodes=None, silent=99.0), "a does not answer, and its lease has not ended"),
        (host("a", nodes_at=5.0), "a was not asked yet"),
        (host("c"), "a is not known yet"),
    ],
)
def test_whoever_may_write_is_waited_for(one: SeenHost, why: str) -> None:
    assert blocked(one, host("b")) == [why]


# -- what lies on a host -------------------------------------------------------------------------


def test_only_the_tenants_own_remains_are_removed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    mine = ["t-00000001-0123abcd-1700000000", "t-00000002-89abcdef-1700000001"]
    others = [
        "t-00000009-89abcdef-1700000001",  # of an epoch after its last
        "t-x-00000001-0123abcd-1700000000",
        "tt-00000001-0123abcd-1700000000",
        "t-00000001-0123abcd-1700000000-00000001-0123abcd-1700000000",  # a tenant of that name
        "t",
    ]
    for name in (*mine, *others):
        (tmp_path / "quarantine" / name / "data").mkdir(parents=True)
        (tmp_path / "quarantine" / name / "data" / "log.db").write_bytes(b"12345")
    found = remains.remove(tmp_path, "t", 3)
    assert (found.folders, found.bytes) == (2, 10)
    assert {one.name for one in (tmp_path / "quarantine").iterdir()} == set(others)
