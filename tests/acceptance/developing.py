"""A running `litefleet dev`."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx

from tests.acceptance.conftest import User


class Dev:
    """A running `litefleet dev --json`, and what it has said so far."""

    def __init__(self, user: User, *arguments: str) -> None:
        self.process = user.start("dev", *arguments, "--port", "0", "--json")
        self.lines: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def said(self, event: str, after: int = 0) -> dict[str, Any]:
        """The first such line from the line `after` on, waited for."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = [line for line in self.lines[after:] if line["event"] == event]
            if found:
                return found[0]
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)
        raise AssertionError(f"it did not say {event}: {self.lines}")

    @property
    def url(self) -> str:
        return str(self.said("serving")["url"])

    def start(self, id: str, **body: Any) -> httpx.Response:
        body = {"workflow": "greet", "id": id, "input": {"name": id}, "ack": "async"} | body
        return httpx.post(f"{self.url}/executions", json=body)
