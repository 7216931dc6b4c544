"""Executions taken out of one log and into another, and archives that are no good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node import Queue, RetryPolicy, activity, workflow
from node.engine.archive import Archive, replay_archive
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import (
    ArchiveRefused,
    ExecutionConflict,
    ForkRefused,
    UnknownExecution,
)
from node.engine.events import Kind, Status
from node.engine.forked import ForkMode
from node.engine.inspection import inspect_log
from tests.integration.engine.harness import application, go, until

ran: list[str] = []
keys: list[str] = []
broken: set[str] = set()
tokens: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    for one in (ran, keys, tokens):
        one.clear()
    broken.clear()


@activity(retry=RetryPolicy(max_attempts=1), version="v1")
async def step(name: str) -> str:
    ran.append(name)
    keys.append(activity.info().idempotency_key)
    if name in broken:
        raise ConnectionError(f"{name} is broken")
    return f"{name}!"


@activity
async def hand_on(token: str) -> None:
    tokens.append(token)


@workflow
async def leaf(name: str) -> str:
    return await step(name)


@workflow
async def work(large: str) -> list[object]:
    found = [await step("a"), await leaf.child("b"), len(large)]
    approval = workflow.external("approval", str)
    await hand_on(approval.token)
    found.append(await approval)
    found.append(str(workflow.uuid4()))
    found.append(await step("c"))
    return found


@workflow(queue=Queue("line", concurrency=1))
async def queued() -> None:
    await workflow.receive("end")


APP = application(step, hand_on, leaf, work, queued)
LARGE = "x" * 9000


def engine(folder: Path, name: str, lineage: str = "line", app: Any = APP) -> Engine:
    path = folder / f"{name}.db"
    return Engine(
        EngineConfig(
            path=path,
            application=app,
            tenant="acme",
            lineage=lineage,
            create=not path.exists(),
            inline_limit=4096,
        )
    )


async def failed(it: Engine) -> Archive:
    """One that failed at its last step, with its child."""
    broken.add("c")
    await it.start("work", {"large": LARGE}, id="one")
    await until(lambda: bool(tokens))
    await it.complete(tokens[0], "yes")
    assert (await it.result("one", wait=10)).status is Status.FAILED
    broken.clear()
    ran.clear()
    return it.export("one", with_children=True)


def test_a_record_is_the_same_history_and_closed(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, "from") as it:
            archive = Archive.read((await failed(it)).model_dump_json())
            assert [child.execution for child in archive.children] == ["one.leaf.1"]
            was, events = it.execution("one"), it.events("one")
            await it.start("work", {"large": "y"}, id="open")
            await until(lambda: it.events("open")[-1].name == "hand_on")
            await until(lambda: it.events("open")[-1].kind is Kind.STEP_COMPLETED)
            await it.start("queued", {}, id="running")
            await it.start("queued", {}, id="waiting")
            await it.signal("waiting", "end", "early")
            still_open = [it.export(id) for id in ("open", "waiting")]
        async with engine(tmp_path, "to", "other") as it:
            ran.clear()
            made = await it.import_(archive)
            view = made.view
            assert (view.id, view.status, view.error) == ("one", was.status, was.error)
            assert view.input == was.input
            assert view.forked_from == {
                "id": "one",
                "mode": "record",
                "sequence": events[-1].sequence,
                "tenant": "acme",
                "lineage": "line",
                "digest": archive.digest,
            }
            rows = [(e.kind, e.name, e.occurrence, e.payload) for e in it.events("one")]
            assert rows[3:] == [(e.kind, e.name, e.occurrence, e.payload) for e in events[1:]]
            assert replay_archive(it.export("one"), APP).ok
            assert it.execution("one.leaf.1").result == "b!"
            # The same once more; and what has its id already.
            assert not (await it.import_(archive)).created
            await it.start("leaf", {"name": "z"}, id="open")
            await it.result("open", wait=10)
            for one in still_open:
                record = (await it.import_(one)).view
                assert record.status is Status.TERMINATED
                assert not (await it.import_(one)).created
                assert replay_archive(it.export(record.id), APP).ok
            assert sorted(one.id[:5] for one in it.executions(status=Status.TERMINATED)) == [
                "open-",
                "waiti",
            ]
            with pytest.raises(ExecutionConflict):
                await it.import_(archive, id="open")
            assert ran == ["z"]
            # Of the record of a failure, as of any other.
            fork = await it.fork("one", paused=True)
            assert fork.view.paused
            assert it.counts["failed"] == 1
        async with engine(tmp_path, "to", "other") as it:
            assert (it.counts["failed"], it.counts["terminated"]) == (1, 2)
            await it.control.resume(fork.view.id)
            assert (await it.result(fork.view.id, wait=10)).status is Status.COMPLETED
            assert ran == ["z", "c"]
        # A record needs no code.
        async with engine(tmp_path, "without", "other", application(leaf)) as it:
            assert (await it.import_(archive)).view.status is Status.FAILED

    go(test())
    for name in ("to", "without"):
        inspect_log(tmp_path / f"{name}.db")


def test_one_goes_on_elsewhere_with_keys_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, "from") as it:
            archive = await failed(it)
            again = await it.import_(archive, mode=ForkMode.EXACT)
            # In the same log its keys would be those of the other one.
            assert again.view.id.startswith("one-")
            # Another place to go on from is another execution, and the same is the same.
            other = await it.import_(archive, mode=ForkMode.EXACT, at="leaf")
            assert other.view.id not in ("one", again.view.id)
            # What is paused starts no child.
            with pytest.raises(UnknownExecution):
                it.execution(f"{other.view.id}.leaf.1")
            assert not (await it.import_(archive, mode=ForkMode.EXACT)).created
            with pytest.raises(ForkRefused, match="idempotency"):
                await it.import_(archive, mode=ForkMode.EXACT, id="one")
            before = set(keys)
            await it.control.resume(again.view.id)
            await it.result(again.view.id, wait=10)
            assert len(keys) == len(before) + 1
            await it.control.resume(other.view.id)
            await until(lambda: it.execution(f"{other.view.id}.leaf.1").closed_at is not None)
            await it.control.terminate(other.view.id)
            tokens[:] = tokens[:1]
            await it.start("work", {"large": "y"}, id="open")
            await until(lambda: it.events("open")[-1].name == "hand_on")
            await until(lambda: it.events("open")[-1].kind is Kind.STEP_COMPLETED)
            still_open = it.export("open")
        async with engine(tmp_path, "to", "other") as it:
            ran.clear()
            plan = it.preview_fork(archive)
            assert [(one.name, one.action) for one in plan.steps] == [
                ("step", "stands"),
                ("leaf", "stands"),
                ("approval", "stands"),
                ("hand_on", "stands"),
                ("step", "runs"),
            ]
            made = await it.import_(archive, mode=ForkMode.EXACT)
            assert (made.view.id, made.view.paused) == ("one", True)
            assert not (await it.import_(archive, mode=ForkMode.EXACT)).created
            await it.control.resume("one")
            assert (await it.result("one", wait=10)).status is Status.COMPLETED
            assert ran == ["c"]
            assert len(set(keys)) == len(keys)
            # A completed one goes on from where it is said to.
            await it.import_(archive, mode=ForkMode.EXACT, at="step#1", id="two", paused=False)
            await until(lambda: len(tokens) == 3)
            made = await it.import_(still_open, mode=ForkMode.EXACT, paused=False)
            token = made.tokens["approval#1"]
            assert token not in tokens
            assert await it.complete(token, "yes")
            assert (await it.result("open", wait=10)).result[3] == "yes"
            await it.import_(archive, mode=ForkMode.REUSE, id="reused", paused=False)
            await until(lambda: len(tokens) == 4)
            assert ran == ["c", "a", "b", "c", "b"]
            for id in ("one", "two", "open", "reused"):
                # And out again.
                out = Archive.read(it.export(id).model_dump_json())
                assert replay_archive(out, APP).ok
        async with engine(tmp_path, "third", "third") as it:
            made = await it.import_(out, mode=ForkMode.EXACT, at="step#1", id="x", paused=False)
            assert made.view.forked_from["id"] == "reused"  # type: ignore[index]
            await until(lambda: len(tokens) == 5)

    go(test())
    inspect_log(tmp_path / "to.db")


def redigested(body: dict[str, Any]) -> dict[str, Any]:
    """With a digest that is right again."""
    body["digest"] = Archive.model_validate(body).true_digest()
    return body


def row(change: Callable[[dict[str, Any]], object], nth: int) -> Callable[[dict[str, Any]], Any]:
    return lambda body: change(body["rows"][nth])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda body: body.update(format="other"), "no archive"),
        (lambda body: body.update(version=3, new_field=1), "newer Litefleet"),
        (lambda body: body.update(new_field=1), "new_field"),
        (lambda body: body.pop("rows"), "rows"),
        (lambda body: body.update(tenant="other"), "its digest"),
        (lambda body: body["rows"].pop(), "its digest"),
        (lambda body: body["rows"].clear() or redigested(body), "no events"),
        (lambda body: body["rows"].pop(0) and redigested(body), "before its execution's start"),
        (lambda body: body["rows"].pop(1) and redigested(body), "has no intent"),
        (lambda body: body.update(workflow="leaf") or redigested(body), "another workflow's"),
        (lambda body: body.update(secret="xyz") or redigested(body), "hexadecimal"),
        (lambda body: row(lambda one: one.update(kind="nothing"), 1)(body) or redigested(body),
         "NOTHING"),
        (lambda body: row(lambda one: one.update(at=0), 2)(body) or redigested(body), "in time"),
        (lambda body: row(lambda one: one.update(sequence=99), 1)(body) or redigested(body),
         "does not follow"),
        (lambda body: body["children"][0].update(digest="0"), "its digest"),
        (lambda body: body["children"][0]["rows"].pop(), "its digest"),
    ],
)  # fmt: skip
def test_an_archive_that_is_no_good_is_refused_and_changes_nothing(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], words: str
) -> None:
    async def test() -> None:
        async with engine(tmp_path, "from") as it:
            body = json.loads((await failed(it)).model_dump_json())
            before = it.sequence
            assert Archive.checked(body).execution == "one"
            damage(body)
            with pytest.raises(ArchiveRefused, match=words) as refused:
                await it.import_(Archive.read(json.dumps(body)))
            assert refused.value.hint
            assert it.sequence == before

    go(test())


def test_an_archive_of_the_first_version_is_still_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, "from") as it:
            body = json.loads((await failed(it)).model_dump_json())
        del body["children"], body["digest"]
        body["version"] = 1
        archive = Archive.read(json.dumps(body))
        assert replay_archive(archive, APP).ok
        async with engine(tmp_path, "to", "other") as it:
            assert (await it.import_(archive)).created
            assert not (await it.import_(archive)).created
            assert it.events("one")[0].kind is Kind.FORKED

    go(test())
