"""Versions of an application side by side on a real engine, and a check before they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import httpx
import pytest

from node import Queue, workflow
from node.api import create_api
from node.engine.application import Application, collect, load_app, load_kept
from node.engine.engine import Engine
from node.engine.errors import (
    DefinitionError,
    Divergence,
    ExecutionDiverged,
    LogDamaged,
    PayloadError,
    VersionMissing,
)
from node.engine.events import Kind, Reuse, Status
from node.engine.inspection import events_of, inspect_log
from node.engine.releases import VersionView
from node.engine.schema import connect
from node.engine.snapshot import snapshot
from node.engine.upgrade import Verdict, check_upgrade
from tests.integration.engine.harness import Proves, engine, go, until
from tests.integration.engine.versions_scenario import V1, V2


async def waits(it: Engine, id: str, kind: str = "signal") -> None:
    await until(lambda: [wait.kind for wait in it.waiting(id)] == [kind])


async def begin(folder: Path) -> None:
    """One pinned, one that moves, and one that is pinned though its workflow is not."""
    async with engine(folder, V1) as it:
        await it.start("order", {}, id="pinned")
        await it.start("order", {}, id="loose", pinned=False)
        await it.start("moving", {}, id="moves")
        await it.start("moving", {}, id="kept", pinned=True)
        for id in ("pinned", "loose", "moves", "kept"):
            await waits(it, id)
            assert (it.execution(id).version, it.execution(id).runs_on) == ("1", "1")
        assert it.execution("pinned").pinned
        assert it.execution("kept").pinned
        assert not it.execution("loose").pinned
        assert it.versions() == [VersionView("1", True, True, 4, 2)]


def test_pinned_ones_keep_their_version_and_others_move(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            assert it.execution("pinned").runs_on == "1"
            assert (it.execution("moves").runs_on, it.execution("moves").version) == ("2", "1")
            assert it.execution("loose").status is Status.DIVERGED
            await it.start("order", {}, id="new")
            assert it.execution("new").runs_on == "2"
            assert it.versions() == [
                VersionView("2", True, True, 3, 1),
                VersionView("1", False, True, 2, 2),
            ]
            for id in ("pinned", "moves", "kept", "new"):
                await it.signal(id, "go", "go")
            assert (await it.result("pinned", wait=10)).result == ["one", "go", "part of 1"]
            assert (await it.result("moves", wait=10)).result == ["old", "go", "more"]
            assert (await it.result("kept", wait=10)).result == ["old", "go"]
            assert (await it.result("new", wait=10)).result == ["go", "part of 2", "two"]
            # The child of a pinned one is of its version, too.
            assert it.execution("pinned.part.1").version == "1"
            assert it.versions()[1] == VersionView("1", False, True, 0, 0)

    go(test())
    inspect_log(tmp_path / "log.db")


def test_without_its_version_it_waits_visibly_and_is_never_replayed(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V2) as it:
            view = it.execution("pinned")
            assert (view.status, view.runs_on) == (Status.PARKED, "1")
            assert view.error is not None
            assert view.error["message"] == "waits for version 1 of the application"
            [wait] = it.waiting("pinned")
            assert (wait.kind, wait.name) == ("version", "1")
            assert wait.wakes == "version 1 of the application"
            assert [v.id for v in it.executions(status=Status.PARKED)] == ["pinned", "kept"]
            assert [v.id for v in it.executions(status=Status.DIVERGED)] == ["loose"]
            assert (it.counts["parked"], it.counts["diverged"]) == (2, 1)
            assert it.versions()[1] == VersionView("1", False, False, 2, 2)
            # A signal is there when its code is; anything that needs the code is refused.
            await it.signal("pinned", "go", "early", key="k")
            assert not (await it.signal("pinned", "go", "early", key="k")).arrived
            with pytest.raises(ExecutionDiverged, match="waits for version 1"):
                await it.update("pinned", "change", {})
            with pytest.raises(VersionMissing):
                await it.query("pinned", "look", {})
            with pytest.raises(ExecutionDiverged):
                await it.control.cancel("pinned")
            await it.control.terminate("kept")
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            assert (await it.result("pinned", wait=10)).result == ["one", "early", "part of 1"]
            # Looking back at it, and trying one again, need its version as well.
            await it.control.retry("kept")
            await waits(it, "kept")
        async with engine(tmp_path, V2) as it:
            await it.control.terminate("kept")
            with pytest.raises(VersionMissing, match="version 1"):
                await it.control.retry("kept")

    go(test())
    inspect_log(tmp_path / "log.db")


def test_pinning_and_unpinning_later(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V1) as it:
            assert await it.control.pin("moves")
            assert not await it.control.pin("moves")
            assert await it.control.unpin("kept")
            assert not await it.control.unpin("kept")
            with pytest.raises(PayloadError, match="no other"):
                await it.control.pin("loose", "7")
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            assert (it.execution("moves").runs_on, it.execution("kept").runs_on) == ("1", "2")
            with pytest.raises(Divergence):
                await it.control.unpin("pinned")
            assert it.execution("pinned").pinned
            # One that has diverged is told which version it needs.
            with pytest.raises(ExecutionDiverged, match="no version at present"):
                await it.control.pin("loose")
            assert await it.control.pin("loose", "1")
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            await waits(it, "loose")
            await it.signal("loose", "go", "x")
            assert (await it.result("loose", wait=10)).result == ["one", "x", "part of 1"]
            # What its old version no longer needs moves.
            assert await it.control.unpin("moves")
            assert it.execution("moves").runs_on == "1"
        async with engine(tmp_path, V2) as it:
            assert it.execution("moves").runs_on == "2"

    go(test())
    inspect_log(tmp_path / "log.db")


def test_an_id_that_is_used_again_begins_with_the_current_version(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            await it.start("order", {}, id="pinned", reuse=Reuse.TERMINATE)
            assert it.execution("pinned").runs_on == "2"
            await waits(it, "pinned")

    go(test())
    inspect_log(tmp_path / "log.db")


@workflow(name="chain", pinned=True)
async def counting(left: int) -> str:
    await workflow.receive("go")
    workflow.continue_as_new(left)


@workflow(name="chain", pinned=True)
async def naming(left: dict[str, int]) -> str:
    await workflow.receive("go")
    workflow.continue_as_new(left)


def chain(version: str, code: object = counting) -> Application:
    return collect("app", [code], version=version)


def test_continuing_as_new_moves_unless_the_new_version_does_not_take_the_input(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        one = chain("1")
        async with engine(tmp_path, one) as it:
            await it.start("chain", {"left": 1}, id="c")
        async with engine(tmp_path, chain("2", naming), kept=(one,)) as it:
            await it.signal("c", "go")
            await until(lambda: len(it.events("c")) > 4)
            assert (it.execution("c").runs_on, it.execution("c").version) == ("1", "1")
        async with engine(tmp_path, chain("3"), kept=(one,)) as it:
            assert it.execution("c").runs_on == "1"
            await it.signal("c", "go")
            await until(lambda: it.execution("c").runs_on == "3")
            # It is pinned to that one now.
            assert it.execution("c").pinned
            assert [e.kind for e in it.events("c")][-2:] == [Kind.CONTINUED, Kind.ORIGIN]
        async with engine(tmp_path, one) as it:
            assert it.execution("c").status is Status.PARKED

    go(test())
    inspect_log(tmp_path / "log.db")


NARROW = Queue("narrow", concurrency=1)
OTHER = Queue("other", concurrency=1)


@workflow(name="job", queue=NARROW, pinned=True)
async def job_1() -> str:
    await workflow.receive("go")
    return "one"


@workflow(name="job", queue=OTHER, pinned=True)
async def job_2() -> str:
    return "two"


def test_who_waits_in_a_queue_of_an_older_version_gets_its_turn_there(tmp_path: Path) -> None:
    one = collect("app", [job_1], version="1")
    two = collect("app", [job_2], version="2")

    async def test() -> None:
        async with engine(tmp_path, one) as it:
            await it.start("job", {}, id="a")
            await it.start("job", {}, id="b")
        async with engine(tmp_path, two) as it:
            assert [it.execution(id).status for id in "ab"] == [Status.PARKED] * 2
            await it.start("job", {}, id="c")
            assert (await it.result("c", wait=10)).result == "two"
        async with engine(tmp_path, two, kept=(one,)) as it:
            assert it.execution("b").status is Status.QUEUED
            await it.signal("a", "go")
            assert (await it.result("a", wait=10)).result == "one"
            await it.signal("b", "go")
            assert (await it.result("b", wait=10)).result == "one"

    go(test())
    inspect_log(tmp_path / "log.db")


def test_pins_need_versions(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="pinned, and the application has no version"):
        collect("app", [job_1])

    @workflow
    async def plain() -> None:
        await workflow.receive("go")

    async def test() -> None:
        async with engine(tmp_path, collect("app", [plain])) as it:
            with pytest.raises(PayloadError, match="has no version"):
                await it.start("plain", {}, pinned=True)
            await it.start("plain", {}, id="p")
            with pytest.raises(PayloadError, match="has no version"):
                await it.control.pin("p")

    go(test())


@pytest.mark.parametrize(
    ("kind", "what", "words"),
    [
        (Kind.ORIGIN, "payload = '{\"pinned\":true}'", "pinned to no version"),
        (Kind.ORIGIN, "payload = replace(payload, '\"1\"', '\"2\"')", "its hash"),
        (Kind.PINNED, "payload = '1'", "pinned to no version"),
        (Kind.PINNED, "payload = '\"2\"'", "its hash"),
        (Kind.UNPINNED, "payload = '\"1\"'", "to what it is not pinned"),
        (Kind.UNPINNED, "kind = 41", "its hash"),
    ],
)
def test_tampering_with_pins_is_found(tmp_path: Path, kind: Kind, what: str, words: str) -> None:
    async def test() -> None:
        async with engine(tmp_path, V1) as it:
            await it.start("order", {}, id="o")
            await waits(it, "o")
            await it.control.unpin("o")
            await it.control.pin("o")

    go(test())
    log = tmp_path / "log.db"
    inspect_log(log)
    [found] = [event.sequence for event in events_of(log) if event.kind is kind]
    db = apsw.Connection(str(log))
    db.execute(f"UPDATE litefleet_event SET {what} WHERE sequence = ?", (found,))
    db.close()
    with pytest.raises(LogDamaged, match=words):
        inspect_log(log)


# The check ----------------------------------------------------------------------------------------


def test_the_check_says_before_what_the_engine_says_after(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        log = tmp_path / "log.db"
        async with engine(tmp_path, V1) as it:
            # While an engine has it open, too.
            seen: list[tuple[int, int]] = []
            report = check_upgrade(
                log, V2, kept=[V1], progress=lambda done, of: seen.append((done, of))
            )
            assert seen == [(0, 4), (4, 4)]
            assert (report.executions, report.sequence) == (4, it.sequence)
        assert {f.execution: f.verdict for f in report.findings} == {"loose": Verdict.DIVERGES}
        order, moving = report.workflows["order"], report.workflows["moving"]
        assert (order.pinned, order.diverges) == (1, 1)
        assert (moving.pinned, moving.follows) == (1, 1)
        assert (report.patches["words"].old, report.patches["words"].new) == (1, 0)
        alone = {f.execution: f.verdict for f in check_upgrade(log, V2).findings}
        assert alone == {
            "pinned": Verdict.PARKED,
            "loose": Verdict.DIVERGES,
            "kept": Verdict.PARKED,
        }
        before = log.read_bytes()
        async with engine(tmp_path, V2, kept=(V1,)) as it:
            stopped = {v.id for v in it.executions(status=Status.DIVERGED)}
        assert stopped == {"loose"}
        assert check_upgrade(log, V2, kept=[V1]).findings == report.findings
        assert before[:100] == log.read_bytes()[:100]

    go(test())


def test_a_snapshot_is_of_one_moment_though_the_log_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V1) as it:
            db = apsw.Connection(str(tmp_path / "log.db"))
            with closing(db), snapshot(tmp_path / "log.db") as found:
                histories = {"pinned": next(found.histories)}
                # Nothing is held: a sidecar could checkpoint, and begin the WAL anew.
                checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
                assert db.execute(checkpoint).fetchall() == [(0, 0, 0)]
                with closing(connect(tmp_path / "log.db", read_only=True)) as holds:
                    reading = holds.execute("SELECT * FROM litefleet_event")
                    next(reading)
                    await it.start("moving", {}, id="another")
                    assert db.execute(checkpoint).fetchall()[0][0] == 1
                await it.signal("moves", "go", "go")
                await it.result("moves", wait=10)
                await it.start("moving", {}, id="later")
                histories |= {history[0].execution: history for history in found.histories}
            assert histories.keys() == {"pinned", "loose", "moves", "kept"}
            assert max(h[-1].sequence for h in histories.values()) <= found.sequence
            assert all(e.kind is not Kind.SIGNAL for e in histories["moves"])

    go(test())


def test_over_http(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)
        async with engine(tmp_path, V2, kept=(V1,), barrier=Proves()) as it:
            transport = httpx.ASGITransport(create_api(it))
            async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
                items = (await client.get("/versions")).json()["items"]
                assert items[1] == {
                    "version": "1",
                    "current": False,
                    "loaded": True,
                    "open": 2,
                    "pinned": 2,
                }
                body = {"workflow": "moving", "id": "new", "pinned": True}
                assert (await client.post("/executions", json=body)).status_code == 201
                shown = (await client.get("/executions/new")).json()
                assert (shown["version"], shown["runs_on"], shown["pinned"]) == ("2", "2", True)
                again = (await client.post("/executions/new/pin")).json()
                assert (again["changed"], again["pinned"], again["durable"]) == (False, True, True)
                loose = (await client.post("/executions/kept/unpin")).json()
                assert (loose["changed"], loose["pinned"]) == (True, False)
                for path, given, status, type in (
                    ("/executions/pinned/unpin", {}, 409, "divergence"),
                    ("/executions/loose/pin", {}, 409, "execution_diverged"),
                    ("/executions/moves/pin", {"version": "9"}, 422, "payload_error"),
                    ("/executions/nobody/pin", {}, 404, "unknown_execution"),
                ):
                    answer = await client.post(path, json=given)
                    assert (answer.status_code, answer.json()["error"]["type"]) == (status, type)
                assert (await client.post("/executions/loose/pin", json={"version": "1"})).json()[
                    "changed"
                ]

    go(test())


# Loading ------------------------------------------------------------------------------------------

MODULE = """
from node import activity, workflow
import shop_words
from shop_package.deep import DEEP
import shop_package.deep as again
APPLICATION_VERSION = {version!r}

