"""Would other code follow what the open executions have done? Found out by replay alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from node.engine import collection, guard
from node.engine.application import Application
from node.engine.archive import replay
from node.engine.beginning import standing
from node.engine.durability import Durability
from node.engine.errors import EngineError
from node.engine.events import RESERVED, Event, Kind
from node.engine.external import execution_secret
from node.engine.live import Origin
from node.engine.patches import patches_in
from node.engine.releases import Releases, with_pin
from node.engine.snapshot import snapshot

#: Executions between two calls of `progress`.
STEP: Final = 200


class Verdict(StrEnum):
    """What the new code would mean for an open execution that cannot go on as it is."""

    DIVERGES = "diverges"
    """The code does something else than its log holds."""
    UNKNOWN = "unknown_workflow"
    """The application has no such workflow any more."""
    PARKED = "parked"
    """It is pinned to a version that is not kept, and would wait for it."""


class Finding(BaseModel):
    """An open execution that would not go on.

    `sequence`, `logged` and `did` say where a divergence is: the event, what the log holds there,
    and what the code did. `missing` are activities that its log has and the application does not
    declare; `version` is the version that it is pinned to.
    """

    execution: str
    workflow: str
    verdict: Verdict
    message: str
    hint: str
    version: str | None = None
    sequence: int | None = None
    logged: str | None = None
    did: str | None = None
    missing: list[str] = []


class WorkflowCounts(BaseModel):
    """The open executions of one workflow. `pinned` ones follow their own version, which stays."""

    follows: int = 0
    pinned: int = 0
    diverges: int = 0
    unknown_workflow: int = 0
    parked: int = 0


class PatchUse(BaseModel):
    """How open executions have answered a patch that the new code asks for. While any has taken
    the `old` path, it must stay."""

    old: int = 0
    new: int = 0

    @property
    def old_path_is_unused(self) -> bool:
        """Whether the old path may be removed, as far as open executions go."""
        return not self.old


class UpgradeReport(BaseModel):
    """What an upgrade would mean. It is `ok` when no open execution would be stopped by it.

    `application` is the new code, `version` its version and `kept` those beside it; `sequence` is
    the event of the log up to which was looked, `events` how many were replayed.
    """

    ok: bool = True
    application: str
    version: str | None = None
    kept: list[str] = []
    sequence: int = 0
    executions: int = 0
    events: int = 0
    workflows: dict[str, WorkflowCounts] = {}
    findings: list[Finding] = []
    patches: dict[str, PatchUse] = {}


class UpgradeCheck:
    """Collects what becomes of executions under other code. Nothing has an effect, and nothing is
    read but what it is given."""

    def __init__(self, application: Application, kept: Sequence[Application] = ()) -> None:
        """Raises DefinitionError for versions that cannot be told apart."""
        guard.install()
        self._releases = Releases(application, kept)
        patches = {
            name
            for workflow in application.workflows.values()
            for name in patches_in(workflow.function)
        }
        self.report = UpgradeReport(
            application=application.name,
            version=application.version,
            kept=list(self._releases.kept),
            patches={name: PatchUse() for name in sorted(patches)},
        )

    def add(
        self,
        events: Sequence[Event],
        *,
        tenant: str,
        lineage: str,
        secret: bytes = bytes(32),
        floor: Durability = Durability.ASYNC,
    ) -> None:
        """Replay one open execution, given its events since it last began; `secret` is its own.
        Those of the engine's own workflows are passed over."""
        first = events[0]
        if first.name.startswith(RESERVED):
            return
        report, releases = self.report, self._releases
        count = report.workflows.setdefault(first.name, WorkflowCounts())
        report.executions += 1
        origin = with_pin(Origin.of(standing(events)), events)
        application = releases.of(origin)
        about: dict[str, Any] = {"execution": first.execution, "workflow": first.name}
        if application is None or first.name not in application.workflows:
            missing = releases.missing(first.name, origin)
            parked = application is None
            self._find(
                count,
                Finding(
                    **about,
                    verdict=Verdict.PARKED if parked else Verdict.UNKNOWN,
                    message=str(missing),
                    hint=_KEEP if parked else missing.hint,
                    version=origin.pin,
                ),
            )
            return
        report.events += len(events)
        done = replay(
            events, application, tenant=tenant, lineage=lineage, secret=secret, floor=floor
        )
        error: EngineError | None = done.divergence or done.refused
        if error is not None:
            steps = {event.name for event in events if event.kind is Kind.STEP}
            finding = Finding(
                **about,
                verdict=Verdict.DIVERGES,
                message=str(error),
                hint=_DIVERGES,
                version=origin.pin,
                missing=sorted(steps - application.activities.keys()),
            )
            if done.divergence is not None:
                finding.sequence = done.divergence.sequence
                finding.logged, finding.did = done.divergence.logged, done.divergence.did
            self._find(count, finding)
            return
        if application is not releases.current:
            count.pinned += 1
            return
        count.follows += 1
        for name, new in done.patches.items():
            use = report.patches.setdefault(name, PatchUse())
            use.new += new
            use.old += not new

    def add_log(
        self,
        log: Path | str,
        *,
        floor: Durability = Durability.ASYNC,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """Replay what is open in a log, as `check_upgrade` does."""
        with snapshot(log) as found:
            self.report.sequence = found.sequence
            owner, done, more = found.owner, 0, True
            progress(0, found.count)
            while more:
                more = False
                with collection.paused():
                    for history in found.histories:
                        tenant, lineage = owner.identities.at(history[0].sequence)
                        self.add(
                            history,
                            tenant=tenant,
                            lineage=lineage,
                            secret=execution_secret(owner.secret, history[0].execution),
                            floor=floor,
                        )
                        done += 1
                        if done % STEP == 0:
                            more = True
                            break
                progress(done, found.count)

    def _find(self, count: WorkflowCounts, finding: Finding) -> None:
        self.report.ok = False
        self.report.findings.append(finding)
        setattr(count, finding.verdict.value, getattr(count, finding.verdict.value) + 1)


_KEEP: Final = "Keep that version beside the new one: --keep."
_DIVERGES: Final = (
    "Make the new code follow it (`workflow.patched`), or pin it to the version that it runs with."
)


def check_upgrade(
    log: Path | str,
    application: Application,
    *,
    kept: Iterable[Application] = (),
    floor: Durability = Durability.ASYNC,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> UpgradeReport:
    """What it would mean for every open execution of a log to go on with this application, and
    with older versions `kept` beside it. The log may be in use; it is read in short parts, and as
    it is now. `floor` is its tenant's durability; `progress` is told how many of how many are
    done.

    Raises DefinitionError, LogMissing, LogRefused, LogDamaged.
    """
    check = UpgradeCheck(application, tuple(kept))
    check.add_log(log, floor=floor, progress=progress)
    return check.report
