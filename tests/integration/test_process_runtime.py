"""Nodes as processes: ended with all that they have started, and never taken for others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fleet.runtimes import process
from fleet.runtimes.process import ProcessRuntime, clean_environment, is_ours, started_at
from fleet.runtimes.protocol import Handle, Place
from node.remote import RemoteNode

Eventually = Callable[..., None]


def place(folder: Path) -> Place:
    found = Place(tenant="acme", name="00", folder=folder / "node", sockets=folder / "s")
    found.folder.mkdir()
    found.sockets.mkdir()
    return found


def test_a_supervisor_outlives_its_runtime_and_is_known_to_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        where = place(tmp_path)
        first = ProcessRuntime(tmp_path, clean_environment())
        handle = await first.start(where, [])
        await RemoteNode.connect(where.sockets)
        await first.close()
        assert is_ours(handle)
        cradle = psutil.Process(handle.pid).children()
        assert cradle
        await ProcessRuntime(tmp_path, clean_environment()).kill(handle)
        assert not is_ours(handle)
        assert not any(started_at(child.pid) for child in cradle)

    asyncio.run(scenario())


def test_what_a_supervisor_has_started_is_gone_with_it_too(tmp_path: Path) -> None:
    """Even what has left its process group and its session, as tenants' programs may."""

    async def scenario() -> None:
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
            " start_new_session=True)\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)"
        )
        leader = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
        )
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        ticks = started_at(leader.pid)
        assert ticks is not None
        handle = Handle(pid=leader.pid, ticks=ticks, boot=process.boot())
        runtime = ProcessRuntime(tmp_path, clean_environment())
        try:
            await runtime.kill(handle)
            assert started_at(child) is None
        finally:
            leader.stdout.close()
            leader.wait()

    asyncio.run(scenario())


def test_a_pid_that_was_given_out_again_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        ticks = started_at(os.getpid())
        assert ticks is not None
        mine = Handle(pid=os.getpid(), ticks=ticks, boot=process.boot())
        assert is_ours(mine)
        runtime = ProcessRuntime(tmp_path, clean_environment())
        # Were either of these killed, this test would not end.
        await runtime.kill(mine.model_copy(update={"ticks": ticks - 1}))
        await runtime.kill(mine.model_copy(update={"boot": "another"}))

    asyncio.run(scenario())


def test_what_is_left_of_a_process_is_no_process(eventually: Eventually) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert started_at(child.pid) is not None
    child.send_signal(signal.SIGKILL)
    eventually(lambda: started_at(child.pid) is None, "a zombie that counts as gone")
    child.wait()
    assert started_at(child.pid) is None
