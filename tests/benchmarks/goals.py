"""The engine's aims, held against what a run measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.benchmarks.aims import Aim, at_least, at_most, wanted
from tests.benchmarks.contest import Result
from tests.benchmarks.report import Report


def judge(report: Report) -> list[Aim]:
    """Every aim, met, missed or not measured."""
    one, many = report.contests
    return [
        _times(many, "litefleet FULL", "floor FULL", 4),
        _times(many, "litefleet FULL", "DBOS defaults", 60),
        _times(many, "litefleet FULL", "DBOS WAL FULL", 30),
        _times(one, "litefleet FULL", "floor FULL", 0.8),
        _times(one, "litefleet NORMAL", "floor NORMAL", 0.3),
        *_size(report.alone.get("size")),
        *_inflight(report.alone.get("inflight")),
        *_opening(report.alone.get("opening")),
        _ageing(report.alone.get("ageing")),
        *_latency(report.alone),
        _barriers(report.alone.get("barriers")),
    ]


def _times(contest: Result, name: str, other: str, least: float) -> Aim:
    ratio = contest.ratio(name, other)
    title = f"{contest.shape}: {name}, times {other}"
    if ratio is None:
        return at_least(title, least, None, note="one of the two did not take part")
    note = f"{ratio.lowest:.3g}-{ratio.highest:.3g} in {ratio.rounds} rounds"
    return at_least(title, least, ratio.median, note=note)


def _size(measured: dict[str, Any] | None) -> list[Aim]:
    aims = []
    for shape in ("at once", "one after another"):
        name = f"bytes of log a 10-step workflow, {shape}"
        figures = measured or {}
        note = (
            f"{figures[f'{shape}, whole']:.0f} of the whole file, an empty log's"
            f" {figures['empty']:,} bytes included"
            if measured
            else ""
        )
        aims.append(at_most(name, 900, figures.get(shape), note=note))
    return aims


def _inflight(measured: dict[str, Any] | None) -> list[Aim]:
    figures = measured or {}
    count = figures.get("executions", 7500)
    prefix = f"{count:,} in flight on one processor"
    going = figures["going_on"] == count if measured else None
    return [
        at_most(f"{prefix}: peak memory", 300, figures.get("peak_memory"), " MiB"),
        wanted(f"{prefix}: all make progress", "all", going),
        at_most(
            f"{prefix}: signal to wake-up, p99",
            50,
            figures.get("signal_p99"),
            " ms",
            f"{figures.get('signals')} signals, p50 {figures.get('signal_p50', 0):.3g} ms",
        ),
    ]


def _opening(measured: dict[str, Any] | None) -> list[Aim]:
    figures = measured or {}
    count = figures.get("executions", 10_000)
    prefix = f"opening a log with {count:,} open executions"
    flowing = None
    if measured:
        first = figures["first_commit_seconds"]
        flowing = first is not None and first < figures["open_seconds"]
    used = f"{figures.get('open_processor_seconds', 0):.3g} s of a processor"
    alone = {
        name: f"{figures.get(f'{name}_events_per_processor_second', 0):,.0f} a processor's second"
        for name in ("replay", "both")
    }
    return [
        at_most(f"{prefix}: until open", 3, figures.get("open_seconds"), " s", used),
        wanted(f"{prefix}: work flows before all are replayed", "a commit before", flowing),
        at_least(
            "replay, without reading",
            100_000,
            figures.get("replay_events_per_second"),
            " events/s",
            alone["replay"],
        ),
        at_least(
            "replay, with reading from the file",
            100_000,
            figures.get("both_events_per_second"),
            " events/s",
            alone["both"],
        ),
    ]


def _ageing(measured: dict[str, Any] | None) -> Aim:
    name = "an execution beside a million finished ones, times one in a new log"
    if measured is None:
        return at_most(name, 1.1, None)
    ratios = [ratio for each in measured["cost_ratios"].values() for ratio in each]
    note = f"{min(ratios):.3g}-{max(ratios):.3g}; {measured['finished']:,} finished"
    return at_most(name, 1.1, median(ratios), note=note)


def _latency(alone: dict[str, Any]) -> list[Aim]:
    aims = []
    for name, figures in alone.items():
        if name.startswith("latency"):
            title = f"step latency, {figures['workflows']:,} at once"
            note = f"p50 {figures['p50']:.3g} ms, p99 {figures['p99']:.3g} ms"
            aims.append(Aim(title, "to be known", figures["p99"], None, note))
    return aims


def _barriers(measured: dict[str, Any] | None) -> Aim:
    figures = measured or {}
    name = (
        f"before_effects, {figures.get('writers', 32)} writers, a store"
        f" {figures.get('latency', 0.03) * 1000:.0f} ms away"
    )
    note = f"{figures.get('rounds_per_second', 0):.3g} rounds/s"
    return at_least(name, 250, figures.get("barriers_per_second"), " barriers/s", note)
