"""The workflow that does what a program says, and the activities that it calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from node import NonRetryable, Queue, RetryPolicy, activity, workflow
from node.engine.application import Application, collect
from node.engine.context import ActivityInfo
from node.engine.definition import Workflow
from tests.properties.programs import TICK, Node, moment

ATTEMPTS = 3
RETRY = RetryPolicy(max_attempts=ATTEMPTS, initial=TICK / 1000, factor=1, jitter=0)
#: Runs of one execution, with those that it goes on in.
RUNS = 3


@dataclass(frozen=True)
class Effect:
    """An activity was run: what the outside world sees of it."""

    step: str
    execution: str
    occurrence: int
    attempt: int
    key: str
    place: str


class Broken(Exception):
    """A step gave the result of another one."""


#: What the program that runs has done outside, in the order in which it did it.
effects: list[Effect] = []
#: The tokens that it gave away.
tokens: list[str] = []


def _affect(place: str) -> ActivityInfo:
    info = activity.info()
    effects.append(
        Effect(
            info.step, info.execution, info.occurrence, info.attempt, info.idempotency_key, place
        )
    )
    return info


def _fail(attempt: int, fails: int) -> None:
    if fails < 0:
        raise NonRetryable("hopeless")
    if attempt <= fails:
        raise ConnectionError(f"attempt {attempt}")


@activity(retry=RETRY)
async def step(place: str, fails: int) -> str:
    _fail(_affect(place).attempt, fails)
    return place


@activity(retry=RETRY)
async def slow_step(place: str, fails: int) -> str:
    attempt = _affect(place).attempt
    for _ in range(3):
        await asyncio.sleep(0)
    _fail(attempt, fails)
    return place


@activity(retry=RETRY)
def plain_step(place: str, fails: int) -> str:
    _fail(_affect(place).attempt, fails)
    return place


@activity(retry=RETRY, transactional=True)
def table_step(place: str, fails: int) -> str:
    info = _affect(place)
    rows = activity.transaction()
    rows.execute("CREATE TABLE IF NOT EXISTS kept(key TEXT, place TEXT)")
    rows.execute("INSERT INTO kept VALUES (?, ?)", (info.idempotency_key, place))
    _fail(info.attempt, fails)
    return place


@activity(retry=RETRY)
async def hand_over(token: str) -> None:
    if token not in tokens:
        tokens.append(token)


STEPS = {"async": step, "slow": slow_step, "plain": plain_step, "table": table_step}


class Interpreter:
    """One run of an execution. `run` counts from 0."""

    def __init__(self, body: Node, apart: bool, run: int) -> None:
        self.body = body
        self.apart = apart
        self.run = run
        self.count = 0
        self.trace: list[str] = []
        self.background: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()

    async def do(self, node: Node, path: str) -> Any:
        what, *arguments = node
        act: Callable[..., Awaitable[Any]] = getattr(self, f"_{what}")
        value = await act(path, *arguments)
        self.trace.append(path)
        return value

    def seconds(self, path: str, ticks: int) -> float:
        return moment(self.apart, f"{self.run}{path}", ticks)

    async def branch(self, node: Node, path: str) -> Any:
        """One of several things at once."""
        if self.apart:
            await workflow.sleep(self.seconds(f"{path}<", 0))
        return await self.do(node, path)

    def tasks(self, path: str, nodes: tuple[Node, ...]) -> list[asyncio.Task[Any]]:
        return [
            asyncio.create_task(self.branch(node, f"{path}.{number}"))
            for number, node in enumerate(nodes)
        ]

    # Things that take a moment ----------------------------------------------------------------

    async def _pass(self, path: str) -> None:
        pass

    async def _step(self, path: str, kind: str, fails: int) -> None:
        place = f"{workflow.info().id} {self.run}{path}"
        found = await STEPS[kind](place, fails)
        if found != place:
            raise Broken(f"{place} got the result of {found}")

    async def _sleep(self, path: str, ticks: int) -> None:
        await workflow.sleep(self.seconds(path, ticks))

    async def _receive(self, path: str, name: str, ticks: int | None) -> Any:
        timeout = None if ticks is None else self.seconds(path, ticks)
        try:
            return await workflow.receive(name, timeout=timeout)
        except TimeoutError:
            return "late"

    async def _until(self, path: str, count: int, ticks: int | None) -> Any:
        timeout = None if ticks is None else self.seconds(path, ticks)
        try:
            await workflow.wait_for(lambda: self.count >= count, timeout=timeout)
        except TimeoutError:
            return "late"
        return None

    async def _external(self, path: str, ticks: int | None) -> Any:
        event = workflow.external("approval", int)
        await hand_over(event.token)
        try:
            async with asyncio.timeout(None if ticks is None else self.seconds(path, ticks)):
                return await event
        except TimeoutError:
            return "late"

    async def _child(self, path: str, body: Node, how: str) -> Any:
        kind: Workflow[..., Any] = KINDS.get(how, program)
        if how == "same id":
            kind = kind.with_id("same")
        given = (body, self.apart)
        if how == "detached":
            return kind.detach(*given)
        child = kind.child(*given)
        if how == "left":
            return child.id
        if how == "cancelled":
            try:
                await workflow.sleep(self.seconds(path, 1))
            finally:
                child.cancel()
        return await child

    # Things that take none --------------------------------------------------------------------

    async def _publish(self, path: str, times: int) -> None:
        for number in range(times):
            workflow.stream("told").publish(f"{self.run}{path} {number}")

    async def _count(self, path: str) -> int:
        self.count += 1
        return self.count

    async def _chance(self, path: str) -> list[Any]:
        return [workflow.random().randrange(1 << 30), str(workflow.uuid4())]

    async def _patched(self, path: str, name: str) -> bool:
        return workflow.patched(name)

    async def _fail(self, path: str) -> None:
        raise ValueError(path)

    async def _quit(self, path: str) -> None:
        raise asyncio.CancelledError

    async def _again(self, path: str) -> None:
        if self.run + 1 < RUNS:
            workflow.continue_as_new(self.body, self.apart, self.run + 1)

    # Things made of others --------------------------------------------------------------------

    async def _seq(self, path: str, *nodes: Node) -> list[Any]:
        return [await self.do(node, f"{path}.{number}") for number, node in enumerate(nodes)]

    async def _gather(self, path: str, *nodes: Node) -> list[Any]:
        return list(await asyncio.gather(*self.tasks(path, nodes)))

    async def _all(self, path: str, *nodes: Node) -> list[Any]:
        found = await asyncio.gather(*self.tasks(path, nodes), return_exceptions=True)
        return [_named(value) for value in found]

    async def _group(self, path: str, *nodes: Node) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.branch(node, f"{path}.{number}"))
                for number, node in enumerate(nodes)
            ]
        return [task.result() for task in tasks]

    async def _first(self, path: str, *nodes: Node, wait: bool = True) -> list[Any]:
        tasks = self.tasks(path, nodes)
        try:
            done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if wait:
            await asyncio.gather(*late, return_exceptions=True)
        return [[number, _outcome(task)] for number, task in enumerate(tasks) if task in done]

    async def _race(self, path: str, *nodes: Node) -> list[Any]:
        """The losers are cancelled, and nobody waits until they have let go."""
        return await self._first(path, *nodes, wait=False)

    async def _completed(self, path: str, *nodes: Node) -> list[Any]:
        found: list[Any] = []
        for each in asyncio.as_completed(self.tasks(path, nodes)):
            try:
                found.append(await each)
            except Exception as error:
                found.append(_named(error))
        return found

    async def _timeout(self, path: str, ticks: int, node: Node) -> Any:
        try:
            async with asyncio.timeout(self.seconds(path, ticks)):
                return await self.do(node, f"{path}.0")
        except TimeoutError:
            return "late"

    async def _wait_for(self, path: str, ticks: int, node: Node) -> Any:
        try:
            return await asyncio.wait_for(self.do(node, f"{path}.0"), self.seconds(path, ticks))
        except TimeoutError:
            return "late"

    async def _try(self, path: str, node: Node, instead: Node) -> Any:
        try:
            return await self.do(node, f"{path}.0")
        except Exception as error:
            _refuse_broken(error)
            return [_named(error), await self.do(instead, f"{path}.1")]

    async def _finally(self, path: str, node: Node, after: Node) -> Any:
        try:
            return await self.do(node, f"{path}.0")
        finally:
            await self.do(after, f"{path}.1")

    async def _swallow(self, path: str, node: Node) -> Any:
        """A task that refuses to be cancelled."""
        try:
            return await self.do(node, f"{path}.0")
        except asyncio.CancelledError:
            return "swallowed"

    async def _shield(self, path: str, node: Node) -> Any:
        return await asyncio.shield(asyncio.create_task(self.branch(node, f"{path}.0")))

    async def _spawn(self, path: str, node: Node) -> None:
        """Nobody waits for it."""
        self.background.append(asyncio.create_task(self.branch(node, f"{path}.0")))

    async def _locked(self, path: str, node: Node) -> Any:
        async with self.lock:
            return await self.do(node, f"{path}.0")


def _named(value: Any) -> Any:
    if isinstance(value, BaseExceptionGroup):
        return sorted(str(_named(each)) for each in value.exceptions)
    return type(value).__name__ if isinstance(value, BaseException) else value


def _outcome(task: asyncio.Task[Any]) -> Any:
    if task.cancelled():
        return "CancelledError"
    return _named(task.exception()) if task.exception() is not None else task.result()


def _refuse_broken(error: BaseException) -> None:
    if isinstance(error, Broken):
        raise error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            _refuse_broken(each)


async def _interpret(body: Node, apart: bool, run: int) -> list[Any]:
    it = Interpreter(body, apart, run)

    @workflow.signal
    def poke(by: int) -> None:
        it.count += by

    @workflow.signal
    async def work(ticks: int) -> None:
        await it.do(["sleep", ticks], f"work{len(it.trace)}")
        await it.do(["step", "async", 0], "worked")
        it.count += 1

    def not_negative(by: int) -> None:
        if by < 0:
            raise ValueError("less than nothing")

    @workflow.update(validator=not_negative)
    def add(by: int) -> int:
        it.count += by
        return it.count

    @workflow.update
    async def labour(ticks: int) -> int:
        await it.do(["sleep", ticks], f"labour{ticks}")
        await it.do(["step", "table", 0], "laboured")
        it.count += 1
        return ticks

    @workflow.query
    def counted() -> int:
        return it.count

    found = await it.do(body, "/")
    # Where only one end is possible, so is the order of what is in one branch, but not of all.
    return [found, it.count] if apart else [found, it.count, it.trace]


@workflow
async def program(body: list[Any], apart: bool, run: int = 0) -> list[Any]:
    return await _interpret(body, apart, run)


@workflow(durability="every_commit")
async def strict(body: list[Any], apart: bool, run: int = 0) -> list[Any]:
    return await _interpret(body, apart, run)


line = Queue("line", concurrency=1)


@workflow(queue=line)
async def queued(body: list[Any], apart: bool, run: int = 0) -> list[Any]:
    return await _interpret(body, apart, run)


KINDS: dict[str, Workflow[..., Any]] = {"queued": queued, "strict": strict}
APP: Application = collect(
    "properties", [*STEPS.values(), hand_over, program, strict, queued, line]
)
