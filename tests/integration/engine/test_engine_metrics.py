"""What an engine counts, and that a replay counts nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from node import Queue, RetryPolicy, activity, workflow
from node.api import create_api
from node.api_metrics import LOOK_EVERY, LoopLag
from node.engine.engine import Engine
from node.engine.events import Kind
from node.engine.inspection import events_of
from node.metrics import METRICS
from tests.integration.engine.harness import Proves, application, engine, go, until

line = Queue("line", concurrency=1)


@activity(retry=RetryPolicy(initial=0.001))
async def shaky() -> None:
    if activity.info().attempt == 1:
        raise ValueError("not yet")


@activity(transactional=True)
def write() -> None:
    activity.transaction().execute("CREATE TABLE IF NOT EXISTS mine(x)")


@activity
async def endless() -> None:
    await asyncio.Event().wait()


@workflow
async def work() -> None:
    await shaky()
    await write()


@workflow(queue=line)
async def queued() -> None:
    await endless()


@workflow
async def listens() -> None:
    await workflow.receive("go")
    raise ValueError("too bad")


APP = application(shaky, write, endless, work, queued, listens)
Found = dict[tuple[str, ...], float]


async def scrape(it: Engine) -> Found:
    transport = httpx.ASGITransport(create_api(it))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: Found = {}
    families = list(text_string_to_metric_families(answer.text))
    labels = {one.name.removesuffix("_total"): one.labels for one in METRICS.values()}
    assert {one.name for one in families} == labels.keys()
    for family in families:
        for sample in family.samples:
            assert sample.labels["tenant"] == "acme"
            name = sample.name.removeprefix("litefleet_")
            values = [sample.labels[label] for label in labels[family.name]]
            found[(name, *values)] = sample.value
    return found


def test_everything_is_counted_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, APP, barrier=Proves()) as it:
            for number in range(3):
                await it.start("work", {}, id=f"w{number}")
                await it.result(f"w{number}", wait=10)
            await it.start("listens", {}, id="l")
            await it.start("listens", {}, id="fails")
            await it.signal("fails", "go")
            await it.result("fails", wait=10)
            await it.start("queued", {}, id="q0")
            await it.start("queued", {}, id="q1")
            await until(lambda: it.census().get(("queued", "running")) == 1)
            await it.start("listens", {}, id="p")
            await it.control.pause("p")
            await it.prove(it.sequence, within=5)
            found = await scrape(it)
            assert found["executions_started_total", "work"] == 3
            assert found["executions_closed_total", "work", "completed"] == 3
            assert found["executions_closed_total", "listens", "failed"] == 1
            assert found["attempts_total", "shaky", "retried"] == 3
            assert found["attempts_total", "shaky", "completed"] == 3
            assert found["attempts_total", "write", "completed"] == 3
            assert found["steps_called_total", "endless"] == 1
            assert found["attempt_seconds_count", "shaky"] == 6
            assert found["attempt_seconds_count", "write"] == 3
            assert found["executions_open", "listens", "waiting"] == 1
            assert found["executions_open", "listens", "paused"] == 1
            assert found["executions_open", "queued", "running"] == 1
            assert found["executions_open", "queued", "queued"] == 1
            assert found["queue_waiting", "line"] == 1
            assert found["queue_running", "line"] == 1
            assert found["queue_oldest_wait_seconds", "line"] >= 0
            assert found["attempts_running",] == 1
            assert found["barriers_total", "durable"] >= 1
            assert found["barrier_seconds_count",] >= 1
            assert found["log_sequence",] == it.sequence == found["log_proven_sequence",]
            assert found["log_bytes",] > 0
            assert found["resident_bytes",] > 1e6
            logged = list(events_of(tmp_path / "log.db"))
            for kind in Kind:
                count = sum(event.kind is kind for event in logged)
                assert found["events_total", kind.name.lower()] == count, kind
            assert found["commit_events_sum",] == len(logged)
        async with engine(tmp_path, APP) as it:
            await until(lambda: it.census().get(("queued", "running")) == 1)
            found = await scrape(it)
            assert sum(found["events_total", kind.name.lower()] for kind in Kind) == 0
            assert found["replay_seconds_count",] == 3
            assert ("executions_started_total", "work") not in found
            assert found["executions_open", "listens", "waiting"] == 1
            assert it.tally.of(Kind.STARTED) == {}

    go(test())


def test_a_timer_that_is_late_shows(tmp_path: Path) -> None:
    now = 1_800_000_000.0

    @workflow
    async def sleeps() -> None:
        await workflow.sleep(60)

    async def test() -> None:
        nonlocal now
        async with engine(tmp_path, application(sleeps), clock=lambda: now) as it:
            await it.start("sleeps", {}, id="s")
            assert it.late == 0
            now += 75
            assert it.late == 15

    go(test())


def test_a_loop_that_is_held_up_shows(tmp_path: Path) -> None:
    async def test() -> None:
        lag = LoopLag()
        assert lag.longest() == 0
        await asyncio.sleep(0)
        time.sleep(LOOK_EVERY + 0.3)  # noqa: ASYNC251 - this is what is to be seen
        await until(lambda: lag.longest() >= 0.3)

    go(test())


def test_nothing_is_loaded_before_somebody_asks() -> None:
    code: Any = (
        "import sys, node.serve, node.api; "
        "print([name for name in ('prometheus_client', 'opentelemetry') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