@activity
async def price() -> str:
    from shop_late import LATE
    import shop_package.deep
    return f"{{shop_words.WORD}} {{DEEP}} {{again.DEEP}} {{LATE}} {{shop_package.deep.DEEP}}"

@workflow(pinned=True)
async def buy() -> str:
    await workflow.receive("go")
    return await price()
"""


def release(folder: Path, version: str) -> Path:
    (folder / "shop_package").mkdir(parents=True)
    (folder / "shop_package" / "__init__.py").write_text("")
    (folder / "shop_package" / "deep.py").write_text(
        f"from .side import SIDE\nDEEP = 'deep {version} ' + SIDE\n"
    )
    (folder / "shop_package" / "side.py").write_text(f"SIDE = 'side {version}'\n")
    (folder / "shop_words.py").write_text(f"WORD = 'word {version}'\n")
    (folder / "shop_late.py").write_text(f"LATE = 'late {version}'\n")
    (folder / "shop.py").write_text(MODULE.format(version=version))
    return folder


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    before, path = set(sys.modules), list(sys.path)
    yield release(tmp_path / "v1", "1"), release(tmp_path / "v2", "2")
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if "shop" in name:
            del sys.modules[name]


def words(version: str) -> str:
    deep = f"deep {version} side {version}"
    return f"word {version} {deep} {deep} late {version} {deep}"


def test_two_versions_of_one_module_do_not_mix(shops: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = shops

    async def test() -> None:
        older = load_kept(str(one), "shop")
        async with engine(tmp_path, older) as it:
            await it.start("buy", {}, id="old")
        newer = load_app(f"{two}:shop")
        assert (older.version, newer.version) == ("1", "2")
        async with engine(tmp_path, newer, kept=(load_kept(f"{one}:shop", "x"),)) as it:
            await it.start("buy", {}, id="new")
            for id, version in (("old", "1"), ("new", "2")):
                await it.signal(id, "go")
                assert (await it.result(id, wait=10)).result == words(version)

    go(test())


def test_what_cannot_be_kept_is_refused_with_a_reason(shops: tuple[Path, Path]) -> None:
    one, _ = shops
    with pytest.raises(DefinitionError, match="names no module"):
        load_kept(str(one))
    with pytest.raises(DefinitionError, match="there is no folder"):
        load_kept("nowhere", "shop")
    with pytest.raises(DefinitionError, match="no module 'shopping'"):
        load_kept(f"{one}:shopping", "shop")
    with pytest.raises(DefinitionError, match="no module 'json'"):
        load_kept(f"{one}:json", "shop")
    (one / "broken.py").write_text("import shop_nothing_there\n")
    with pytest.raises(DefinitionError, match="shop_nothing_there"):
        load_kept(f"{one}:broken", "shop")


def test_a_folder_is_found_where_modules_are(
    shops: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(shops[0].parent)
    monkeypatch.chdir("/")
    assert load_kept("v1", "shop").version == "1"


def test_a_module_that_is_hidden_is_refused(shops: tuple[Path, Path]) -> None:
    load_app(f"{shops[0]}:shop")
    with pytest.raises(DefinitionError, match="is hidden by"):
        load_app(f"{shops[1]}:shop")


def test_the_view_of_executions_has_the_version(tmp_path: Path) -> None:
    async def test() -> None:
        await begin(tmp_path)

    go(test())
    with closing(connect(tmp_path / "log.db", read_only=True)) as db:
        found = db.execute("SELECT DISTINCT version FROM executions").fetchall()
    assert found == [("1",)]
