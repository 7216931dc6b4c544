"""The families of the other scenario, with an observer that writes down what it is told."""

from __future__ import annotations

import os
from pathlib import Path

from node import ActivityInfo
from node.engine.engine import Engine
from node.engine.events import Kind, Payload
from node.engine.observer import Attempt, Observer, Watched
from tests.integration.engine.families_scenario import APP

__all__ = ["APP", "OBSERVER", "drive"]


class Notes(Observer):
    """Appends a line for everything but what begins, which a killed process begins again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, *words: object) -> None:
        with self.path.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def execution_started(self, execution: Watched) -> None:
        self.note("started", execution.id, execution.workflow, execution.started_at)

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        self.note("closed", execution.id, kind.name)

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        pass

    def attempt_ended(self, attempt: Attempt) -> None:
        info = attempt.info
        step = (info.step, info.occurrence, info.attempt)
        self.note("ended", attempt.execution.id, *step, attempt.kind.name)


async def drive(engine: Engine) -> None:
    await engine.start("family", {}, id="f")
    for id in ("f", "f.leaf.4", "slow", "left-behind"):
        await engine.result(id, wait=30)


OBSERVER = Notes(Path(os.environ.get("LEDGER", "/dev/null")))
