"""What makes executions of an open engine from others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from node.engine.archive import Archive
from node.engine.fork_preview import Preview
from node.engine.forked import ForkMode
from node.engine.forks import ForkResult, Forks
from node.engine.reading import Reading


class Making(Reading):
    """The part of an engine that forks and imports."""

    _forks: Forks

    @abstractmethod
    def _refuse_when_stopped(self) -> None:
        """Raises EngineStopped."""

    async def fork(
        self,
        id: str,
        *,
        at: str | int | None = None,
        mode: ForkMode = ForkMode.EXACT,
        new_id: str | None = None,
        input: Mapping[str, Any] | None = None,
        messages: bool = True,
        paused: bool = False,
    ) -> ForkResult:
        """Make a new execution from another one, open or closed, which stays as it is.

        EXACT: what came before `at` (a step such as `charge` or `charge#2`, or the sequence of an
        event) stands, and the step is run again; by default it goes on from the failure or the
        cancellation, or from where an open one is. REUSE: the code starts from its beginning, with
        another `input` if there is one, and takes the results of steps whose activity has the same
        name, declared version and arguments; with `at`, only of those that ended before it.

        `messages` says whether the signals and updates that come after what stands are sent
        again. The same `new_id` again gives the same fork. Raises ForkRefused, UnknownExecution,
        UnknownWorkflow, PayloadError, ExecutionConflict, EngineStopped.
        """
        self._refuse_when_stopped()
        return await self._forks.fork(
            id, at=at, mode=mode, new_id=new_id, input=input, messages=messages, paused=paused
        )

    def preview_fork(
        self,
        source: str | Archive,
        *,
        at: str | int | None = None,
        mode: ForkMode = ForkMode.EXACT,
        input: Mapping[str, Any] | None = None,
        messages: bool = True,
    ) -> Preview:
        """What `fork` would do, or `import_`: which steps would stand, be reused or run, and why.
        Nothing is changed. Raises what they raise."""
        self._refuse_when_stopped()
        return self._forks.preview(source, at=at, mode=mode, input=input, messages=messages)

    async def import_(
        self,
        archive: Archive,
        *,
        mode: ForkMode = ForkMode.RECORD,
        at: str | int | None = None,
        id: str | None = None,
        input: Mapping[str, Any] | None = None,
        messages: bool = True,
        paused: bool = True,
    ) -> ForkResult:
        """Make an execution from one that was exported, perhaps by another engine.

        RECORD: closed, to be looked at. EXACT and REUSE: a fork of it that goes on here, which is
        paused unless `paused` says otherwise. Its id is its own if that is free here, else its own
        with a few digits behind it; the same archive and the same wish again give the same
        execution.
        Children that it was exported with become records. Raises what `fork` raises.
        """
        self._refuse_when_stopped()
        return await self._forks.import_(
            archive, mode=mode, at=at, id=id, input=input, messages=messages, paused=paused
        )
