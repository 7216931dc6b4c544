"""A restore is a durable workflow: cut off anywhere, told twice, gone on with by another one."""

from __future__ import annotations

import asyncio
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backup import keys, ownership, records
from backup.errors import Unreachable
from backup.memory import MemoryStore
from backup.ownership import Origin, Owner, OwnerState, TenantRecord
from backup.records import Versioned
from fleet.agent.drilling import Rehearsal, RehearsalRequest
from fleet.coordinator import history_log, own_app
from fleet.coordinator.account import Tenant
from fleet.coordinator.history_log import Wanted
from fleet.coordinator.restores import RestoreOperation, Restores, StateAsked
from fleet.coordinator.timeline import TimelineLog
from node.engine import schema
from node.testing import crash_everywhere
from node.testing.lab import Lab

OPERATION: dict[str, Any] = {
    "id": "restore/t/1",
    "tenant": "t",
    "source": None,
    "asked": {"bookmark": "1:7"},
    "by": "ada",
    "why": "ticket 7",
}


# -- the workflow --------------------------------------------------------------------------------


def test_it_ends_the_same_wherever_it_is_cut_off() -> None:
    """The engine is killed after each commit in turn, and after every one."""
    done: list[str] = []

    async def step(name: str, operation: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        done.append(name)
        if name == "rehearse":
            return {"origin": {"epoch": 1}}
        if name == "want":
            return {"number": 1, "left": 1}
        return {"over": done.count("follow") > 1, "epoch_before": 1, "epoch_after": 2}

    async def scenario(lab: Lab) -> Any:
        done.clear()
        lab.mock(own_app.step, side_effect=step)
        end = await lab.run(own_app.restore.with_id("r"), OPERATION)
        with closing(schema.connect(lab.path, read_only=True)) as db:
            rows = [one.id for one in history_log.read(db, Wanted())]
        return end["epoch_after"], rows

    survived = asyncio.run(crash_everywhere(scenario, own_app))
    assert survived.outcome == (2, ["restore/t/1"])
    assert survived.commits >= 5


def test_a_refusal_is_recorded_and_changes_nothing() -> None:
    asked: list[str] = []

    async def step(name: str, operation: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        asked.append(name)
        return {"error": "there is no event 7", "outcome": "refused"}

    async def whole() -> None:
        async with Lab(own_app) as lab:
            lab.mock(own_app.step, side_effect=step)
            end = await lab.run(own_app.restore, OPERATION)
            assert end["outcome"] == "refused"

    asyncio.run(whole())
    assert asked == ["rehearse"]


# -- the steps -----------------------------------------------------------------------------------


class Rehearsed(Restores):
    """Finds what is asked for, without a host."""

    async def _rehearse(self, name: str, request: RehearsalRequest) -> Rehearsal:
        return Rehearsal(
            lineage="l",
            epoch=1,
            txid=5,
            sequence=7,
            at=1.0,
            committed_at=1.0,
            executions={},
            bytes=1,
            seconds=0.1,
            host="a",
        )


class World:
    """A store with one tenant, and coordinators that come and go."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        wanted = TenantRecord(tenant="t", app="x")
        records.swap(self.store, keys.wanted("t"), wanted, None)

    def coordinator(self) -> Restores:
        """One that has just begun."""
        found = records.read(self.store, keys.wanted("t"), TenantRecord)
        assert found is not None
        tenant = Tenant(found.record)
        record = ownership.claim(
            None, "t", Owner(host="a", incarnation="l.n"), authority_ended=True
        ).model_copy(update={"state": OwnerState.ACTIVE})
        tenant.owner = Versioned(record, "e")

        fleet = SimpleNamespace(tenants={"t": tenant}, timeline=TimelineLog(), wake=lambda: None)
        issuer = SimpleNamespace(
            issue=lambda name: {"access_key_id": "k", "secret_access_key": "s"}
        )
        return Rehearsed(cast(Any, fleet), self.store, cast(Any, issuer), cast(Any, None), "token")

    @property
    def wanted(self) -> TenantRecord:
        found = records.read(self.store, keys.wanted("t"), TenantRecord)
        assert found is not None
        return found.record


def operation(id: str = "restore/t/1") -> RestoreOperation:
    return RestoreOperation(id=id, tenant="t", asked=StateAsked(bookmark="1:7"), by="ada")


def test_each_step_may_be_told_twice_and_by_another_coordinator() -> None:
    async def whole() -> None:
        world = World()
        found = [await world.coordinator().rehearse(operation()) for _ in range(2)]
        assert found[0] == found[1]
        assert world.wanted.rev == 1
        wanted = [await world.coordinator().want(operation(), found[0]) for _ in range(3)]
        assert [one["number"] for one in wanted] == [1, 1, 1]
        restore = world.wanted.restore
        assert restore is not None
        assert (restore.asked, restore.bookmark, restore.number) == ("restore/t/1", "1:7", 1)
        assert world.wanted.rev == 2
        # Another one is another restore.
        later = await world.coordinator().want(operation("restore/t/2"), _told("restore/t/2"))
        assert later["number"] == 2

    asyncio.run(whole())


def _told(id: str) -> dict[str, Any]:
    origin = Origin(tenant="t", lineage="l", epoch=1, txid=5, sequence=7, asked=id)
    return {"origin": origin.model_dump(mode="json")}


def test_a_store_that_does_not_answer_ends_nothing() -> None:
    async def whole() -> None:
        world = World()
        one = world.coordinator()

        def fails(*_: object, **__: object) -> None:
            raise Unreachable("no answer")

        cast(Any, world.store).get = fails
        with pytest.raises(Unreachable):
            await one.want(operation(), _told("restore/t/1"))
        view = one.look("t")
        assert view is not None
        assert not view.over

    asyncio.run(whole())


def test_a_tenant_that_is_deleted_meanwhile_is_left_alone() -> None:
    async def whole() -> None:
        world = World()
        one = world.coordinator()
        world.store.delete(keys.wanted("t"))
        told = await one.want(operation(), _told("restore/t/1"))
        assert told["outcome"] == "refused"
        assert "deleted" in told["error"]

    asyncio.run(whole())
