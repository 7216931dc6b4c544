"""What an upgrade check says, from events alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from node import activity, workflow
from node.engine.application import Application, collect
from node.engine.errors import DefinitionError
from node.engine.events import Event, Kind
from node.engine.patches import patches_in
from node.engine.upgrade import UpgradeCheck, UpgradeReport, Verdict


@activity
async def one(x: int) -> int:
    raise AssertionError("a check runs no activity")


@activity
async def two(x: int) -> int:
    raise AssertionError("a check runs no activity")


def made(body: Any, *, version: str | None = "2", name: str = "job") -> Application:
    return collect("app", [one, two, workflow(name=name)(body)], version=version)


async def follows(x: int) -> int:
    return await one(x) + await two(x)


async def swapped(x: int) -> int:
    return await two(x) + await one(x)


async def added(x: int) -> int:
    await workflow.sleep(1)
    return await one(x) + await two(x)


async def removed(x: int) -> int:
    return await two(x)


async def other_input(x: int) -> int:
    return await one(x + 1) + await two(x)


async def other_end(x: int) -> int:
    await one(x)
    return 7


async def patched(x: int) -> int:
    if workflow.patched("sleep"):
        await workflow.sleep(1)
    return await one(x) + await two(x)


async def reads(x: int) -> int:
    open("/etc/hostname")  # noqa: ASYNC230, SIM115
    return x


def events(*rows: tuple[Kind, str, int, Any], id: str = "e", first: int = 1) -> list[Event]:
    return [
        Event(first + n, id, kind, name, nth, payload, 1000 * (first + n), first + n)
        for n, (kind, name, nth, payload) in enumerate(rows)
    ]


GIVEN = '{"x":1}'
HISTORY = events(
    (Kind.STARTED, "job", 1, GIVEN),
    (Kind.STEP, "one", 1, GIVEN),
    (Kind.STEP_COMPLETED, "one", 1, "10"),
    (Kind.STEP, "two", 1, GIVEN),
)


def checked(
    app: Application, *histories: Sequence[Event], kept: Sequence[Application] = ()
) -> UpgradeReport:
    check = UpgradeCheck(app, kept)
    for history in histories:
        check.add(history, tenant="acme", lineage="line")
    return check.report


def test_code_that_follows_is_fine_and_nothing_is_run() -> None:
    report = checked(made(follows), HISTORY)
    assert report.ok
    assert report.findings == []
    assert (report.executions, report.events, report.version) == (1, 4, "2")
    assert report.workflows["job"].follows == 1


@pytest.mark.parametrize(
    ("body", "sequence", "logged", "did"),
    [
        (swapped, 2, 'step one #1 {"x":1}', 'step two #1 {"x":1}'),
        (added, 2, 'step one #1 {"x":1}', "timer (timer) #1 2000"),
        (removed, 2, 'step one #1 {"x":1}', 'step two #1 {"x":1}'),
        (other_input, 2, 'step one #1 {"x":1}', 'step one #1 {"x":2}'),
        (other_end, 4, 'step two #1 {"x":1}', "completed job #1 7"),
    ],
)
def test_events_that_are_swapped_added_removed_or_changed(
    body: Any, sequence: int, logged: str, did: str
) -> None:
    report = checked(made(body), HISTORY, HISTORY)
    assert not report.ok
    assert report.workflows["job"].diverges == 2
    [finding, _] = report.findings
    assert (finding.verdict, finding.execution) == (Verdict.DIVERGES, "e")
    assert (finding.sequence, finding.logged, finding.did) == (sequence, logged, did)
    assert finding.hint


def test_a_patch_lets_old_executions_go_their_old_way_and_its_use_is_counted() -> None:
    start = events((Kind.STARTED, "job", 1, GIVEN), id="new")
    report = checked(made(patched), HISTORY, start)
    assert report.ok
    use = report.patches["sleep"]
    assert (use.old, use.new, use.old_path_is_unused) == (1, 1, False)
    assert checked(made(patched), start).patches["sleep"].old_path_is_unused
    # Of a patch that nobody has come to, only the code tells.
    assert checked(made(patched)).patches["sleep"].old_path_is_unused


async def helper() -> None:
    workflow.patched("inner")


async def outer(x: int) -> int:
    async def nested() -> None:
        workflow.patched("nested")

    await nested()
    await helper()
    return x


def test_patches_are_found_in_functions_that_the_code_names() -> None:
    assert patches_in(outer) == {"inner", "nested"}
    assert patches_in(patched) == {"sleep"}
    assert patches_in(follows) == set()


def test_what_no_replay_could_repeat_is_found() -> None:
    report = checked(made(reads), HISTORY)
    [finding] = report.findings
    assert finding.verdict is Verdict.DIVERGES
    assert "opening a file" in finding.message


def test_a_workflow_or_an_activity_that_is_gone() -> None:
    [finding] = checked(made(follows, name="other"), HISTORY).findings
    assert finding.verdict is Verdict.UNKNOWN
    assert "'job'" in finding.message

    fewer = collect("app", [two, workflow(name="job")(removed)], version="2")
    [finding] = checked(fewer, HISTORY).findings
    assert (finding.verdict, finding.missing) == (Verdict.DIVERGES, ["one"])


def pinned(version: str, *more: tuple[Kind, str, int, Any]) -> list[Event]:
    origin = json.dumps({"version": version, "pinned": True})
    start, *rest = [(e.kind, e.name, e.occurrence, e.payload) for e in HISTORY]
    return events(start, (Kind.ORIGIN, "job", 1, origin), *rest, *more)


def test_a_pinned_execution_follows_its_own_version_or_waits_for_it() -> None:
    older = made(follows, version="1")
    report = checked(made(swapped), pinned("1"), kept=[older])
    assert report.ok
    assert (report.workflows["job"].pinned, report.kept) == (1, ["1"])

    [finding] = checked(made(swapped), pinned("1")).findings
    assert (finding.verdict, finding.version) == (Verdict.PARKED, "1")
    assert "version 1" in finding.message
    assert "--keep" in finding.hint

    # One that was changed although its version says that it was not.
    [finding] = checked(made(follows), pinned("1"), kept=[made(swapped, version="1")]).findings
    assert (finding.verdict, finding.version) == (Verdict.DIVERGES, "1")


def test_what_was_pinned_or_unpinned_since() -> None:
    older = made(follows, version="1")
    pin = (Kind.PINNED, "job", 1, '"1"')
    loose = (Kind.UNPINNED, "job", 1, None)
    start, *rest = [(e.kind, e.name, e.occurrence, e.payload) for e in HISTORY]
    report = checked(made(swapped), events(start, *rest, pin), kept=[older])
    assert report.workflows["job"].pinned == 1
    report = checked(made(swapped), pinned("1", loose), kept=[older])
    assert report.workflows["job"].diverges == 1
    # A retry that makes the pin void does not lift it.
    failed = (Kind.FAILED, "job", 1, '{"type":"E","message":""}')
    again = events(start, *rest, pin, failed, (Kind.REOPENED, "job", 1, 4))
    assert checked(made(swapped), again, kept=[older]).workflows["job"].pinned == 1


def test_versions_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(DefinitionError, match="two applications"):
        UpgradeCheck(made(follows), [made(follows)])
    with pytest.raises(DefinitionError, match="has no version"):
        UpgradeCheck(made(follows), [made(follows, version=None)])


def test_the_engines_own_executions_are_passed_over() -> None:
    system = events((Kind.STARTED, "litefleet.queue", 1, "{}"))
    assert checked(made(follows), system).executions == 0
