"""Another version of a tenant's application: checked beside the engine, then run in its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from node.checks import CheckStatus
from node.engine.inspection import inspect_log
from node.order import NodeState

from .conftest import Scenario, TestHost, TestNode, all_gone

OnHost = Callable[[Scenario], None]

APP = """
from node import activity, workflow
import words
APPLICATION_VERSION = words.VERSION

@activity
async def say(text: str) -> str:
    return text

@workflow
async def order(steps: int = 1) -> str:
    for _ in range(steps):
        await say(words.FIRST)
    await workflow.receive("go")
    return await say(words.VERSION)
"""


def release(folder: Path, version: str, first: str) -> str:
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "words.py").write_text(f"VERSION = {version!r}\nFIRST = {first!r}\n")
    return f"{folder}:app"


async def begin(node: TestNode, id: str, **more: object) -> None:
    body = {"workflow": "order", "id": id, **more}
    answer = await node.call("POST", "/executions", json=body)
    assert answer.status_code == 201, answer.text
    while (await node.call("GET", f"/executions/{id}/waiting")).json()["items"][0]["kind"] != (
        "signal"
    ):
        await asyncio.sleep(0.01)


async def checked(node: TestNode, app: str, kept: tuple[str, ...] = ()) -> CheckStatus:
    await node.remote.check(app, kept)
    found = await node.remote.look_at_check(30.0)
    assert found is not None
    return found


async def finish(node: TestNode, id: str) -> object:
    await node.call("POST", f"/executions/{id}/signals/go", json={})
    return await node.result(id)


async def upgraded(node: TestNode, app: str, kept: tuple[str, ...], number: int) -> None:
    await node.remote.upgrade(app, kept, number)
    status = await node.until(lambda s: s.release == number and s.serving, "upgraded")
    assert (status.app, status.kept) == (app, kept)


def test_it_is_checked_first_and_then_runs_in_place(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        v1 = release(host.data / "v1", "1", "one")
        v2 = release(host.data / "v2", "2", "one")
        v3 = release(host.data / "v3", "3", "three")
        broken = release(host.data / "broken", "4", "one")
        (host.data / "broken" / "words.py").write_text("print('hello')\n1 / 0\n")
        node = await host.start(app=v1)
        before = await node.serving()
        await begin(node, "a")
        await begin(node, "b", pinned=True)

        good = await checked(node, v2, (v1,))
        assert (good.state, good.to_pin) == ("done", [])
        assert good.report is not None
        assert good.report.ok
        assert (good.report.version, good.report.executions) == ("2", 2)
        bad = await checked(node, v3)
        assert bad.report is not None
        assert {f.execution: f.verdict for f in bad.report.findings} == {
            "a": "diverges",
            "b": "parked",
        }
        assert bad.to_pin == ["a"]
        none = await checked(node, broken)
        assert (none.state, none.report) == ("failed", None)
        assert none.problem is not None
        assert "ZeroDivisionError" in none.problem.message
        assert "words.py" in none.problem.trace
        missing = await checked(node, "nothing_there")
        assert missing.problem is not None
        assert "nothing_there" in missing.problem.message
        # Nothing has happened to the engine.
        assert (await node.status()).pids == before.pids

        await upgraded(node, v2, (v1,), 1)
        after = await node.status()
        assert (after.epoch, after.engine_restarts) == (before.epoch, 0)
        assert after.pids["engine"] != before.pids["engine"]
        # An order that comes late or again changes nothing.
        await node.remote.upgrade(v3, (), 1)
        assert (await node.status()).app == v2
        assert await finish(node, "a") == "2"
        assert await finish(node, "b") == "1"
        # Back again, the same way.
        await upgraded(node, v1, (), 2)
        await begin(node, "c")
        assert await finish(node, "c") == "1"
        # An engine that dies is started with what was wanted last.
        os.kill((await node.status()).pids["engine"], signal.SIGKILL)
        await node.until(lambda s: s.engine_restarts == 1 and s.serving, "restarted")
        await begin(node, "d")
        await node.remote.drain()
        assert (await node.ended()).state is NodeState.RELEASED

    on_host(scenario)


def test_a_check_holds_no_secret_and_ends_with_what_it_looks_at(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        v1 = release(host.data / "v1", "1", "one")
        slow = release(host.data / "slow", "2", "one")
        (host.data / "slow" / "words.py").write_text(
            "import pathlib, time\n"
            "VERSION, FIRST = '2', 'one'\n"
            f"while not pathlib.Path({str(host.data / 'go')!r}).exists(): time.sleep(0.01)\n"
        )
        node = await host.start(app=v1)
        status = await node.serving()
        await begin(node, "a")
        await node.remote.check(slow, ())
        pid = await check_of(status.pids["supervisor"])
        secret = host.settings.credentials.secret_access_key.get_secret_value().encode()
        assert secret not in Path(f"/proc/{pid}/environ").read_bytes()
        assert not holds(pid, secret)
        # The engine dies: so must what has its file open, before anything else does.
        os.kill(status.pids["engine"], signal.SIGKILL)
        await all_gone([pid])
        again = await check_of(status.pids["supervisor"])
        (host.data / "go").touch()
        found = await node.remote.look_at_check(30.0)
        assert found is not None
        assert found.report is not None
        assert found.report.ok
        await all_gone([again])
        await node.serving()
        (host.data / "go").unlink()
        # And with the supervisor, whatever its end.
        await node.remote.check(slow, ())
        pid = await check_of(status.pids["supervisor"])
        os.kill(status.pids["supervisor"], signal.SIGKILL)
        await all_gone([pid, *status.pids.values()])
        inspect_log(node.folder / "data" / "log.db")

    on_host(scenario)


def test_code_that_cannot_serve_is_replaced(on_host: OnHost) -> None:
    """An engine that ends again and again, before and after there is something in the log."""

    async def scenario(host: TestHost) -> None:
        broken = release(host.data / "broken", "1", "one")
        (host.data / "broken" / "words.py").write_text("1 / 0\n")
        v1 = release(host.data / "v1", "1", "one")
        node = await host.start(app=broken)
        await node.until(lambda s: s.engine_restarts > 1, "ended again and again")
        found = await checked(node, v1)
        assert (found.state, found.to_pin) == ("done", []), found
        await upgraded(node, v1, (), 1)
        await begin(node, "a")
        await upgraded_blindly(node, broken, 2)
        await node.until(lambda s: s.engine_restarts > 4, "ended again and again")
        found = await checked(node, v1)
        assert found.report is not None, found
        assert (found.report.executions, found.report.ok) == (1, True)
        await upgraded(node, v1, (), 3)
        assert await finish(node, "a") == "1"

    on_host(scenario)


async def upgraded_blindly(node: TestNode, app: str, number: int) -> None:
    await node.remote.upgrade(app, (), number)
    await node.until(lambda s: s.release == number, "told")


async def check_of(supervisor: int) -> int:
    """The process of a check, once there is one."""
    async with asyncio.timeout(20):
        while True:
            for child in psutil.Process(supervisor).children():
                # Others come and go meanwhile.
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "node.check" in child.cmdline():
                        return child.pid
            await asyncio.sleep(0.01)


def holds(pid: int, needle: bytes) -> bool:
    """Whether a process has this anywhere in its writable memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
            except (OSError, ValueError):
                continue
    return False
