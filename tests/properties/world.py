"""A program on an engine with its outside, through as many of the engine's lives as it takes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from node.engine.durability import Durability
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import EngineError, EngineStopped, UnknownExecution
from node.engine.events import Event, Kind, Reuse, Status
from node.testing.barrier import MemoryBarrier
from node.testing.clock import SkippingClock
from node.testing.pace import Pace
from tests.properties import interpreter
from tests.properties.interpreter import APP, Effect
from tests.properties.programs import TICK, Program

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "root"
#: Times that the clock may jump before a program counts as one that never ends.
JUMPS = 400
#: Lives after which a program counts as one that never ends.
LIVES = 200
MANY = 1_000_000
#: What sets going what had ended.
AGAIN = frozenset({"retry", "reuse"})
#: In memory where there is such a place: no program of these loses power.
MEMORY = Path("/dev/shm")


class NeverEnds(AssertionError):
    """Nothing brings a program to its end."""


class World:
    """One run of a program. `cut` says after which of all its commits the engine is cut off;
    then the log goes on as a copy in a fresh folder, as a restore leaves it."""

    def __init__(
        self,
        program: Program,
        folder: Path,
        *,
        cut: Callable[[int], bool] = lambda commit: False,
        forced_replay: bool = False,
        durability: Durability = Durability.ASYNC,
    ) -> None:
        self.program = program
        self.commits = 0
        self.lives = 0
        self.answers: dict[int, Any] = {}
        """What was answered to an update of the outside, by its place in the script."""
        self.arrived: set[tuple[str, str, str]] = set()
        """Execution, name and key of the signals that were acknowledged."""
        self.seen: dict[str, tuple[Status, Any]] = {}
        """How executions ended, as who waited for that was told."""
        self.events: dict[str, list[Event]] = {}
        self.ended: dict[str, tuple[Status, Any]] = {}
        self.streams: dict[str, int] = {}
        self.effects: list[Effect] = []
        self.path = folder / "0" / "log.db"
        self._folder = folder
        self._cut = cut
        self._forced = forced_replay
        self._durability = durability
        self._clock = SkippingClock(BEGINNING)
        self._pace = Pace(self._clock, lambda: 0, skips=True, patience=5)
        self._was_cut = False
        self._next = 0
        self._given_up: set[str] = set()
        self._completed = 0
        self._updates: dict[int, asyncio.Task[None]] = {}
        self._engine: Engine

    async def run(self) -> None:
        """Run it to its end. Raises AssertionError for what must not happen on the way."""
        interpreter.effects.clear()
        interpreter.tokens.clear()
        self.path.parent.mkdir()
        while not await self._live():
            self.lives += 1
            if self.lives > LIVES:
                raise NeverEnds(f"not in {LIVES} lives")
            # Its index is made anew, and what was not committed is not there.
            fresh = self._folder / str(self.lives) / "log.db"
            fresh.parent.mkdir()
            for end in ("", "-wal"):
                shutil.copy(f"{self.path}{end}", f"{fresh}{end}")
            shutil.rmtree(self.path.parent)
            self.path = fresh
        self.effects = list(interpreter.effects)

    async def _live(self) -> bool:
        self._was_cut = False
        self._engine = engine = self._pace.engine = Engine(
            EngineConfig(
                path=self.path,
                application=APP,
                tenant="t",
                lineage="l",
                create=not self.path.exists(),
                forced_replay=self._forced,
                durability=self._durability,
            ),
            barrier=MemoryBarrier(),
            clock=self._clock,
            on_commit=self._committed,
        )
        watch: asyncio.Task[None] | None = None
        try:
            await engine.open()
            self._check_seen()
            self._check_effects()
            given = {"body": self.program.body, "apart": self.program.apart}
            await engine.start(self.program.workflow, given, id=ROOT)
            watch = asyncio.create_task(self._watch(ROOT))
            await self._script()
            await self._end()
            await asyncio.gather(*self._updates.values(), watch)
            self._read()
            return True
        except EngineStopped:
            if not self._was_cut:
                raise
            return False
        finally:
            for task in (*self._updates.values(), *([watch] if watch else ())):
                task.cancel()
            await asyncio.gather(*self._updates.values(), return_exceptions=True)
            self._updates.clear()
            await engine.close()

    def _committed(self, sequence: int, at: float) -> None:
        self.commits += 1
        if self._cut(self.commits):
            self._was_cut = True
            self._engine.cut_off()

    # The outside ------------------------------------------------------------------------------

    async def _script(self) -> None:
        for number, (_, what, *arguments) in enumerate(self.program.outside[: self._next]):
            if what == "update" and number not in self.answers:
                self._ask(number, *arguments)
        while self._next < len(self.program.outside):
            number, (ticks, what, *arguments) = self._next, self.program.outside[self._next]
            await self._until(ticks, number)
            if what in AGAIN:
                # Done anew after a crash before its answer, it would be done twice, or for ever.
                self._next = number + 1
            try:
                await getattr(self, f"_{what}")(number, *arguments)
            except EngineStopped:
                raise
            except EngineError as error:
                # It came too late, or too early.
                self.answers.setdefault(number, type(error).__name__)
            self._next = number + 1

    async def _until(self, ticks: int, number: int) -> None:
        since = ticks * TICK
        if self.program.apart:
            since = (ticks << 19) + (number << 4) + 7
        target = round(BEGINNING.timestamp() * 1000) + since
        if self._clock.milliseconds < target:
            await self._pace.advance((target - self._clock.milliseconds) / 1000)

    def _target(self, which: int) -> str:
        """The execution that was started as this one of all; the first, where there are fewer."""
        found = self._engine.executions(limit=MANY)
        return found[which].id if which < len(found) else ROOT

    async def _signal(self, number: int, name: str, value: int, which: int) -> None:
        id, key = self._target(which), f"key-{number}"
        await self._engine.signal(id, name, value, key=key)
        self.arrived.add((id, name, key))

    async def _query(self, number: int, which: int) -> None:
        await self._engine.query(self._target(which), "counted", {})

    async def _cancel(self, number: int, which: int) -> None:
        await self._engine.control.cancel(self._target(which), "enough")

    async def _pause(self, number: int, which: int) -> None:
        await self._engine.control.pause(self._target(which))

    async def _resume(self, number: int, which: int) -> None:
        await self._engine.control.resume(self._target(which))

    async def _terminate(self, number: int, which: int) -> None:
        await self._engine.control.terminate(self._target(which), "now")

    async def _retry(self, number: int, which: int) -> None:
        await self._engine.control.retry(self._target(which))

    async def _reuse(self, number: int, policy: str) -> None:
        given = {"body": self.program.body, "apart": self.program.apart}
        await self._engine.start(self.program.workflow, given, id=ROOT, reuse=Reuse(policy))

    async def _complete(self, number: int, value: int) -> None:
        if self._completed < len(interpreter.tokens):
            await self._engine.complete(interpreter.tokens[self._completed], value)
            self._completed += 1

    async def _stop_queue(self, number: int) -> None:
        await self._engine.queues.pause("line")

    async def _start_queue(self, number: int) -> None:
        await self._engine.queues.resume("line")

    async def _update(self, number: int, name: str, value: int, which: int) -> None:
        self._ask(number, name, value, which)
        # Until it is in the log; its answer may take long.
        await asyncio.sleep(0)
        if self.program.apart:
            await self._pace.settle()

    def _ask(self, number: int, name: str, value: int, which: int) -> None:
        id = self._target(which)
        argument = "by" if name == "add" else "ticks"

        async def ask() -> None:
            try:
                given = {argument: value}
                answer = await self._engine.update(id, name, given, key=f"key-{number}")
                self.answers[number] = answer.value
            except EngineStopped:
                pass
            except EngineError as error:
                self.answers[number] = type(error).__name__

        self._updates[number] = asyncio.create_task(ask())

    # The end ----------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Let time pass until all have ended; what waits for nothing but the outside is ended."""
        engine = self._engine
        for _ in range(JUMPS):
            await self._pace.settle()
            left = self._open()
            if not left:
                return
            wake = engine.next_wake
            if wake is not None:
                await self._pace.advance(max(0.0, wake - self._clock.milliseconds / 1000))
                continue
            if any(queue.paused for queue in engine.queues.list()):
                await engine.queues.resume("line")
                continue
            paused = [id for id in left if engine.execution(id).paused]
            if paused:
                await engine.control.resume(paused[0])
            elif left[0] not in self._given_up:
                await engine.control.cancel(left[0], "the end")
                self._given_up.add(left[0])
            else:
                await engine.control.terminate(left[0], "the end")
        raise NeverEnds(f"still open after {JUMPS} jumps of the clock: {self._open()}")

    def _open(self) -> list[str]:
        views = self._engine.executions(limit=MANY)
        for view in views:
            assert view.status is not Status.DIVERGED, f"{view.id} is stopped: {view.error}"
        return [view.id for view in views if view.closed_at is None]

    async def _watch(self, id: str) -> None:
        """A client that waits for a result: what it was told stays true."""
        try:
            view = await self._engine.result(id, wait=3600)
        except EngineStopped:
            return
        if view.closed_at is not None:
            self.seen[id] = (view.status, view.error or view.result)

    def _check_seen(self) -> None:
        if any(what in AGAIN for _, what, *_ in self.program.outside):
            return
        for id, told in self.seen.items():
            view = self._engine.execution(id)
            assert (view.status, view.error or view.result) == told, (
                f"{id} was told to be {told}, and after a restart is {view}"
            )

    def _check_effects(self) -> None:
        """Nothing was done outside before the log had that it would be."""
        intents: dict[str, set[tuple[str, int]]] = {}
        for effect in interpreter.effects:
            id, step = effect.execution, (effect.step, effect.occurrence)
            if effect.step == "table_step":
                # That one is no effect outside, and its transaction may have been taken back.
                continue
            if id not in intents:
                try:
                    events = self._engine.events(id)
                except UnknownExecution:
                    events = []
                called = [event for event in events if event.kind is Kind.STEP]
                intents[id] = {(event.name, event.occurrence) for event in called}
            assert step in intents[id], f"{step} of {id} was done, and is not in the log"

    def _read(self) -> None:
        engine = self._engine
        for view in engine.executions(limit=MANY, system=True):
            self.events[view.id] = engine.events(view.id)
            self.ended[view.id] = (view.status, view.error or view.result)
            self.streams[view.id] = sum(each.length for each in engine.streams(view.id))
        found = {status: count for status, count in engine.counts.items() if count}
        wanted: dict[str, int] = {}
        for view in engine.executions(limit=MANY):
            wanted[view.status] = wanted.get(view.status, 0) + 1
        assert found == wanted, f"it counts {found}, and has {wanted}"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for the logs of one program."""
    where = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="litefleet-properties-", dir=where) as name:
        yield Path(name)
