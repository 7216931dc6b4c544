"""A laboratory: the real engine on a file of its own, with time that skips."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, cast, overload

from node.engine.application import Application, collect, load_app
from node.engine.definition import Activity, Workflow
from node.engine.durability import Barrier, Durability
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import EngineStopped
from node.engine.events import Event, Reuse, Status
from node.engine.signals import Signal
from node.engine.views import ExecutionView
from node.engine.waiting import Wait
from node.testing.barrier import MemoryBarrier
from node.testing.clock import SkippingClock
from node.testing.mocks import NOTHING, MockedCall, StandIns

P = ParamSpec("P")
R = TypeVar("R")

#: Turns of the loop in which nothing happens, after which nothing will: who was just answered
#: takes one or two to ask for more.
CALM: Final = 4
#: Turns in which the engine is busy, after which the test waits for it in real time.
EAGER: Final = 200
#: The time at which a laboratory begins.
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
SEED: Final = 2026


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


class Stuck(AssertionError):
    """Something is waited for that nothing will bring about."""


class Execution(Generic[R]):
    """An execution of a laboratory; `id` is its id."""

    def __init__(self, id: str, workflow: Workflow[..., R]) -> None:
        self.id = id
        self.workflow = workflow

    def __repr__(self) -> str:
        return f"<execution {self.id} of {self.workflow.name}>"


class Lab:
    """An engine for tests.

    `things` are what it can run: an application, a module or its name, or workflows, activities
    and signals. Its clock stands still while the engine works and jumps to the next deadline
    when nothing but time can go on, as long as the test waits for something with `result`, `run`
    or `until`; `skips_time=False` leaves that to `advance`. `patience` is in seconds of real
    time: how long nothing may happen before a wait is given up as Stuck.

    `forced_replay` drops the code at every await and replays it. `path` is the log's file, a
    temporary one if not given. Raises DefinitionError.
    """

    def __init__(
        self,
        *things: object,
        path: Path | str | None = None,
        now: datetime = BEGINNING,
        forced_replay: bool = False,
        durability: Durability | str = Durability.ASYNC,
        barrier: Barrier | None = None,
        skips_time: bool = True,
        patience: float = 1.0,
    ) -> None:
        self.application = _application(things)
        self.clock = SkippingClock(now)
        self.barrier: Barrier = MemoryBarrier() if barrier is None else barrier
        self.commits = 0
        """Commits since it was made."""
        self.was_cut = asyncio.Event()
        """Set when the engine was cut off."""
        self._path = None if path is None else Path(path)
        self._forced_replay = forced_replay
        self._durability = Durability(durability)
        self._skips = skips_time
        self._patience = patience
        self._stand_ins = StandIns()
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
        self.was_cut = asyncio.Event()
        self._engine = Engine(
            EngineConfig(
                path=self.path,
                application=self.application,
                tenant="lab",
                lineage="lab",
                create=not self.path.exists(),
                durability=self._durability,
                forced_replay=self._forced_replay,
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

    async def restart(self) -> None:
        """Stop the engine and open its log again."""
        await self.close()
        await self.open()

    def cut_off(self, *, after: int = 0) -> None:
        """Stop the engine as if its process had been killed, now or right after so many more
        commits: nothing that is not committed will be. Open it again with `restart`."""
        if after:
            self._cut_after = self.commits + after
        else:
            self.was_cut.set()
            self.engine.cut_off()

    def _committed(self, sequence: int, at: float) -> None:
        self.commits += 1
        if self.commits == self._cut_after:
            self.cut_off()

    # Mocks ------------------------------------------------------------------------------------

    @overload
    def mock(self, activity: Activity[P, R], *, returns: R) -> None: ...
    @overload
    def mock(
        self, activity: Activity[P, R], *, raises: BaseException | type[BaseException]
    ) -> None: ...
    @overload
    def mock(
        self, activity: Activity[P, R], *, side_effect: Callable[P, R | Awaitable[R]]
    ) -> None: ...
    @overload
    def mock(self, activity: Activity[P, R], *, hangs: bool) -> None: ...
    def mock(
        self,
        activity: Activity[..., Any],
        *,
        returns: Any = NOTHING,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | None = None,
        hangs: bool = False,
    ) -> None:
        """From its next attempt on, have an activity return this, raise this, run this function
        instead, or hang until it is cancelled. Its retries, and its arguments' and its result's
        types, stay what they are.

        Raises TypeError for a function that does not take its arguments, PayloadError for a
        result of another type.
        """
        self._stand_ins.mock(
            activity, returns=returns, raises=raises, side_effect=side_effect, hangs=hangs
        )

    def unmock(self, activity: Activity[..., Any]) -> None:
        """Run the real activity again."""
        self._stand_ins.unmock(activity)

    def calls(self, activity: Activity[..., Any] | None = None) -> list[MockedCall]:
        """Every attempt so far of an activity, or of all, mocked or not, in order."""
        calls = self._stand_ins.calls
        return [call for call in calls if activity is None or call.activity == activity.name]

    # Executions -------------------------------------------------------------------------------

    async def start(
        self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Execution[R]:
        """Start an execution; `start(work.with_id("w"), ...)` chooses its id. Raises what
        Engine.start raises."""
        return await self._start(workflow, args, kwargs, Reuse.EXISTING)

    async def _start(
        self, workflow: Workflow[..., R], args: Any, kwargs: Any, reuse: Reuse
    ) -> Execution[R]:
        values = workflow.codec.signature.bind(*args, **kwargs).arguments
        started = await self.engine.start(
            workflow.name, values, id=workflow.given_id, reuse=reuse
        )
        return Execution(started.view.id, workflow)

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
        id = _id(execution)
        view = self.engine.execution(id)

        def over() -> bool:
            nonlocal view
            view = self.engine.execution(id)
            return view.closed_at is not None or view.status is Status.DIVERGED

        if not over():
            await self.until(over, waiting_for=id)
        if view.status is Status.DIVERGED:
            raise Diverged(view)
        return view

    def view(self, execution: Execution[Any] | str) -> ExecutionView:
        """It as it is now. Raises UnknownExecution."""
        return self.engine.execution(_id(execution))

    def log(self, execution: Execution[Any] | str) -> list[Event]:
        """Its committed events. Raises UnknownExecution."""
        return self.engine.events(_id(execution))

    def waiting(self, execution: Execution[Any] | str) -> list[Wait]:
        """What it waits for. Raises UnknownExecution."""
        return self.engine.waiting(_id(execution))

    async def signal(
        self,
        execution: Execution[Any] | str,
        signal: Signal[Any] | str,
        value: Any = None,
        *,
        key: str | None = None,
    ) -> bool:
        """Send a signal; False when one with this key had arrived before. See Engine.signal."""
        name = signal if isinstance(signal, str) else signal.name
        return (await self.engine.signal(_id(execution), name, value, key=key)).arrived

    async def query(self, execution: Execution[Any] | str, name: str, **input: Any) -> Any:
        """The answer of a query. See Engine.query."""
        return (await self.engine.query(_id(execution), name, input)).value

    async def update(
        self, execution: Execution[Any] | str, name: str, *, key: str | None = None, **input: Any
    ) -> Any:
        """The answer of an update. See Engine.update."""
        return (await self.engine.update(_id(execution), name, input, key=key)).value

    async def complete(self, token: str, value: Any = None) -> bool:
        """Complete an external event; False when it was before. See Engine.complete."""
        return await self.engine.complete(token, value)

    async def cancel(self, execution: Execution[Any] | str, reason: str = "") -> bool:
        """Ask it to stop; False when it has ended, or was asked before."""
        return await self.engine.control.cancel(_id(execution), reason)

    # Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self.clock.now

    async def settle(self) -> None:
        """Return when nothing but time or a message can go on. Raises EngineStopped."""
        calm = turns = 0
        while calm < CALM:
            calm = calm + 1 if self._at_rest() else 0
            turns += 1
            await asyncio.sleep(0 if calm or turns < EAGER else 0.001)

    async def advance(self, duration: timedelta | float) -> None:
        """Let so much time pass (seconds, or a timedelta), and everything that comes due in it
        happen in its order."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        target = self.clock.milliseconds / 1000 + seconds
        await self.settle()
        while (wake := self.engine.next_wake) is not None and wake <= target:
            self._jump(wake)
            await self.settle()
        self._jump(target)
        await self.settle()

    async def until(self, condition: Callable[[], object], *, waiting_for: str = "") -> None:
        """Return once `condition()` is true; time skips meanwhile.

        Raises Stuck when nothing will make it true, EngineStopped.
        """
        calm = turns = 0
        given_up_at: float | None = None
        while not condition():
            turns += 1
            if not self._at_rest():
                calm, given_up_at = 0, None
                await asyncio.sleep(0 if turns < EAGER else 0.001)
                continue
            calm += 1
            if calm < CALM:
                await asyncio.sleep(0)
            elif self._skips and (wake := self.engine.next_wake) is not None:
                self._jump(wake)
                calm, turns, given_up_at = 0, 0, None
            else:
                # Somebody else in this test may still send something.
                given_up_at = given_up_at or time.monotonic() + self._patience
                if time.monotonic() > given_up_at:
                    raise Stuck(self._why(waiting_for))
                await asyncio.sleep(0.001)

    def _at_rest(self) -> bool:
        if self._engine is None or not self._engine.running:
            raise EngineStopped("the engine stopped")
        return self._engine.at_rest(self._stand_ins.hanging)

    def _jump(self, to: float) -> None:
        self.clock.jump(to)
        self.engine.look_at_clock()

    def _why(self, id: str) -> str:
        open_ones = [view.id for view in self.engine.executions(status=Status.RUNNING)]
        words = [
            f"{each} waits for {wait.kind} {wait.name}".rstrip() + f": {wait.wakes}"
            for each in ([id] if id else open_ones)
            for wait in self.engine.waiting(each)
        ]
        return "nothing will happen any more: " + ("; ".join(words) or "nothing is open")


def in_lab(
    *things: object, **options: Any
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Decorate an `async def` test: it is run in a Lab of these things and options, which is its
    first argument, and needs no plugin. Fixtures and parameters follow."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            async def main() -> None:
                async with Lab(*things, **options) as lab:
                    await test(lab, *args, **kwargs)

            asyncio.run(main())

        parameters = list(inspect.signature(test).parameters.values())[1:]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _id(execution: Execution[Any] | str) -> str:
    return execution if isinstance(execution, str) else execution.id


def _application(things: tuple[object, ...]) -> Application:
    if len(things) == 1:
        only = things[0]
        if isinstance(only, Application):
            return only
        if isinstance(only, str):
            return load_app(only)
        if isinstance(only, ModuleType):
            return load_app(only.__name__)
    return collect("lab", cast("tuple[object, ...]", things))
