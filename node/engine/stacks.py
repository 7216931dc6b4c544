"""Where an execution's code stands: the lines at which its tasks wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ENGINE: Final = str(Path(__file__).parent)
_ASYNCIO: Final = str(Path(asyncio.__file__).parent)
#: The parts of asyncio whose waits are for other code of the same workflow.
_BETWEEN_TASKS: Final = ("locks.py", "queues.py")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code that waits for what the next place, or an event, gives."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Where one task waits, the outermost place first, without the engine's own."""

    task: str
    places: tuple[Place, ...]

    @property
    def place(self) -> Place | None:
        """The innermost line that is the application's own, or a library's."""
        own = [place for place in self.places if not place.file.startswith(_ASYNCIO)]
        return own[-1] if own else None

    @property
    def between_tasks(self) -> str | None:
        """What of asyncio it waits for that only other code of the workflow can give, such as
        `Lock.acquire`; None for anything else."""
        if not self.places:
            return None
        last = self.places[-1]
        if not last.file.startswith(_ASYNCIO):
            return "future"
        return last.function if last.file.endswith(_BETWEEN_TASKS) else None


def stacks_of(tasks: Iterable[asyncio.Task[Any]]) -> dict[Stack, asyncio.Future[Any] | None]:
    """Where tasks that have not ended wait, each with the future that it waits for."""
    return {
        Stack(task.get_name(), tuple(_places(task.get_coro()))): getattr(task, "_fut_waiter", None)
        for task in tasks
        if not task.done()
    }


def is_composed(future: asyncio.Future[Any] | None) -> bool:
    """Whether a future stands for other tasks, which have stacks of their own."""
    # What `gather` gives has its children, and no name that could be asked for.
    return isinstance(future, asyncio.Task) or hasattr(future, "_children")


def _places(awaited: Any) -> Iterable[Place]:
    while awaited is not None:
        # A coroutine, a generator that acts as one, an asynchronous generator.
        for kind, following in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                code = frame.f_code
                if not code.co_filename.startswith(_ENGINE):
                    yield Place(code.co_filename, frame.f_lineno, code.co_qualname)
                awaited = getattr(awaited, f"{kind}_{following}")
                break
        else:
            return
