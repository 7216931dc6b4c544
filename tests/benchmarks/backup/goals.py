"""The aims of backup and restore, held against what a run measured."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.aims import Aim, at_most
from tests.benchmarks.backup.restoring import MB

BARRIER, RESTORE, REQUESTS = 1.3, 1.2, 60


def judge(measured: dict[str, Any], sizes: tuple[int, ...]) -> list[Aim]:
    """Every aim, met, missed or not measured."""
    return [
        *_proving(measured.get("proving")),
        *(_restoring(size, measured.get(f"restoring {size // MB} MB")) for size in sizes),
        *_idling(measured.get("idling")),
        *_asking(measured.get("asking")),
    ]


def _proving(figures: dict[str, Any] | None) -> list[Aim]:
    name = "a barrier, times a bare POST /sync, one writer"
    if figures is None:
        return [at_most(name, BARRIER, None)]
    ratio = figures["ratio"]
    bare, proof = figures["bare_ms"], figures["proof_ms"]
    note = f"{ratio['lowest']:.2f}-{ratio['highest']:.2f} in {ratio['rounds']} pairs; "
    note += f"bare p50 {bare['p50']:.1f}, p99 {bare['p99']:.1f} ms; "
    note += f"barrier p50 {proof['p50']:.1f}, p99 {proof['p99']:.1f} ms"
    many = f"proofs a second, {figures['writers']} writers"
    return [
        at_most(name, BARRIER, ratio["median"], note=note),
        Aim(
            many,
            "to be known",
            figures["proofs_per_second"],
            None,
            f"{figures['rounds_per_second']:.1f} rounds/s",
        ),
    ]


def _restoring(size: int, figures: dict[str, Any] | None) -> Aim:
    name = f"a checked restore of {size // MB:,} MB, times litestream restore"
    if figures is None:
        return at_most(name, RESTORE, None)
    ratio, parts = figures["ratio"], figures["parts"]
    note = f"{ratio['lowest']:.2f}-{ratio['highest']:.2f} in {ratio['rounds']} rounds; "
    note += f"bare {figures['bare_seconds']['median']:.2f} s, ours "
    note += ", ".join(f"{part} {spread['median']:.2f}" for part, spread in parts.items())
    return at_most(name, RESTORE, ratio["median"], note=note)


def _idling(figures: dict[str, Any] | None) -> list[Aim]:
    memory, processor = figures or {}, figures or {}
    note = f"{figures['tenants']} tenants" if figures else ""
    of_memory, of_processor = memory.get("memory_of", {}), processor.get("processor_of", {})
    return [
        Aim("an idle tenant's supervisor: MiB (PSS)", "to be known", of, None, note)
        if what == "memory"
        else Aim(
            "an idle tenant's supervisor: seconds of a processor an hour",
            "to be known",
            None if of is None else of * 36,
            None,
            note,
        )
        for what, of in (
            ("memory", of_memory.get("supervisor")),
            ("processor", of_processor.get("supervisor")),
        )
    ]


def _asking(figures: dict[str, Any] | None) -> list[Aim]:
    name = "an awake idle tenant: requests an hour"
    if figures is None:
        return [at_most(name, REQUESTS, None)]
    counts = ", ".join(f"{kind} {n:g}" for kind, n in figures["requests_an_hour"].items())
    return [at_most(name, REQUESTS, figures["in_all"], note=f"{figures['seconds']} s; {counts}")]
