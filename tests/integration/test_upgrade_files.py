"""An upgrade check of logs, exported executions and folders of both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.problem import Problem
from fleet.upgrade import check_files
from node.engine.config import EngineConfig
from node.engine.engine import Engine
from tests.integration.engine.versions_scenario import V1, V2


async def write(folder: Path) -> None:
    config = EngineConfig(
        path=folder / "log.db", application=V1, tenant="acme", lineage="line", create=True
    )
    async with Engine(config) as engine:
        for id, pinned in (("open", None), ("kept", True), ("over", None)):
            await engine.start("moving", {}, id=id, pinned=pinned)
            while engine.waiting(id)[0].kind != "signal":
                await asyncio.sleep(0.001)
        await engine.signal("over", "go", "x")
        await engine.result("over", wait=10)
        for id in ("open", "kept", "over"):
            (folder / f"{id}.json").write_text(engine.archive(id).model_dump_json())


def test_what_is_open_in_files_is_checked(tmp_path: Path) -> None:
    asyncio.run(write(tmp_path))
    of_log = check_files([tmp_path / "log.db"], V2, [V1])
    archives = [tmp_path / f"{id}.json" for id in ("open", "kept", "over")]
    of_archives = check_files(archives, V2, [V1])
    for report in (of_log, of_archives):
        count = report.workflows["moving"]
        assert (report.ok, report.executions, count.follows, count.pinned) == (True, 2, 1, 1)
        assert report.patches["words"].old == 1
    assert check_files([tmp_path], V2, [V1]).executions == 4
    alone = check_files(archives, V2)
    assert [finding.execution for finding in alone.findings] == ["kept"]

    (tmp_path / "open.json").write_text("{}")
    with pytest.raises(Problem, match="no archive"):
        check_files([tmp_path / "open.json"], V2)


def test_without_check_it_is_refused_with_a_way_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_text("")
    ran = CliRunner().invoke(app, ["upgrade", str(tmp_path / "log.db"), "--app", "x"])
    assert isinstance(ran.exception, Problem)
    assert "--check" in str(ran.exception.hint)
