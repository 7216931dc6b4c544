"""The engine's side of signals, updates and queries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from node.engine.application import Application
from node.engine.beginning import Post
from node.engine.commits import Commits
from node.engine.errors import (
    EngineError,
    ExecutionClosed,
    PayloadError,
    QueryFailed,
    UnknownExecution,
    UnknownHandler,
    UpdateFailed,
)
from node.engine.events import RESERVED, UPDATE_ENDS, Event, Kind, letter
from node.engine.executor import Executor
from node.engine.external import addressed, check_token
from node.engine.live import Answered, Live
from node.engine.payload import plain_json
from node.engine.replica import NotCopyable
from node.engine.store import Store, Stored


@dataclass(frozen=True, slots=True)
class Sent:
    """A signal that is in the log. `arrived` is False when its key had been there before."""

    arrived: bool
    sequence: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query or an update returned. `sequence` is the event that it depends on."""

    value: Any
    sequence: int


class _Duplicate(EngineError):
    def __init__(self, number: int) -> None:
        super().__init__("it is there already")
        self.number = number


class Mail:
    """Sends messages to executions of one engine."""

    def __init__(
        self, *, application: Application, executor: Executor, store: Store, commits: Commits
    ) -> None:
        self._signals = application.signals
        self._executor = executor
        self._store = store
        self._commits = commits

    async def signal(
        self, id: str, name: str, value: Any, key: str | None, trace: str | None = None
    ) -> Sent:
        """See Engine.signal."""
        declared = self._signals.get(name)
        text = plain_json(value, name) if declared is None else declared.shape.write(value)
        live = self._live(id, Kind.SIGNAL, name, key)
        if live is None:
            return Sent(False, self._commits.sequence)

        def prepare() -> tuple[int, str]:
            self._refuse_duplicate(live, Kind.SIGNAL, name, key)
            if live.run is not None:
                live.run.messages.check_signal(name, text)
            return live.post.add(Kind.SIGNAL, name, key), letter(text, key, trace)

        try:
            return Sent(True, await self._post(live, Kind.SIGNAL, name, key, prepare))
        except _Duplicate:
            return Sent(False, await self._commits.settled())

    async def update(
        self,
        id: str,
        name: str,
        values: Mapping[str, Any],
        key: str | None,
        trace: str | None = None,
    ) -> Answer:
        """See Engine.update."""
        live = self._live(id, Kind.UPDATE, name, key)
        if live is None:
            stored = self._stored(id)
            history = self._store.history_of(stored)
            number = Post.of(history).keys[Kind.UPDATE, name, str(key)]
            return _answer(name, _ended(history, name, number) or _unanswered(id))
        answered: asyncio.Future[Answered] = self._executor.unanswered()

        def prepare() -> tuple[int, str]:
            self._refuse_duplicate(live, Kind.UPDATE, name, key)
            if live.run is None:
                raise UnknownHandler(f"execution {id!r} is queued, and its code has not begun")
            text = live.run.messages.admit(name, values)
            number = live.post.add(Kind.UPDATE, name, key)
            live.answers[name, number] = answered
            return number, letter(text, key, trace)

        try:
            await self._post(live, Kind.UPDATE, name, key, prepare)
        except _Duplicate as known:
            number = known.number
            await self._commits.settled()
            ended = _ended(self._store.history_of(self._stored(id)), name, number)
            if ended is not None:
                return _answer(name, ended)
            if live.closed.is_set():
                raise _unanswered(id) from None
            answered = live.answers.setdefault((name, number), answered)
        return _answer(name, await answered)

    async def query(self, id: str, name: str, values: Mapping[str, Any]) -> Answer:
        """See Engine.query."""
        live = self._executor.live.get(id)
        if live is None or live.over:
            return self._ask_replica(id, name, values)
        try:
            text = live.code.query(name, values)
        except NotCopyable:
            await self._commits.settled()
            return self._ask_replica(id, name, values)
        except EngineError:
            raise
        except Exception as error:
            raise _query_failed(name, error) from error
        # It has seen what may not be in the log yet.
        return Answer(_decoded(text), await self._commits.settled())

    async def complete(self, token: str, value: Any) -> bool:
        """See Engine.complete."""
        id, step = addressed(token)
        check_token(token, self._executor.secret_of(id), id, step)
        live = self._executor.live.get(id)
        pending = live.run.pending.get(step) if live is not None and live.run is not None else None
        if live is not None and pending is not None and pending.kind is Kind.EXTERNAL:
            text = plain_json(value, step[0])
            if pending.read is not None:
                pending.read(text)
            future = self._executor.unanswered()

            def committed(sequence: int) -> None:
                if not future.done():
                    future.set_result(sequence)

            self._executor.resolve(live, Kind.EXTERNAL_COMPLETED, pending, text, committed)
            if await future:
                return True
        await self._commits.settled()
        for event in self._store.history_of(self._stored(id)):
            if (event.kind, event.name, event.occurrence) == (Kind.EXTERNAL_COMPLETED, *step):
                return False
        raise ExecutionClosed(f"nothing waits for {step[0]!r} of execution {id!r} any more")

    def _ask_replica(self, id: str, name: str, values: Mapping[str, Any]) -> Answer:
        stored = self._stored(id)
        run = self._executor.rehearse(stored, self._store.history_of(stored))
        try:
            text = run.query(name, values, isolated=True)
        except EngineError:
            raise
        except Exception as error:
            raise _query_failed(name, error) from error
        finally:
            run.drop()
        return Answer(_decoded(text), stored.closed or self._commits.sequence)

    def _live(self, id: str, kind: Kind, name: str, key: str | None) -> Live | None:
        """The open execution, or None when it is closed and had a message of this key."""
        if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
            raise PayloadError("an idempotency key has 1 to 200 printable characters")
        live = self._executor.live.get(id)
        if live is not None and live.workflow.startswith(RESERVED):
            raise UnknownHandler(f"execution {id!r} is the engine's own and takes no messages")
        if live is not None:
            return live
        stored = self._stored(id)
        if key is not None and (kind, name, key) in Post.of(self._store.history_of(stored)).keys:
            return None
        raise ExecutionClosed(f"execution {id!r} has ended")

    async def _post(
        self,
        live: Live,
        kind: Kind,
        name: str,
        key: str | None,
        prepare: Callable[[], tuple[int, str]],
    ) -> int:
        try:
            return await self._executor.post(live, kind, name, prepare)
        except ExecutionClosed:
            # Its end may not be in the log yet, and the answer must not be taken back.
            await self._commits.settled()
            self._refuse_duplicate(live, kind, name, key)
            raise

    @staticmethod
    def _refuse_duplicate(live: Live, kind: Kind, name: str, key: str | None) -> None:
        number = None if key is None else live.post.keys.get((kind, name, key))
        if number is not None:
            raise _Duplicate(number)

    def _stored(self, id: str) -> Stored:
        stored = self._store.find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored


def _ended(history: list[Event], name: str, number: int) -> Answered | None:
    for event in history:
        if event.kind in UPDATE_ENDS and (event.name, event.occurrence) == (name, number):
            return Answered(event.kind, event.payload, event.sequence)
    return None


def _unanswered(id: str) -> ExecutionClosed:
    return ExecutionClosed(f"execution {id!r} ended before it could answer")


def _answer(name: str, ended: Answered | ExecutionClosed) -> Answer:
    if isinstance(ended, ExecutionClosed):
        raise ended
    value = _decoded(ended.payload)
    if ended.kind is Kind.UPDATE_FAILED:
        raise UpdateFailed(name, type=value["type"], message=value["message"])
    return Answer(value, ended.sequence)


def _decoded(text: str | int | None) -> Any:
    return None if text is None else json.loads(str(text))


def _query_failed(name: str, error: Exception) -> QueryFailed:
    return QueryFailed(f"{name}: {type(error).__name__}: {error}")
