"""A process that takes part in a contest, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any


class ParticipantLost(Exception):
    """It ended, or it took too long and was ended."""


class Participant:
    """`module` of this package, run by `python` in a folder of its own under `place`."""

    def __init__(self, python: Path, module: str, place: Path, *arguments: str) -> None:
        self.module = module
        folder = tempfile.mkdtemp(prefix=f"{module}-", dir=place)
        self._log = Path(folder) / "standard-error.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", f"tests.benchmarks.{module}", folder, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )

    def ready(self, within: float = 60) -> None:
        """Wait until it takes requests. Raises ParticipantLost."""
        self._read(within)

    def ask(self, request: dict[str, Any], within: float = 300) -> dict[str, Any]:
        """One request and its answer. Raises ParticipantLost after `within` seconds."""
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError as error:
            raise ParticipantLost(self._why()) from error
        return self._read(within)

    def _read(self, within: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        limit = threading.Timer(within, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not line:
            raise ParticipantLost(self._why())
        try:
            answer: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError as error:
            raise ParticipantLost(f"{self.module} answered {line[:80]!r}") from error
        return answer

    def _why(self) -> str:
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"{self.module} ended or took too long: {' '.join(last) or 'it said nothing'}"

    def close(self) -> None:
        """No more requests: let it clean up, and end it if it does not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
