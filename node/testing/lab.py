"""A laboratory: the real engine on a file of its own, with time that skips."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from node.engine.application import Application, collect, load_app
from node.engine.definition import Activity, Workflow
from node.engine.durability import Durability
from node.engine.engine import Engine, EngineConfig
from node.engine.events import Event, Status
from node.engine.signals import Signal
from node.engine.views import ExecutionView
from node.engine.waiting import Wait
from node.testing.barrier import MemoryBarrier
from node.testing.clock import SkippingClock
from node.testing.execution import Diverged, Execution, ExecutionFailed, id_of
from node.testing.mocks import NOTHING, ActivityCall, Raises, StandIns
from node.testing.pace import Pace

P = ParamSpec("P")
R = TypeVar("R")

#: The time at which a laboratory begins.
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
SEED: Final = 2026
#: More executions than any test has.
MANY: Final = 1_000_000


class Lab:
    """An engine for tests.

    `things` are what it can run: an application, a module or its name, or workflows, activities,
    signals and schedules. Its clock stands still while the engine works and jumps to the next
    deadline when nothing but time can go on, as long as the test waits for something with
    `result`, `run` or `until`; `skips_time=False` leaves that to `advance`. `patience` is in
    seconds of real time: how long nothing may happen before a wait is given up as Stuck.

    `forced_replay` drops the code at every await and replays it. Without `schedules` none of them
    starts anything by itself. `path` is the log's file, a
    temporary one if not given. Raises DefinitionError.
    """

    def __init__(
        self,
        *things: object,
        path: Path | str | None = None,
        now: datetime = BEGINNING,
        forced_replay: bool = False,
        durability: Durability | str = Durability.ASYNC,
        skips_time: bool = True,
        patience: float = 1.0,
        schedules: bool = True,
    ) -> None:
        self.application = _application(things)
        self.clock = SkippingClock(now)
        self.barrier = MemoryBarrier()
        """Proves everything, until it is told otherwise."""
        self.commits = 0
        """Commits since it was made."""
        self.was_cut = False
        """Whether the engine was cut off since it was opened."""
        self._path = None if path is None else Path(path)
        self._forced_replay = forced_replay
        self._durability = Durability(durability)
        self._schedules = schedules
        self._stand_ins = StandIns()
        self._pace = Pace(
            self.clock, lambda: self._stand_ins.hanging, skips=skips_time, patience=patience
        )
        self._numbers: Counter[tuple[str, ...]] = Counter()
        self._random = Random(SEED)
        self._cut_after: int | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._engine: Engine | None = None

    # Life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._path is None:
            self._folder = tempfile.TemporaryDirectory(prefix="litefleet-lab-")
            self._path = Path(self._folder.name) / "log.db"
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    @property
    def path(self) -> Path:
        """The log's file."""
        assert self._path is not None, "the laboratory is not open"
        return self._path

    @property
    def engine(self) -> Engine:
        """The engine, for what is not here: `control`, `prove`, lists."""
        assert self._engine is not None, "the laboratory is not open"
        return self._engine

    async def open(self) -> None:
        """Open the log, after `close`, and go on with what is open. See Engine.open."""
        self.was_cut = False
        self._engine = self._pace.engine = Engine(
            EngineConfig(
                path=self.path,
                application=self.application,
                tenant="lab",
                lineage="lab",
                create=not self.path.exists(),
                durability=self._durability,
                forced_replay=self._forced_replay,
                schedules=self._schedules,
            ),
            barrier=self.barrier,
            clock=self.clock,
            random=self._random,
            on_commit=self._committed,
            stand_in=self._stand_ins,
        )
        await self._engine.open()
        if self._engine.committed_at is not None:
            self.clock.jump(self._engine.committed_at)

    async def close(self) -> None:
        """Stop the engine in good order, or tidy up after `cut_off`."""
        if self._engine is not None:
            await self._engine.close()

    async def restart(self, *, again: bool = False) -> None:
        """Stop the engine and open its log again. With `again`, a test that now does the same
        once more is given the same ids and keys once more."""
        await self.close()
        if again:
            self._numbers.clear()
        await self.open()

    def cut_off(self, *, after: int = 0) -> None:
        """Stop the engine as if its process had been killed, now or right after so many more
        commits: nothing that is not committed will be. Open it again with `restart`."""
        if after:
            self._cut_after = self.commits + after
        else:
            self.was_cut = True
            self.engine.cut_off()

    def _committed(self, sequence: int, at: float) -> None:
        self.commits += 1
        if self.commits == self._cut_after:
            self.cut_off()

    # Mocks ------------------------------------------------------------------------------------

    @overload
    def mock(self, activity: Activity[P, R], *, returns: R, raises: Raises = ()) -> None: ...
    @overload
    def mock(self, activity: Activity[P, R], *, raises: Raises) -> None: ...
    @overload
    def mock(
        self,
        activity: Activity[P, R],
        *,
        side_effect: Callable[..., R | Awaitable[R]],
        raises: Raises = (),
    ) -> None: ...
    @overload
    def mock(self, activity: Activity[P, R], *, hangs: bool, raises: Raises = ()) -> None: ...
    def mock(
        self,
        activity: Activity[..., Any],
        *,
        returns: Any = NOTHING,
        raises: Raises = (),
        side_effect: Callable[..., Any] | None = None,
        hangs: bool = False,
    ) -> None:
        """From its next attempt on, have an activity return this, raise this, run this function
        instead, or hang until it is cancelled. Its retries, and its arguments' and its result's
        types, stay what they are.

        `raises` is one error, or a list: the first attempt of every call raises the first, the
        second attempt the second, and later ones do what else is asked, or are the real thing.
        Raises TypeError for a function that does not take the activity's arguments, PayloadError
        for a result of another type.
        """
        self._stand_ins.mock(
            activity, returns=returns, raises=raises, side_effect=side_effect, hangs=hangs
        )

    def unmock(self, activity: Activity[..., Any]) -> None:
        """Run the real activity again."""
        self._stand_ins.unmock(activity)

    def calls(self, activity: Activity[..., Any] | None = None) -> list[ActivityCall]:
        """Every attempt so far of an activity, or of all, mocked or not, in order."""
        calls = self._stand_ins.calls
        return [call for call in calls if activity is None or call.activity == activity.name]

    # Executions -------------------------------------------------------------------------------

    async def start(
        self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Execution[R]:
        """Start an execution, whose id is `work-1`, `work-2` and so on;
        `start(work.with_id("w"), ...)` chooses another. Raises what Engine.start raises."""
        values = workflow.codec.signature.bind(*args, **kwargs).arguments
        id = workflow.given_id or f"{workflow.name}-{self._number(workflow.name)}"
        await self.engine.start(workflow.name, values, id=id)
        return Execution(id, workflow)

    async def run(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Start an execution and give its result; see `start` and `result`."""
        return await self.result(await self.start(workflow, *args, **kwargs))

    @overload
    async def result(self, execution: Execution[R]) -> R: ...
    @overload
    async def result(self, execution: str) -> Any: ...
    async def result(self, execution: Execution[Any] | str) -> Any:
        """Its result, once it has one; time skips meanwhile.

        Raises ExecutionFailed when it ends otherwise, Diverged, Stuck when nothing will end it,
        UnknownExecution, EngineStopped.
        """
        view = await self.ended(execution)
        if view.status is not Status.COMPLETED:
            raise ExecutionFailed(view)
        if isinstance(execution, str):
            return view.result
        text = None if view.result is None else json.dumps(view.result)
        return execution.workflow.codec.value(text)

    async def ended(self, execution: Execution[Any] | str) -> ExecutionView:
        """The execution once it has ended, in whatever way; time skips meanwhile. Raises
        Diverged, Stuck, UnknownExecution, EngineStopped."""
        id = id_of(execution)
        view = self.engine.execution(id)

        def over() -> bool:
            nonlocal view
            view = self.engine.execution(id)
            return view.closed_at is not None or view.status is Status.DIVERGED

        if not over():
            await self._pace.until(over, waiting_for=id)
        if view.status is Status.DIVERGED:
            raise Diverged(view)
        return view

    def view(self, execution: Execution[Any] | str) -> ExecutionView:
        """It as it is now. Raises UnknownExecution."""
        return self.engine.execution(id_of(execution))

    def outcomes(self) -> dict[str, tuple[Status, Any]]:
        """How every execution stands, by its id: its status, and its result or its error."""
        views = self.engine.executions(limit=MANY)
        return {view.id: (view.status, view.error or view.result) for view in views}

    def log(self, execution: Execution[Any] | str) -> list[Event]:
        """Its committed events. Raises UnknownExecution."""
        return self.engine.events(id_of(execution))

    def waiting(self, execution: Execution[Any] | str) -> list[Wait]:
        """What it waits for. Raises UnknownExecution."""
        return self.engine.waiting(id_of(execution))

    async def signal(
        self,
        execution: Execution[Any] | str,
        signal: Signal[Any] | str,
        value: Any = None,
        *,
        key: str | None = None,
    ) -> bool:
        """Send a signal, with a key of its own if none is given; False when one with this key
        had arrived before. See Engine.signal."""
        id, name = id_of(execution), signal if isinstance(signal, str) else signal.name
        key = key or f"lab-{self._number('signal', id, name)}"
        return (await self.engine.signal(id, name, value, key=key)).arrived

    async def query(self, execution: Execution[Any] | str, name: str, **input: Any) -> Any:
        """The answer of a query. See Engine.query."""
        return (await self.engine.query(id_of(execution), name, input)).value

    async def update(
        self, execution: Execution[Any] | str, name: str, *, key: str | None = None, **input: Any
    ) -> Any:
        """The answer of an update, which has a key of its own if none is given. See
        Engine.update."""
        id = id_of(execution)
        key = key or f"lab-{self._number('update', id, name)}"
        return (await self.engine.update(id, name, input, key=key)).value

    async def complete(self, token: str, value: Any = None) -> bool:
        """Complete an external event; False when it was before. See Engine.complete."""
        return await self.engine.complete(token, value)

    async def cancel(self, execution: Execution[Any] | str, reason: str = "") -> bool:
        """Ask it to stop; False when it has ended, or was asked before."""
        return await self.engine.control.cancel(id_of(execution), reason)

    # Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self.clock.now

    async def settle(self) -> None:
        """Return when nothing but time or a message can go on. Raises EngineStopped."""
        await self._pace.settle()

    async def advance(self, duration: timedelta | float) -> None:
        """Let so much time pass (seconds, or a timedelta), and everything that comes due in it
        happen in its order. Raises EngineStopped."""
        await self._pace.advance(duration)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once `condition()` is true; time skips meanwhile.

        Raises Stuck when nothing will make it true, EngineStopped.
        """
        await self._pace.until(condition)

    def _number(self, *what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]


def _application(things: tuple[object, ...]) -> Application:
    if len(things) == 1:
        only = things[0]
        if isinstance(only, Application):
            return only
        if isinstance(only, ModuleType):
            return load_app(only.__name__)
        if isinstance(only, str):
            return load_app(only)
        if isinstance(only, (list, tuple)):
            return collect("lab", only)
    return collect("lab", things)
