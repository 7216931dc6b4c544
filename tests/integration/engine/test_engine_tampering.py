"""What `inspect_log` says about logs whose rows were changed by somebody else."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest

from node import workflow
from node.engine.errors import LogDamaged
from node.engine.events import Kind
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import application, engine

EVENT = "litefleet_event"


@workflow
async def talks() -> None:
    @workflow.update
    def change(by: int) -> int:
        return by

    await workflow.receive("end")


async def write(folder: Path) -> None:
    async with engine(folder, application(talks)) as it:
        await it.start("talks", {}, id="talk")
        for key in ("k1", "k2"):
            await it.signal("talk", "word", key, key=key)
            await it.update("talk", "change", {"by": 1}, key=key)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    asyncio.run(write(folder))
    inspect_log(folder / "log.db")
    return folder


def change(kind: Kind, nth: int, what: str) -> tuple[Kind, int, str]:
    """Change the nth event of a kind."""
    return kind, nth, what


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change(Kind.SIGNAL, 1, "payload = '{}'"), "a message's payload has a value"),
        (change(Kind.SIGNAL, 1, "payload = NULL"), "Expecting value"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":1,"k":2}\''), "key is text"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":"k2","k":"k1"}\''), "same key"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":"k3","k":"k2"}\''), "its hash"),
        (change(Kind.SIGNAL, 1, "occurrence = 3"), "out of order"),
        (change(Kind.UPDATE, 1, "occurrence = 1"), "out of order"),
        (change(Kind.UPDATE_COMPLETED, 1, "occurrence = 1"), "a second answer"),
        (change(Kind.UPDATE_COMPLETED, 1, "occurrence = 3"), "answers no update"),
        (change(Kind.UPDATE_COMPLETED, 1, "payload = 2"), "its hash"),
    ],
)
def test_tampering_is_found(
    written: Path, tmp_path: Path, damage: tuple[Kind, int, str], words: str
) -> None:
    for file in written.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "log.db"
    kind, nth, what = damage
    found = [event.sequence for event in events_of(path) if event.kind is kind]
    db = apsw.Connection(str(path))
    db.execute(f"UPDATE {EVENT} SET {what} WHERE sequence = ?", (found[nth],))
    db.close()
    with pytest.raises(LogDamaged, match=words):
        inspect_log(path)
