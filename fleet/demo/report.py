"""The demo's report: the figures, where they come from, and how they read on a terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, Field
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.demo.check import Finding, Loss, Verdict
from fleet.demo.facts import TenantFacts
from fleet.views import Durability, Recovery

SHOWN_FINDINGS = 20
"""Findings printed on the terminal; the JSON report has all of them."""


class Spread(BaseModel):
    """The median and the worst of some durations, in seconds; null when there were none."""

    p50: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        seconds = sorted(values)
        if not seconds:
            return cls()
        return cls(p50=round(statistics.median(seconds), 3), max=round(seconds[-1], 3))


class LostHost(BaseModel):
    """One host that was destroyed, and what was on it."""

    host: str
    how: Literal["kill", "freeze", "partition"]
    at: float = Field(description="UNIX seconds")
    tenants: list[str]
    executions_running: int = Field(description="on its tenants, when it was lost")


class ZombieReport(BaseModel):
    """What a host that came back after its authority had lapsed was seen to do."""

    host: str
    asked: int = Field(description="starts sent straight to it that asked for durability")
    answered_durable: int = Field(description="of these, answered as durable (must be 0)")
    stopped_itself: bool
    seconds_to_stop: float | None = Field(
        default=None, description="from its return to the end of its last old engine"
    )


class TenantReport(BaseModel):
    """One tenant at the end."""

    name: str
    durability: Durability
    host: str | None
    epoch: int
    executions: int
    completed: int
    lost_committed_steps: int = 0
    rpo_seconds: float | None = Field(default=None, description="null: its host was never lost")
    lost_unproven_starts: int = 0
    duplicate_effects: int = 0
    findings: list[str] = []


class Conditions(BaseModel):
    """What the figures were measured on."""

    cores: int
    memory_mb: int
    system: str
    python: str
    sqlite: str
    litestream: str
    store: str
    seed: int


class Report(BaseModel):
    """The outcome of one demo. `ok` is true only if every check of every witness passed."""

    ok: bool
    tenants: int
    executions: int
    completed: int
    hosts_lost: int
    how: str
    lost_acknowledged: int
    lost_committed_steps: int
    lost_committed_steps_by_durability: dict[str, int]
    lost_unproven_starts: int = Field(
        description="starts acknowledged as not durable that the loss took back; started again"
    )
    duplicate_effects: int
    effects: int
    starts: dict[str, int] = Field(description="acknowledged starts: durable and async")
    retries: int = Field(description="requests repeated because a tenant could not answer")
    rpo_seconds: Spread
    rpo_seconds_by_durability: dict[str, Spread]
    rto_seconds: Spread
    rto_after_detection_seconds: Spread
    recoveries: list[Recovery]
    losses: list[LostHost]
    zombies: list[ZombieReport] = []
    tenant_reports: list[TenantReport]
    seconds: float = Field(description="from the first command to the last check")
    conditions: Conditions
    findings: list[str]


def compose(
    *,
    facts: Sequence[TenantFacts],
    verdicts: Sequence[Verdict],
    losses: Sequence[Loss],
    lost_hosts: Sequence[LostHost],
    zombies: Sequence[ZombieReport],
    recoveries: Sequence[Recovery],
    places: dict[str, tuple[str | None, int]],
    how: str,
    retries: int,
    other_findings: Sequence[Finding | str],
    seconds: float,
    conditions: Conditions,
) -> Report:
    """Put the report together. `places` has the host and the epoch of each tenant at the end."""
    durability = {one.tenant: one.durability for one in facts}
    of_tenant: dict[str, list[Loss]] = {}
    for loss in losses:
        of_tenant.setdefault(loss.tenant, []).append(loss)
    starts = Counter(
        "durable" if ack.durable else "async" for one in facts for ack in one.acknowledged
    )
    findings = [str(finding) for verdict in verdicts for finding in verdict.findings]
    findings += [str(finding) for finding in other_findings]
    findings += _unrecovered(lost_hosts, recoveries)
    findings += [
        f"{zombie.host}: came back and answered {zombie.answered_durable} starts as durable"
        for zombie in zombies
        if zombie.answered_durable
    ]
    findings += [
        f"{zombie.host}: came back and did not stop its old engines"
        for zombie in zombies
        if not zombie.stopped_itself
    ]
    executions = sum(len(one.expected) for one in facts)
    completed = sum(verdict.completed for verdict in verdicts)
    lost_acknowledged = sum(verdict.lost_acknowledged for verdict in verdicts)
    kinds: list[Durability] = sorted({one.durability for one in facts})
    return Report(
        ok=not findings and completed == executions and executions > 0 and lost_acknowledged == 0,
        tenants=len(facts),
        executions=executions,
        completed=completed,
        hosts_lost=len(lost_hosts),
        how=how,
        lost_acknowledged=lost_acknowledged,
        lost_committed_steps=sum(loss.lost_steps for loss in losses),
        lost_committed_steps_by_durability={
            kind: sum(loss.lost_steps for loss in losses if durability[loss.tenant] == kind)
            for kind in kinds
        },
        lost_unproven_starts=sum(verdict.lost_unproven for verdict in verdicts),
        duplicate_effects=sum(verdict.duplicate_effects for verdict in verdicts),
        effects=sum(len(one.effects) for one in facts),
        starts={"durable": starts["durable"], "async": starts["async"]},
        retries=retries,
        rpo_seconds=Spread.of(loss.rpo_seconds for loss in losses),
        rpo_seconds_by_durability={
            kind: Spread.of(loss.rpo_seconds for loss in losses if durability[loss.tenant] == kind)
            for kind in kinds
        },
        rto_seconds=Spread.of(recovery.rto_seconds for recovery in recoveries),
        rto_after_detection_seconds=Spread.of(
            recovery.rto_seconds - recovery.split.detect for recovery in recoveries
        ),
        recoveries=list(recoveries),
        losses=list(lost_hosts),
        zombies=list(zombies),
        tenant_reports=[
            _tenant_report(one, verdict, of_tenant.get(one.tenant, []), places)
            for one, verdict in zip(facts, verdicts, strict=True)
        ],
        seconds=round(seconds, 1),
        conditions=conditions,
        findings=findings,
    )


def _tenant_report(
    facts: TenantFacts,
    verdict: Verdict,
    losses: Sequence[Loss],
    places: dict[str, tuple[str | None, int]],
) -> TenantReport:
    host, epoch = places.get(facts.tenant, (None, 0))
    return TenantReport(
        name=facts.tenant,
        durability=facts.durability,
        host=host,
        epoch=epoch,
        executions=len(facts.expected),
        completed=verdict.completed,
        lost_committed_steps=sum(loss.lost_steps for loss in losses),
        rpo_seconds=max((round(loss.rpo_seconds, 3) for loss in losses), default=None),
        lost_unproven_starts=verdict.lost_unproven,
        duplicate_effects=verdict.duplicate_effects,
        findings=[str(finding) for finding in verdict.findings],
    )


def _unrecovered(lost_hosts: Sequence[LostHost], recoveries: Sequence[Recovery]) -> list[str]:
    """Tenants of a lost host that no recovery accounts for."""
    wanted = Counter((tenant, lost.host) for lost in lost_hosts for tenant in lost.tenants)
    done = Counter((recovery.tenant, recovery.from_host) for recovery in recoveries)
    return [
        f"{tenant}: was on {host} when it was lost, and the fleet reports no recovery of it"
        for (tenant, host), count in wanted.items()
        if done[(tenant, host)] < count
    ]


def render(report: Report) -> RenderableType:
    """The report as a terminal shows it."""
    parts: list[RenderableType] = [_headline(report), _figures(report)]
    for lost in report.losses:
        parts.append(_loss_line(lost))
    if report.recoveries:
        parts.append(_recovery_table(report.recoveries))
    parts.append(_tenant_table(report.tenant_reports))
    for zombie in report.zombies:
        parts.append(_zombie_line(zombie))
    for finding in report.findings[:SHOWN_FINDINGS]:
        parts.append(Text(f"  ✗ {finding}", style="red"))
    if len(report.findings) > SHOWN_FINDINGS:
        parts.append(Text(f"  … and {len(report.findings) - SHOWN_FINDINGS} more", style="red"))
    conditions = report.conditions
    parts.append(
        Text(
            f"{conditions.cores} cores, {conditions.system}, Python {conditions.python}, "
            f"SQLite {conditions.sqlite}, Litestream {conditions.litestream}, "
            f"{conditions.store}, seed {conditions.seed}, {report.seconds:.0f} s in all",
            style="dim",
        )
    )
    return Group(*parts)


def _headline(report: Report) -> Text:
    if not report.ok:
        return Text(
            f"✗ NOT as promised: {len(report.findings)} findings, "
            f"{report.completed} of {report.executions} executions right.",
            style="bold red",
        )
    lost = (
        f"Lost {_hosts(report.hosts_lost)}, lost nothing that was promised"
        if report.hosts_lost
        else "No host was lost"
    )
    return Text(
        f"✓ {lost}: all {report.executions} executions of {report.tenants} tenants finished with "
        "the right result.",
        style="bold green",
    )


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"  # noqa: RUF001


def _figures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_row(
        f"{report.lost_acknowledged}",
        f"lost of {report.starts['durable']} starts acknowledged as durable",
    )
    table.add_row(
        f"{report.lost_unproven_starts}",
        f"lost of {report.starts['async']} starts acknowledged as not durable (started again)",
    )
    steps = ", ".join(
        f"{count} under {kind}" for kind, count in report.lost_committed_steps_by_durability.items()
    )
    table.add_row(f"{report.lost_committed_steps}", f"committed steps lost and done again: {steps}")
    table.add_row(
        f"{report.duplicate_effects}",
        f"of {report.effects} effects reached the outside again, under their first key",
    )
    if report.recoveries:
        table.add_row(
            _seconds(report.rpo_seconds.max),
            f"RPO at worst, {_seconds(report.rpo_seconds.p50)} at the median",
        )
        table.add_row(
            _seconds(report.rto_seconds.max),
            f"RTO at worst, {_seconds(report.rto_seconds.p50)} at the median; after detection "
            f"{_seconds(report.rto_after_detection_seconds.p50)} at the median",
        )
    return table


def _loss_line(lost: LostHost) -> Text:
    manner = {"kill": "destroyed", "freeze": "frozen", "partition": "cut off"}.get(
        lost.how, lost.how
    )
    return Text(
        f"{lost.host} was {manner} with {lost.executions_running} executions under way, of "
        f"{', '.join(lost.tenants)}."
    )


def _table(title: str) -> Table:
    """Narrow enough for a terminal of 80 columns."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _recovery_table(recoveries: Sequence[Recovery]) -> Table:
    table = _table("Recoveries (seconds)")
    for name in ("tenant", "from → to", "epoch"):
        table.add_column(name)
    for name in ("detect", "fence", "claim", "fetch", "verify", "start", "RTO"):
        table.add_column(name, justify="right")
    for one in recoveries:
        split = one.split
        seconds = (split.detect, split.fence, split.claim, split.fetch, split.verify, split.start)
        table.add_row(
            one.tenant,
            f"{one.from_host} → {one.to_host}",
            f"{one.from_epoch} → {one.epoch}",
            *(f"{value:.2f}" for value in (*seconds, one.rto_seconds)),
        )
    return table


def _tenant_table(tenants: Sequence[TenantReport]) -> Table:
    table = _table("Tenants")
    for name in ("tenant", "durability", "host"):
        table.add_column(name)
    for name in ("epoch", "right / all", "steps lost", "RPO", "repeats"):
        table.add_column(name, justify="right")
    for one in tenants:
        table.add_row(
            one.name,
            one.durability,
            one.host or "?",
            str(one.epoch),
            f"{one.completed} / {one.executions}",
            str(one.lost_committed_steps),
            _seconds(one.rpo_seconds),
            str(one.duplicate_effects),
            style=None if not one.findings else "red",
        )
    return table


def _zombie_line(zombie: ZombieReport) -> Text:
    stopped = (
        f"stopped itself {_seconds(zombie.seconds_to_stop)} after its return"
        if zombie.stopped_itself
        else "did NOT stop itself"
    )
    return Text(
        f"Zombie {zombie.host}: {zombie.asked} durable starts sent straight to it, "
        f"{zombie.answered_durable} answered as durable; {stopped}.",
        style="green" if zombie.stopped_itself and not zombie.answered_durable else "red",
    )
