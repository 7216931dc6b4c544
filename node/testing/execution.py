"""Executions as a test sees them, and how they disappoint it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from node.engine.definition import Workflow
from node.engine.views import ExecutionView

R = TypeVar("R")


class Execution(Generic[R]):
    """An execution of a laboratory; `id` is its id."""

    def __init__(self, id: str, workflow: Workflow[..., R]) -> None:
        self.id = id
        self.workflow = workflow

    def __repr__(self) -> str:
        return f"<execution {self.id} of {self.workflow.name}>"


def id_of(execution: Execution[Any] | str) -> str:
    """An execution can be named by its id, too."""
    return execution if isinstance(execution, str) else execution.id


class ExecutionFailed(Exception):
    """An execution ended without a result. `status` says how; `type` and `message` are those of
    its error."""

    def __init__(self, view: ExecutionView) -> None:
        error = view.error or {}
        self.id, self.workflow, self.status = view.id, view.workflow, view.status
        self.type, self.message = str(error.get("type", "")), str(error.get("message", ""))
        super().__init__(f"{view.id} ({view.workflow}) {view.status}: {self.type}: {self.message}")


class Diverged(AssertionError):
    """The code of an execution did something else than its log says, or what no replay could
    repeat."""

    def __init__(self, view: ExecutionView) -> None:
        error = view.error or {}
        super().__init__(
            f"{view.id} ({view.workflow}) is stopped: {error.get('message')} {error.get('hint')}"
        )
