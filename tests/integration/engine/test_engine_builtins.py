"""Workflows of the engine's own beside the application's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from node import activity, workflow
from node.engine import builtins
from node.engine.builtins import Operations
from node.engine.errors import DefinitionError, UnknownWorkflow
from node.engine.events import Status
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import application, engine, go


@workflow
async def plain(number: int) -> int:
    return number


def _things(operations: Operations) -> Iterable[Any]:
    @activity(name="litefleet.test.start")
    async def start() -> int:
        return len((await operations.start("plain", {"number": 7}, id="begun")).view.id)

    @workflow(name="litefleet.test")
    async def own() -> int:
        return await start()

    return [own, start]


@pytest.mark.parametrize("forced", [False, True])
def test_they_run_beside_the_application_and_are_shown_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    monkeypatch.setattr(builtins, "MAKERS", [_things])

    async def test() -> None:
        async with engine(tmp_path, application(plain), forced_replay=forced) as running:
            with pytest.raises(UnknownWorkflow):
                await running.start("litefleet.test", {})
            await running.start("litefleet.test", {}, id="own", system=True)
            assert (await running.result("own", wait=30)).result == 5
            assert (await running.result("begun", wait=30)).result == 7
            ids = [view.id for view in running.executions()]
            assert ids == ["begun"]
            assert [view.id for view in running.executions(system=True)] == ["own", "begun"]
            assert [v.id for v in running.executions(workflow="litefleet.test")] == ["own"]
            assert [v.id for v in running.executions(status=Status.COMPLETED)] == ["begun"]
            assert running.counts["completed"] == 1
            assert running.counts["running"] == 0
        # Counted from the log.
        async with engine(tmp_path, application(plain)) as running:
            assert running.counts["completed"] == 1
        assert inspect_log(tmp_path / "log.db").executions["completed"] == 2

    go(test())


def test_no_application_declares_their_names() -> None:
    for declare in (workflow(name="litefleet.mine"), activity(name="litefleet.mine")):

        async def mine() -> None: ...

        with pytest.raises(DefinitionError, match=r"'litefleet\.mine' is a name of the engine"):
            application(plain, declare(mine))
