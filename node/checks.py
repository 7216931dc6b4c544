"""Checks of other code for a tenant that runs, each in a process of its own.

Such a process is started anew and is told no secret, like an engine. It has the log open, so it
is ended before the sidecar is: see `Supervisor._keep_engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from node.engine.upgrade import UpgradeReport
from node.order import CheckOrder
from node.processes import kill_group
from node.users import become_engine, limit

STALLS_AFTER = 120.0
"""Seconds without progress after which a check is given up, such as of code that never ends."""
TRIES = 5
"""How often a check that was cut off by the end of the engine is begun again."""


class CheckProblem(BaseModel):
    """Why there is no report; ``trace`` is what the application's code raised."""

    type: str
    message: str
    hint: str | None = None
    trace: str = ""


class CheckStatus(BaseModel):
    """A check: how many of how many executions are done, and what came of it.

    The report has the first findings only; ``left_out`` counts the others. ``to_pin`` are all
    executions that would go on if they were pinned to the version that runs them now.
    """

    id: str
    app: str
    kept: tuple[str, ...] = ()
    state: Literal["running", "done", "failed"] = "running"
    done: int = 0
    of: int = 0
    report: UpgradeReport | None = None
    left_out: int = 0
    to_pin: list[str] = []
    problem: CheckProblem | None = None


class CheckRunning(Exception):
    """There is one already."""


class Checks:
    """The checks of one node, one at a time."""

    def __init__(
        self,
        order: Callable[[], CheckOrder],
        log: Path,
        streaming: Callable[[], Awaitable[None]],
        is_streaming: Callable[[], bool],
    ) -> None:
        """
        Args:
            order: what runs now, and where.
            log: a file for what the tenant's code prints.
            streaming: returns once the sidecar has the log open.
        """
        self._order = order
        self._log = log
        self._streaming = streaming
        self._is_streaming = is_streaming
        self._process: asyncio.subprocess.Process | None = None
        self._was_cut_off = False
        self._spawning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._status: CheckStatus | None = None

    def begin(self, app: str, kept: tuple[str, ...]) -> CheckStatus:
        """Check this code. Raises `CheckRunning`."""
        if self._status is not None and self._status.state == "running":
            raise CheckRunning("a check is running already; wait until it is done")
        self._status = CheckStatus(id=secrets.token_hex(4), app=app, kept=kept)
        order = self._order().model_copy(update={"app": app, "kept": kept})
        self._task = asyncio.create_task(self._run(order))
        return self._status

    async def look(self, wait: float) -> CheckStatus | None:
        """The newest check, once it is over or after ``wait`` seconds; None when there is none."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=wait)
        return self._status

    async def cut_off(self) -> bool:
        """End the process of a check, which is begun again later; whether there was one."""
        async with self._spawning:
            process = self._process
            if process is None or process.returncode is not None:
                return False
            self._was_cut_off = True
            kill_group(process.pid)
            await process.wait()
            return True

    async def close(self) -> None:
        """End everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.cut_off()

    async def _run(self, order: CheckOrder) -> None:
        try:
            end = await self._tried(order)
        finally:
            # Its end is told of once its process is gone.
            await asyncio.shield(self.cut_off())
        self._tell(end)

    async def _tried(self, order: CheckOrder) -> CheckStatus:
        """How it ended."""
        why = "the engine ended again and again meanwhile"
        try:
            for _ in range(TRIES):
                if (end := await self._try(order)) is not None:
                    return end
        except TimeoutError:
            why = f"nothing came of it for {STALLS_AFTER:.0f} s"
        hint = "Try again; with --force an upgrade is made without a result."
        return _failed(f"There is no result: {why}", hint)

    async def _try(self, order: CheckOrder) -> CheckStatus | None:
        """How it ended; None when it was cut off."""
        answers, out = os.pipe()
        try:
            process = await self._spawn(order, out)
        finally:
            os.close(out)
        reader = asyncio.StreamReader(limit=2**28)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb")
        )
        try:
            while line := await asyncio.wait_for(reader.readline(), STALLS_AFTER):
                said = CheckStatus.model_validate_json(line)
                if said.state != "running":
                    return said
                self._tell(said)
        finally:
            transport.close()
        status = await process.wait()
        if self._was_cut_off:
            return None
        words = f"The process of the check ended with status {status}."
        return _failed(words, f"What it printed is in {self._log}.")

    async def _spawn(self, order: CheckOrder, out: int) -> asyncio.subprocess.Process:
        while True:
            await self._streaming()
            async with self._spawning:
                if not self._is_streaming():
                    continue
                with self._log.open("ab") as log:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable,
                        "-m",
                        "node.check",
                        str(out),
                        str(os.getpid()),
                        preexec_fn=partial(_become, order),
                        pass_fds=(out,),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                        process_group=0,
                    )
                self._process, self._was_cut_off = process, False
                break
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(order.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        process.stdin.close()
        return process

    def _tell(self, said: CheckStatus) -> None:
        """Show what was said, which is a part of it."""
        assert self._status is not None
        fields = said.model_fields_set - {"id", "app", "kept"}
        self._status = self._status.model_copy(update={f: getattr(said, f) for f in fields})


def _become(order: CheckOrder) -> None:
    """Between fork and exec: the code that is checked is the tenant's."""
    if order.users is not None:
        become_engine(order.users, order.rlimits)
    else:
        limit(order.rlimits)


def _failed(message: str, hint: str) -> CheckStatus:
    problem = CheckProblem(type="check_failed", message=message, hint=hint)
    return CheckStatus(id="", app="", state="failed", problem=problem)
