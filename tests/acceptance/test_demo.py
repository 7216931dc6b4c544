"""The demo as a user runs it: real processes, real kills, the report on stdout."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import User, interrupt

SMALL = ("--tenants", "4", "--documents", "24", "--json")


def _report(text: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(text)
    return report


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["kill", "freeze", "partition"])
def test_a_host_is_lost_and_nothing_that_was_promised(user: User, how: str) -> None:
    ran = user.run("demo", *SMALL, "--how", how)
    assert ran.returncode == 0, ran.stderr[-4000:] + ran.stdout[-4000:]
    report = _report(ran.stdout)
    assert report["ok"] is True
    assert report["findings"] == []
    assert report["tenants"] == 4
    assert report["executions"] == report["completed"] == 96
    assert report["hosts_lost"] == 1
    assert report["lost_acknowledged"] == 0
    assert report["starts"]["durable"] > 0
    assert report["starts"]["async"] > 0
    assert len(report["recoveries"]) == len(report["losses"][0]["tenants"]) > 0
    assert report["losses"][0]["executions_running"] > 0
    for recovery in report["recoveries"]:
        split = recovery["split"]
        assert set(split) == {"detect", "fence", "claim", "fetch", "verify", "start"}
        assert sum(split.values()) == pytest.approx(recovery["rto_seconds"], abs=0.05)
    for name in ("rpo_seconds", "rto_seconds"):
        assert report[name]["max"] >= report[name]["p50"] >= 0
    if how == "kill":
        assert report["zombies"] == []
    else:
        (zombie,) = report["zombies"]
        assert zombie["asked"] > 0
        assert zombie["answered_durable"] == 0
        assert zombie["stopped_itself"] is True
    assert "Traceback" not in ran.stderr
    user.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting 3 hosts", "executions over HTTP"])
def test_an_interrupt_leaves_nothing_behind(
    user: User, saying: Callable[[str], None], moment: str, number: int
) -> None:
    process = user.start("demo", *SMALL)
    saying(moment)
    assert interrupt(process, number) == 128 + number
    assert "Traceback" not in user.errors
    user.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_demos_run_beside_each_other(user: User, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"Paper {number}\n\nWords about paper {number}.\n")
    arguments = ("demo", "--tenants", "2", "--lose", "0", "--input", str(folder), "--json")
    processes = [user.start(*arguments) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, user.errors[-4000:]
        assert _report(out)["executions"] == 8
    user.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_practice_loses_the_host_that_is_named(user: User) -> None:
    ran = user.run("practice", "--lose", "host-2", "--tenants", "3", "--json")
    assert ran.returncode == 0, ran.stderr[-4000:]
    report = _report(ran.stdout)
    assert [loss["host"] for loss in report["losses"]] == ["host-2"]
    user.assert_nothing_left()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lose", "host-9"), "there is no host-9"),
        (("--lose", "host-1", "--lose", "host-1"), "lost once"),
        (("--lose", "host-1", "--tenants", "2"), "may have none"),
    ],
)
def test_practice_refuses_what_shows_nothing(
    user: User, arguments: tuple[str, ...], words: str
) -> None:
    ran = user.run("practice", *arguments)
    assert ran.returncode == 2
    assert words in " ".join(ran.stderr.replace("│", " ").split())
    user.assert_nothing_left()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--input", "nowhere"), "not a folder"),
        (("--input", "tmp"), "no document"),
    ],
)
def test_there_must_be_something_to_work_on(
    user: User, arguments: tuple[str, ...], words: str
) -> None:
    ran = user.run("demo", *arguments)
    assert ran.returncode == 1
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    user.assert_nothing_left()
