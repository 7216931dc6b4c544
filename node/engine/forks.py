"""Making executions from others: forks, and what is imported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random
from typing import Any

from node.engine.application import Application
from node.engine.archive import Archive, source_of
from node.engine.beginning import Beginning, compact, standing
from node.engine.commits import Commits
from node.engine.context import new_id as fresh_id
from node.engine.definition import Workflow
from node.engine.durability import Durability
from node.engine.errors import (
    DeterminismError,
    Divergence,
    ExecutionConflict,
    ForkRefused,
    UnknownExecution,
    UnknownWorkflow,
)
from node.engine.events import RESERVED
from node.engine.executor import Executor
from node.engine.external import token_for
from node.engine.families import check_id
from node.engine.fork_preview import Preview, preview_exact, preview_reuse
from node.engine.fork_source import Source
from node.engine.forked import ForkMode, Identity
from node.engine.forking import Fork, exact, record, reuse
from node.engine.identities import Identities
from node.engine.run import Run
from node.engine.steps import Command
from node.engine.store import Store, Stored
from node.engine.views import ExecutionView

#: Digits in an id that is made up for what is imported.
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ForkResult:
    """A fork, or what was imported. `created` is False when it was there before. `tokens` are
    those of the external events that its code waits for, by step (`approval#1`)."""

    view: ExecutionView
    created: bool
    tokens: Mapping[str, str] = field(default_factory=dict)


class Forks:
    """Makes executions of one engine from others. `secret` is what its log's tokens are made
    with, `now` gives unix milliseconds, and `view` an execution as it is."""

    def __init__(
        self,
        *,
        application: Application,
        executor: Executor,
        store: Store,
        commits: Commits,
        whose: Identities,
        random: Random,
        now: Callable[[], int],
        view: Callable[[str], ExecutionView],
    ) -> None:
        self._application = application
        self._executor = executor
        self._store = store
        self._commits = commits
        self._whose = whose
        self._random = random
        self._now = now
        self._view = view

    async def fork(
        self,
        id: str,
        *,
        at: str | int | None,
        mode: ForkMode,
        new_id: str | None,
        input: Mapping[str, Any] | None,
        messages: bool,
        paused: bool,
    ) -> ForkResult:
        """See Engine.fork."""
        key = fresh_id(self._now(), self._random) if new_id is None else new_id
        check_id(key)
        # What its code has been told is in the log then.
        await self._commits.settled()
        source = self._source(id)
        if mode is ForkMode.RECORD:
            raise ForkRefused(
                "a record is made of what is imported only", hint="Fork exactly, or reuse results."
            )
        fork = self._plan(source, key, at, mode, input, messages=messages, paused=paused)
        there = await self._there(key, fork)
        return there or await self._begin(key, fork)

    def preview(
        self,
        source: str | Archive,
        *,
        at: str | int | None,
        mode: ForkMode,
        input: Mapping[str, Any] | None,
        messages: bool,
    ) -> Preview:
        """See Engine.preview_fork."""
        known = source_of(source.whole()) if isinstance(source, Archive) else self._source(source)
        # Its id would be another one; where that makes a difference, nobody can know it now.
        key = f"{known.identity.execution}'"
        fork = self._plan(known, key, at, mode, input, messages=messages, paused=False)
        if mode is not ForkMode.REUSE:
            return preview_exact(fork)
        definition = self._definition(fork.workflow)
        run = self._run(key, definition, fork.beginning)
        try:
            return preview_reuse(fork, known, run, self._now())
        finally:
            run.drop()

    async def import_(
        self,
        archive: Archive,
        *,
        mode: ForkMode,
        at: str | int | None,
        id: str | None,
        input: Mapping[str, Any] | None,
        messages: bool,
        paused: bool,
    ) -> ForkResult:
        """See Engine.import_."""
        source = source_of(archive.whole())
        asked = compact([archive.digest, mode, at, input])
        digits = blake2b(asked.encode(), digest_size=_DIGITS // 2).hexdigest()
        other = f"{archive.execution}-{digits}"
        same_keys = mode is not ForkMode.RECORD and archive.lineage == self._whose.lineage
        if same_keys and id == archive.execution:
            raise ForkRefused(
                f"execution {id!r} is of this very log, and would have its idempotency keys again",
                hint="Choose another id, or leave it out.",
            )
        wanted = [id] if id is not None else [other] if same_keys else [archive.execution, other]
        for number, key in enumerate(wanted, 1):
            check_id(key)
            fork = self._plan(source, key, at, mode, input, messages=messages, paused=paused)
            try:
                there = await self._there(key, fork)
            except ExecutionConflict:
                if number < len(wanted):
                    continue
                raise
            made = there or await self._begin(key, fork)
            for child in archive.children:
                await self.import_(
                    child,
                    mode=ForkMode.RECORD,
                    at=None,
                    id=None,
                    input=None,
                    messages=False,
                    paused=False,
                )
            return made
        raise AssertionError("an id is wanted")

    def _plan(
        self,
        source: Source,
        key: str,
        at: str | int | None,
        mode: ForkMode,
        input: Mapping[str, Any] | None,
        *,
        messages: bool,
        paused: bool,
    ) -> Fork:
        if source.workflow.startswith(RESERVED):
            raise ForkRefused(f"{source.workflow} is the engine's own", hint="Fork another one.")
        if mode is not ForkMode.REUSE and input is not None:
            raise ForkRefused(
                "what stands of an execution was done with its own input",
                hint='Give another input with the mode "reuse".',
            )
        if mode is ForkMode.RECORD:
            if at is not None:
                raise ForkRefused("a record is whole", hint="Leave out the step.")
            return record(source)
        definition = self._definition(source.workflow)
        if mode is ForkMode.REUSE:
            given = Beginning.of(source.first).input
            values = json.loads(given) if input is None else input
            payload = definition.codec.start(values)
            return reuse(source, key, payload, at, messages=messages, paused=paused)
        return exact(
            source,
            key,
            at,
            messages=messages,
            paused=paused,
            now=self._now(),
            rehearse=lambda fork: self._rehearse(key, fork),
        )

    def _rehearse(self, key: str, fork: Fork) -> Sequence[Command]:
        history = standing(fork.history(key))
        definition = self._definition(fork.workflow)
        run = self._run(key, definition, replace(Beginning.of(history[0]), since=0))
        level = self._executor.durability(definition)
        try:
            return run.replay(history, strict=level is not Durability.EVERY_COMMIT)
        except (Divergence, DeterminismError) as error:
            raise ForkRefused(
                f"the code does not follow what would stand: {error}",
                hint="Choose an earlier step, or reuse the results of the steps that are the same.",
            ) from error
        finally:
            run.drop()

    def _run(self, key: str, definition: Workflow[..., Any], beginning: Beginning) -> Run:
        return Run(
            key=key,
            workflow=definition,
            beginning=beginning,
            tenant=self._whose.tenant,
            lineage=self._whose.lineage,
            secret=self._executor.secret_of(key),
        )

    async def _there(self, key: str, fork: Fork) -> ForkResult | None:
        """What has this id already, if it was made in the same way. Raises ExecutionConflict."""
        live = self._executor.live.get(key)
        if live is not None:
            await asyncio.shield(live.committed)
        elif self._commits.lacks(key):
            return None
        stored = self._store.find(key)
        if stored is None:
            return None
        asked, has = fork.forked.source, json.loads(stored.forked_from or "{}")
        known = (has.get("id"), has.get("mode"), has.get("digest"))
        inputs = (json.loads(str(stored.input)), json.loads(fork.beginning.input))
        if known != (asked.id, asked.mode, asked.digest) or inputs[0] != inputs[1]:
            raise ExecutionConflict(
                f"execution {key!r} exists", hint="Choose another id, or leave it out."
            )
        return ForkResult(self._view(key), False, self._tokens(key, fork))

    async def _begin(self, key: str, fork: Fork) -> ForkResult:
        def load() -> tuple[Stored, list[Any]]:
            stored = self._stored(key)
            return stored, self._store.history_of(stored)

        live = self._executor.fork(key, fork, load)
        await asyncio.shield(live.committed)
        return ForkResult(self._view(key), True, self._tokens(key, fork))

    def _tokens(self, key: str, fork: Fork) -> dict[str, str]:
        secret = self._executor.secret_of(key)
        return {f"{name}#{n}": token_for(secret, key, (name, n)) for name, n in fork.tokens}

    def _source(self, id: str) -> Source:
        stored = self._stored(id)
        history = standing(self._store.history_of(stored))
        run = Beginning.of(history[0]).run
        secret = self._executor.secret_of(id)
        tenant, lineage = self._whose.at(history[0].sequence)
        return Source(Identity(id, tenant, lineage, run, secret), history)

    def _definition(self, workflow: str) -> Workflow[..., Any]:
        definition = self._application.workflows.get(workflow)
        if definition is None:
            raise UnknownWorkflow(f"no workflow {workflow!r}")
        return definition

    def _stored(self, id: str) -> Stored:
        stored = self._store.find(id)
        if stored is None:
            raise UnknownExecution(f"no execution {id!r}")
        return stored
