"""The example application on the real engine, reporting to a receiver that misbehaves first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import uvicorn

from examples.documents.expected import expected
from examples.documents.library import open_library
from examples.receiver import Ledger, create_app
from node.engine.application import load_app
from node.engine.engine import Engine, EngineConfig

IDS = ["assert", "string-methods", "with", "try", "types"]


@contextmanager
def receiver(ledger: Ledger, *, failures: int) -> Iterator[str]:
    """A receiver that enters each of its first `failures` arrivals, and answers 503 to them."""
    app = create_app(ledger)
    left = [failures]

    async def moody(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        async def answer(message) -> None:  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start" and left[0] > 0:
                message = {**message, "status": 503}
                left[0] -= 1
            await send(message)

        await app(scope, receive, answer)

    config = uvicorn.Config(moody, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("forced_replay", [False, True], ids=["cached", "replayed"])
def test_result_row_and_effect_are_as_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced_replay: bool
) -> None:
    path = tmp_path / "log.db"
    ledger = Ledger(tmp_path / "ledger")
    monkeypatch.delenv("DOCUMENTS_DIR", raising=False)

    async def inside() -> dict[str, object]:
        config = EngineConfig(
            path=path,
            application=load_app("examples.documents.app"),
            tenant="t1",
            lineage="l1",
            create=True,
            forced_replay=forced_replay,
        )
        async with Engine(config) as engine:
            for id in IDS:
                await engine.start("digest", {"document": id, "pause": 0.01}, id=f"x-{id}")
            views = [await engine.result(f"x-{id}", wait=60) for id in IDS]
        return {view.id: view.result for view in views}

    with receiver(ledger, failures=2) as url:
        monkeypatch.setenv("RECEIVER_URL", url)
        results = asyncio.run(inside())

    reference = open_library()
    right = {id: expected(reference.read(id), reference) for id in IDS}
    assert results == {f"x-{id}": right[id].result for id in IDS}

    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute("SELECT * FROM summaries ORDER BY document")
    columns = [column[0] for column in rows.description]
    assert [dict(zip(columns, row, strict=True)) for row in rows] == [
        right[id].row for id in sorted(IDS)
    ]
    connection.close()

    counted = [effect for effect in ledger.arrivals if not effect.duplicate]
    assert {effect.execution: effect.body for effect in counted} == {
        f"x-{id}": right[id].effect for id in IDS
    }
    assert {(effect.tenant, effect.step) for effect in counted} == {("t1", "report#1")}
    repeats = [effect for effect in ledger.arrivals if effect.duplicate]
    assert [effect.attempt for effect in repeats] == [2, 2]


def test_what_cannot_succeed_fails_at_once_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECEIVER_URL", raising=False)
    monkeypatch.setenv("DOCUMENTS_DIR", str(tmp_path / "docs"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nalpha")

    async def inside() -> list[str]:
        config = EngineConfig(
            path=tmp_path / "log.db",
            application=load_app("examples.documents.app"),
            tenant="t1",
            lineage="l1",
            create=True,
        )
        async with Engine(config) as engine:
            for id in ("a.md", "b.md"):
                await engine.start("digest", {"document": id, "pause": 0}, id=id)
            return [str(await engine.result(id, wait=60)) for id in ("a.md", "b.md")]

    unheard, missing = asyncio.run(inside())
    assert "RECEIVER_URL is not set" in unheard
    assert "no document is called 'b.md'" in missing
