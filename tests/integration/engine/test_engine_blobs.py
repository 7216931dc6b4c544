"""Payloads that are kept beside their events, and those that are refused."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from node import ActivityFailed, RetryPolicy, activity, workflow
from node.engine.archive import Archive, replay_archive
from node.engine.durability import Durability
from node.engine.errors import DefinitionError, LogDamaged, PayloadTooLarge
from node.engine.events import Kind, Reuse
from node.engine.inspection import events_of, inspect_log
from node.engine.schema import connect
from tests.integration.engine.harness import Proves, application, engine, go, until

BIG = 20_000
LIMITS: dict[str, Any] = {"inline_limit": 4096, "blob_limit": 100_000}
MODES = [{}, {"forced_replay": True}, {"durability": Durability.EVERY_COMMIT}]
attempts: list[int] = []


@activity(retry=RetryPolicy(max_attempts=3, initial=0.001, jitter=0))
async def echo(text: str) -> str:
    if activity.progress() is None:
        activity.heartbeat(text + "!")
        await asyncio.sleep(0)
        raise ConnectionError("once more")
    return text


@activity(transactional=True)
def noted(text: str) -> str:
    return text


@activity(retry=RetryPolicy(max_attempts=9, initial=0.001))
async def inflates(size: int) -> str:
    attempts.append(size)
    return "x" * size


@workflow
async def leaf(text: str) -> str:
    return text


@workflow
async def carries(text: str, left: int = 1) -> str:
    said: list[str] = []

    @workflow.update
    def add(word: str) -> str:
        said.append(word)
        return word

    if left:
        workflow.continue_as_new(text, left - 1)
    first = await echo(text)
    second = await noted(first)
    third = await leaf.with_id("leaf").child(second)
    fourth = await workflow.receive("word")
    await workflow.wait_for(lambda: bool(said))
    return f"{third}{fourth}{said[0]}"


@workflow
async def bursts(size: int) -> str:
    try:
        return await inflates(size)
    except ActivityFailed as error:
        return f"{error.type} {error.attempts}"


APP = application(echo, noted, inflates, leaf, carries, bursts)


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(connect(folder / "log.db")) as db:
        return db.execute(sql).fetchall()


async def carry(folder: Path, **mode: Any) -> None:
    text = "é" * BIG
    async with engine(folder, APP, barrier=Proves(), **LIMITS, **mode) as it:
        await it.start("carries", {"text": text}, id="c")
        await until(lambda: any(e.kind is Kind.CHILD_COMPLETED for e in it.events("c")))
    async with engine(folder, APP, barrier=Proves(), **LIMITS, **mode) as it:
        assert it.execution("c").input == {"text": text, "left": 1}
        await it.signal("c", "word", "s" * BIG, key="k")
        assert not (await it.signal("c", "word", "s" * BIG, key="k")).arrived
        assert (await it.update("c", "add", {"word": "u" * BIG}, key="k")).value == "u" * BIG
        view = await it.result("c", wait=20)
        assert view.result == text + "s" * BIG + "u" * BIG
        assert (await it.update("c", "add", {"word": "u" * BIG}, key="k")).value == "u" * BIG
        again = await it.start("carries", {"text": text}, id="c", reuse=Reuse.IF_CLOSED)
        assert again.view.input["text"] == text
        await it.control.terminate("c", "enough")
        archive = Archive.read(it.export("c").model_dump_json())
        assert replay_archive(archive, APP).ok


@pytest.mark.parametrize("mode", MODES)
def test_large_payloads_are_the_same_everywhere(tmp_path: Path, mode: Any) -> None:
    go(carry(tmp_path, **mode))
    inspect_log(tmp_path / "log.db")
    kept = rows(tmp_path, "SELECT count(*), sum(length(payload)) FROM litefleet_event")
    assert kept[0][1] < 5000
    # The same content is there once: as a result, as an input of the next step...
    said = rows(tmp_path, "SELECT count(*), count(DISTINCT payload) FROM litefleet_event"
                " WHERE typeof(payload) = 'blob'")  # fmt: skip
    bodies = rows(tmp_path, "SELECT count(*) FROM litefleet_blob")
    assert said[0][1] == bodies[0][0] < said[0][0]
    for view, column in (("timeline", "payload"), ("steps", "outcome"), ("executions", "input")):
        assert rows(tmp_path, f"SELECT count(*) FROM {view} WHERE typeof({column}) = 'blob'") == [
            (0,)
        ]
    assert rows(tmp_path, "SELECT json_extract(input, '$.left') FROM executions LIMIT 1") == [(1,)]


def test_payloads_above_the_limit_are_refused_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        attempts.clear()
        async with engine(tmp_path, APP, **LIMITS) as it:
            await it.start("bursts", {"size": 100_001}, id="b")
            assert (await it.result("b", wait=10)).result == "PayloadTooLarge 1"
            await it.start("bursts", {"size": 90_000}, id="ok")
            assert (await it.result("ok", wait=10)).result == "x" * 90_000
            assert attempts == [100_001, 90_000]
            with pytest.raises(PayloadTooLarge):
                await it.start("leaf", {"text": "x" * 100_001}, id="never")
            await it.start("carries", {"text": "", "left": 0}, id="c")
            for message in (
                it.signal("c", "word", "x" * 100_001),
                it.update("c", "add", {"word": "x" * 100_001}),
            ):
                with pytest.raises(PayloadTooLarge):
                    await message
            assert [view.id for view in it.executions()][:3] == ["b", "ok", "c"]

    go(test())


@pytest.mark.parametrize("limits", [(100, 1000), (9000, 8000), (4096, 2**31)])
def test_limits_that_cannot_be_are_refused(tmp_path: Path, limits: tuple[int, int]) -> None:
    with pytest.raises(DefinitionError, match="inline_limit"):
        engine(tmp_path, APP, inline_limit=limits[0], blob_limit=limits[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blobs")
    go(carry(folder))
    return folder


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE litefleet_blob SET body = replace(body, 'é', 'e')", "does not match its digest"),
        ("DELETE FROM litefleet_blob", "is missing"),
        ("INSERT INTO litefleet_blob VALUES (x'00', '1')", "payloads that are of no event"),
        (
            "UPDATE litefleet_event SET payload = (SELECT max(digest) FROM litefleet_blob)"
            " WHERE sequence = (SELECT min(sequence) FROM litefleet_event WHERE kind = 11)",
            "match its hash",
        ),
        (
            "UPDATE litefleet_event SET payload = (SELECT body FROM litefleet_blob"
            " WHERE digest = payload) WHERE kind = 11",
            "match its hash",
        ),
        ("DROP TABLE litefleet_blob", "no such table"),
    ],
)
def test_tampering_with_kept_payloads_is_found(
    written: Path, tmp_path: Path, statement: str, words: str
) -> None:
    for file in written.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "log.db"
    inspect_log(path)
    with closing(apsw.Connection(str(path))) as db:
        db.execute(statement)
    with pytest.raises(LogDamaged, match=words):
        inspect_log(path)


def test_a_read_of_a_log_shows_bodies(written: Path) -> None:
    assert all(not isinstance(event.payload, bytes) for event in events_of(written / "log.db"))
