"""Running `litefleet` as a user does: in a process of its own, in an empty home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class User:
    """Somebody with a folder of their own, in which every command of theirs works."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def errors(self) -> str:
        """What the commands started with `start` have written to stderr."""
        return (self.folder / "stderr").read_text()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.folder),
            "LITEFLEET_HOME": str(self.folder / "home"),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            **(more or {}),
        }

    def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [python, "-m", "fleet", *arguments],
            env=self.environment(env),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command; stdout is a pipe, stderr is in `errors`."""
        with (self.folder / "stderr").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleet", *arguments],
                env=self.environment(env),
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def processes(self) -> list[str]:
        """Every process that has to do with this user's folder."""
        mark = str(self.folder)
        found = []
        for process in psutil.process_iter():
            try:
                words = [*process.cmdline(), process.environ().get("TMPDIR", "")]
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(mark in word for word in words):
                found.append(f"{process.pid} {' '.join(words)[:200]}")
        return found

    def assert_nothing_left(self) -> None:
        """No process, no temporary file, no state file."""
        assert self.processes() == []
        assert [path.name for path in self.temporary.iterdir()] == []
        home = self.folder / "home"
        assert not home.exists() or list(home.iterdir()) == []


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> int:
    """What Ctrl-C does, and the exit code that came of it."""
    process.send_signal(number)
    return process.wait(timeout=120)


@pytest.fixture
def user() -> Iterator[User]:
    # Not tmp_path: its names are too long for the unix sockets of a host.
    folder = Path(tempfile.mkdtemp(prefix="lf-", dir="/tmp"))
    one = User(folder)
    one.temporary.mkdir()
    try:
        yield one
    finally:
        for process in one.running:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def saying(user: User, eventually: Callable[..., None]) -> Callable[[str], None]:
    """`saying("words")` waits until a started command has printed them, or has ended."""

    def wait(words: str) -> None:
        def said() -> bool:
            ended = all(process.poll() is not None for process in user.running)
            if ended and words not in user.errors:
                pytest.fail(f"ended before it said {words!r}: {user.errors[-2000:]}")
            return words in user.errors

        eventually(said, f"a command saying {words!r}", 60)

    return wait
