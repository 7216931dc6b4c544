"""Lives of an engine's process, each forked from one that has imported everything already.

The forking process reads orders as lines of JSON on its standard input and answers on its standard
output: `began PID`, `held` (the life is at its last commit and waits for a line to die), `done N`
(it drove its scenario to the end in N commits), `ended STATUS`.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from node.engine.durability import Durability
from node.engine.engine import Engine, EngineConfig
from tests.integration.engine import harness

#: Seconds that one life may take.
PATIENCE = 60.0


@dataclass(frozen=True)
class Life:
    """What one life does: drive `module` on the log, and die by SIGKILL after some commits (0:
    never). `mode` is cached, forced or every_commit. With `held`, it waits at its last commit."""

    log: Path
    ledger: Path
    module: str
    die_after: int
    mode: str = "cached"
    lineage: str = "line"
    held: bool = False


@dataclass
class Death:
    """How a life ended: -9 for SIGKILL, 0 for the end of the scenario, then with its commits."""

    status: int
    commits: int = 0


class Forks:
    """The forking process, as tests hold it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        atexit.register(self._end)

    def begin(self, life: Life) -> int:
        """Begin a life; only one at a time. Its process."""
        self._say(json.dumps({name: str(value) for name, value in asdict(life).items()}))
        word, _, pid = self._hear().partition(" ")
        assert word == "began"
        return int(pid)

    def held(self) -> Death | None:
        """Wait until the life is at its last commit, or has ended before."""
        commits = 0
        while True:
            word, _, number = self._hear().partition(" ")
            if word == "held":
                return None
            if word == "done":
                commits = int(number)
            elif word == "ended":
                return Death(int(number), commits)

    def kill(self) -> Death:
        """Let the life that is held be killed."""
        self._say("")
        return self.death()

    def death(self) -> Death:
        """Wait until the life has ended."""
        death = self.held()
        assert death is not None
        return death

    def live(self, life: Life) -> Death:
        """One whole life."""
        self.begin(life)
        return self.death()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def _hear(self) -> str:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE)[0]:
            forks.cache_clear()
            self._end()
            raise AssertionError("a life took too long")
        line = out.readline()
        assert line, "the process that forks has ended"
        return line.decode().strip()

    def _end(self) -> None:
        with self._process as process:
            process.kill()


@cache
def forks() -> Forks:
    """The one of this test process."""
    return Forks()


def main() -> None:
    importlib.import_module("tests.integration.engine.engine_app")
    while line := _line():
        given = json.loads(line)
        child = os.fork()
        if child == 0:
            _live(given)
        _tell(f"began {child}")
        _, status = os.waitpid(child, 0)
        _tell(f"ended {os.waitstatus_to_exitcode(status)}")


def _live(given: dict[str, str]) -> None:
    code = 1
    try:
        # Lives that hang go with their parent.
        signal.alarm(round(PATIENCE))
        os.environ["LEDGER"] = given["ledger"]
        asyncio.run(_drive(given))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


async def _drive(given: dict[str, str]) -> None:
    path, die_after, mode = Path(given["log"]), int(given["die_after"]), given["mode"]
    commits = 0

    def on_commit(sequence: int, at: float) -> None:
        nonlocal commits
        commits += 1
        if commits == die_after:
            if given["held"] == "True":
                _tell("held")
                _line()
            os.kill(os.getpid(), signal.SIGKILL)

    scenario = importlib.import_module(given["module"])
    config = EngineConfig(
        path=path,
        application=scenario.APP,
        tenant="acme",
        lineage=given["lineage"],
        create=not path.exists(),
        forced_replay=mode == "forced",
        durability=Durability.EVERY_COMMIT if mode == "every_commit" else Durability.ASYNC,
    )
    engine = Engine(
        config,
        on_commit=on_commit,
        barrier=harness.Proves(),
        observer=getattr(scenario, "OBSERVER", None),
        clock=getattr(scenario, "CLOCK", time.time),
    )
    async with engine:
        await scenario.drive(engine)
    _tell(f"done {commits}")


def _line() -> bytes:
    # Byte by byte: the next line may be for another process.
    line = b""
    while byte := os.read(0, 1):
        if byte == b"\n":
            return line or b"\n"
        line += byte
    return line


def _tell(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main()
