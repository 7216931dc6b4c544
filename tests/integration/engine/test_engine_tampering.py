"""What `inspect_log` says about logs whose rows were changed by somebody else."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from node import ChildFailed, Queue, RetryPolicy, Schedule, activity, workflow
from node.engine.errors import LogDamaged
from node.engine.events import Kind, Reuse
from node.engine.inspection import events_of, inspect_log
from tests.integration.engine.harness import application, engine, until

EVENT = "litefleet_event"


@workflow
async def talks() -> None:
    @workflow.update
    def change(by: int) -> int:
        return by

    await workflow.receive("end")


@activity(retry=RetryPolicy(max_attempts=1))
async def breaks() -> None:
    raise ValueError("broken")


@workflow
async def leaf() -> None:
    await breaks()


@workflow
async def chained(left: int) -> None:
    await workflow.receive("next")
    if left:
        workflow.continue_as_new(left - 1)


@workflow
async def parent() -> None:
    with suppress(ChildFailed):
        await leaf.with_id("leaf").child()


LINE = Queue("line", concurrency=1)


@activity
async def works() -> None:
    pass


@activity
async def publishes() -> None:
    activity.stream("out").publish(1)


@workflow
async def streams() -> None:
    out = workflow.stream("out")
    out.publish(1)
    await publishes()
    out.publish(2)
    out.close()


@workflow(queue=LINE)
async def queued() -> None:
    await works()


HOURLY = Schedule("hourly", queued, every=3600)


async def write(folder: Path) -> None:
    app = application(
        talks, chained, parent, leaf, breaks, queued, works, LINE, streams, publishes, HOURLY
    )
    async with engine(folder, app) as it:
        await it.start("parent", {}, id="p")
        await it.result("p", wait=10)
        await it.control.retry("leaf")
        await it.result("leaf", wait=10)
        await it.start("chained", {"left": 1}, id="c")
        for key in ("a", "b"):
            await it.signal("c", "next", key=key)
        await it.result("c", wait=10)
        await it.start("chained", {"left": 0}, id="c", reuse=Reuse.IF_CLOSED)
        await it.control.cancel("c")
        await it.result("c", wait=10)
        await it.start("streams", {}, id="s")
        await it.result("s", wait=10)
        await it.start("talks", {}, id="paused")
        await it.control.pause("paused")
        await it.control.resume("paused")
        await it.start("talks", {}, id="talk")
        for key in ("k1", "k2"):
            await it.signal("talk", "word", key, key=key)
            await it.update("talk", "change", {"by": 1}, key=key)
        for id in ("q1", "q2", "q3"):
            await it.start("queued", {}, id=id)
        await it.result("q3", wait=10)
        await it.schedules.backfill("hourly", 0, 52 * 3600)
        await until(lambda: not it.schedules.show("hourly").waiting)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    asyncio.run(write(folder))
    inspect_log(folder / "log.db")
    return folder


#: The first signal that a schedule's keeper is told, counted from the first one of all.
TOLD = 4


def change(kind: Kind, nth: int, what: str) -> tuple[Kind, int, str]:
    """Change the nth event of a kind."""
    return kind, nth, what


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change(Kind.SIGNAL, 1, "payload = '{}'"), "a message's payload has a value"),
        (change(Kind.SIGNAL, 1, "payload = NULL"), "Expecting value"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":1,"k":2}\''), "key is text"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":1,"t":2}\''), "trace is text"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":1,"x":2}\''), "a key or none"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":null,"k":"a"}\''), "same key"),
        (change(Kind.SIGNAL, 1, 'payload = \'{"v":"k3","k":"k2"}\''), "its hash"),
        (change(Kind.SIGNAL, 1, "occurrence = 3"), "out of order"),
        (change(Kind.UPDATE, 1, "occurrence = 1"), "out of order"),
        (change(Kind.UPDATE_COMPLETED, 1, "occurrence = 1"), "a second answer"),
        (change(Kind.UPDATE_COMPLETED, 1, "occurrence = 3"), "answers no update"),
        (change(Kind.UPDATE_COMPLETED, 1, "payload = 2"), "its hash"),
        (change(Kind.CHILD, 0, "payload = '{}'"), "'id'"),
        (change(Kind.CHILD_FAILED, 0, "kind = 11"), "no outcome of that step"),
        (change(Kind.CHILD_FAILED, 0, "occurrence = 2"), "has no intent"),
        (change(Kind.CHILD_FAILED, 0, "payload = '{}'"), "its hash"),
        (change(Kind.ORIGIN, 0, "payload = '[]'"), "where its execution comes from"),
        (change(Kind.ORIGIN, 0, "kind = 41"), "its reason is no text"),
        (change(Kind.CONTINUED, 0, "payload = '{}'"), "how it begins"),
        (change(Kind.CONTINUED, 0, "payload = replace(payload, 'run\":2', 'run\":3')"), "go on"),
        (change(Kind.CONTINUED, 0, "payload = replace(payload, '\"a\"', '\"z\"')"), "keys"),
        (change(Kind.CONTINUED, 0, "payload = replace(payload, '[[30', '[[31')"), "counting"),
        (change(Kind.CONTINUED, 0, "payload = replace(payload, 'false', 'true')"), "paused"),
        (change(Kind.RESTARTED, 0, "kind = 6"), "after its execution's end"),
        (change(Kind.RESTARTED, 0, "payload = replace(payload, '[[30', '[[31')"), "counting"),
        (change(Kind.CANCEL, 0, "kind = 42"), "changes nothing"),
        (change(Kind.CANCELLED, 0, "kind = 3"), "its hash"),
        (change(Kind.PAUSED, 0, "kind = 42"), "changes nothing"),
        (change(Kind.PAUSED, 0, "kind = 40"), "its hash"),
        (change(Kind.PAUSED, 0, "payload = '{}'"), "its reason is no text"),
        (change(Kind.RESUMED, 0, "kind = 4"), "nobody asked it to stop"),
        (change(Kind.DEQUEUED, 0, "kind = 42"), "changes nothing"),
        (change(Kind.DEQUEUED, 0, "kind = 41"), "its reason is no text"),
        (change(Kind.DEQUEUED, 0, "kind = 70"), "acts before its queue"),
        (change(Kind.DEQUEUED, 0, "payload = replace(payload, 'line', 'other')"), "another queue"),
        (change(Kind.DEQUEUED, 0, "payload = '{}'"), "'queue'"),
        (change(Kind.STEP, -1, "kind = 43"), "does not wait for"),
        (change(Kind.ORIGIN, -1, "payload = '{\"queue\":{}}'"), "which queue"),
        (change(Kind.ORIGIN, -1, "payload = '{}'"), "does not wait for"),
        (change(Kind.SIGNAL, TOLD, "payload = replace(payload, 'ask', 'run')"), "'at'"),
        (change(Kind.SIGNAL, TOLD, "payload = replace(payload, 'ask', 'dance')"), "no change of"),
        (change(Kind.SIGNAL, TOLD, "payload = replace(payload, 'asked', 'late')"), "not asked for"),
        (change(Kind.SIGNAL, TOLD, "payload = '{\"v\":7}'"), "not subscriptable"),
        (change(Kind.SIGNAL, TOLD + 1, "payload = replace(payload, ',\"item\":0', '')"), "settled"),
        (change(Kind.SIGNAL, TOLD + 1, "payload = replace(payload, 'm\":0', 'm\":5')"), "not wait"),
        (
            change(Kind.SIGNAL, TOLD + 3, "payload = replace(payload, '7200000', '60')"),
            "no tick of",
        ),
        (
            change(Kind.CONTINUED, 1, "payload = replace(payload, '\"upto\":', '\"upto\":1')"),
            "go on",
        ),
        (change(Kind.CONTINUED, 1, "payload = replace(payload, '3600', '360')"), "go on from"),
        (change(Kind.ORIGIN, -1, "payload = replace(payload, 'hourly', 'daily')"), "of that tick"),
        (change(Kind.ORIGIN, -1, "payload = replace(payload, '0000]', '1000]')"), "of that tick"),
        (change(Kind.ORIGIN, -1, "payload = replace(payload, '0000]', '0.5]')"), "for which time"),
        (change(Kind.CHUNK, 0, "payload = '{}'"), "'v'"),
        (change(Kind.CHUNK, 0, "payload = '{\"v\":[]}'"), "adds nothing"),
        (change(Kind.CHUNK, 0, "payload = '{\"v\":[2]}'"), "its hash"),
        (change(Kind.CHUNK, 0, "occurrence = 2"), "out of order"),
        (change(Kind.CHUNK, 1, 'payload = \'{"v":[],"end":1}\''), "its stream is closed"),
        (change(Kind.CHUNK, 0, "kind = 81"), "has no intent"),
        (change(Kind.STEP_CHUNK, 0, "payload = '{\"v\":[1]}'"), "'s'"),
        (change(Kind.STEP_CHUNK, 0, 'payload = \'{"s":"out","v":1}\''), "no chunk"),
        (change(Kind.STEP_CHUNK, 0, "occurrence = 2"), "has no intent"),
        (change(Kind.STEP_CHUNK, 0, "kind = 11"), "second outcome"),
        (change(Kind.REOPENED, 0, "payload = 1"), "takes back what is not there"),
        (change(Kind.REOPENED, 0, "payload = '9'"), "takes back what is not there"),
        (change(Kind.REOPENED, 0, "payload = payload + 1"), "second outcome|its hash"),
        (change(Kind.REOPENED, 0, "kind = 8"), "how it begins|has no attribute|not subscriptable"),
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


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE litefleet_life SET sequence = 9999", "said to have opened it"),
        ("UPDATE litefleet_life SET ended = 7", "whether an engine closed it"),
        ("INSERT INTO litefleet_life VALUES (NULL, 0, 0, 0)", "said to have opened it"),
        ("DROP TABLE litefleet_life", "no such table"),
    ],
)
def test_tampering_with_the_lives_is_found(
    written: Path, tmp_path: Path, statement: str, words: str
) -> None:
    for file in written.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "log.db"
    db = apsw.Connection(str(path))
    db.execute("INSERT INTO litefleet_life VALUES (NULL, 5, 0, 1)")
    db.execute(statement)
    db.close()
    with pytest.raises(LogDamaged, match=words):
        inspect_log(path)
