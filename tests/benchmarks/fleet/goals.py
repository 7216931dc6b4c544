"""The fleet's aims, held against what a run measured."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.aims import Aim, at_most
from tests.benchmarks.fleet.recovering import PHASES


def judge(measured: dict[str, Any]) -> list[Aim]:
    """Every aim, met, missed or not measured."""
    return [
        *_provisioning(measured.get("provisioning")),
        *_recovery("one tenant of a lost host", measured.get("recovery of one")),
        *_recovery("all tenants of a lost host", measured.get("recovery of all")),
        *_gateway(measured.get("gateway")),
        *_waking(measured.get("waking")),
        *_idling(measured.get("idling")),
    ]


def _known(name: str, measured: float | None, note: str = "") -> Aim:
    """Nothing to hold it against."""
    return Aim(name, "to be known", measured, None, note)


def _provisioning(figures: dict[str, Any] | None) -> list[Aim]:
    rates, name = figures or {}, "from the request for a tenant to its first result, s"
    return [
        _known("provisions a second, until they serve", rates.get("provisions_per_second")),
        _known(f"{name}, p50", rates.get("first_workflow_p50")),
        _known(f"{name}, p99", rates.get("first_workflow_p99")),
    ]


def _recovery(name: str, figures: dict[str, Any] | None) -> list[Aim]:
    if figures is None:
        return [_known(f"RTO, {name}, s, {which}", None) for which in ("p50", "p99")]
    aims = []
    for which in ("p50", "p99"):
        split = ", ".join(f"{phase} {figures['phases'][phase][which]:.2f}" for phase in PHASES)
        after, bare = figures["after_detection"][which], figures["bare_restore"][which]
        note = f"{figures['tenants']} losses; {split}; after detection {after:.2f}"
        note += f"; bare litestream restore {bare:.2f}"
        if which == "p99" and "bare_restore_of_all" in figures:
            note += f", of all {figures['bare_restore_of_all']:.2f}"
        aims.append(_known(f"RTO, {name}, s, {which}", figures["rto"][which], note))
    return aims


def _gateway(figures: dict[str, Any] | None) -> list[Aim]:
    aims = []
    for which in ("p50", "p99"):
        note = ", ".join(f"{way} {each[which]:.2f}" for way, each in (figures or {}).items())
        added = figures["added"][which] if figures else None
        aims.append(_known(f"added by the gateways to a request, ms, {which}", added, note))
    return aims


def _waking(figures: dict[str, Any] | None) -> list[Aim]:
    note = f"{figures['wakes']} wakes" if figures else ""
    name = "from a request to a tenant that sleeps to its answer, s"
    return [
        at_most(f"{name}, {which}", 1, figures[which] if figures else None, "", note)
        for which in ("p50", "p99")
    ]


def _idling(figures: dict[str, Any] | None) -> list[Aim]:
    name = f"an awake idle tenant, one of {figures['tenants']:,}" if figures else "an idle tenant"
    memory, processor = figures or {}, figures or {}
    return [
        at_most(
            f"{name}: memory (PSS)", 40, memory.get("memory"), " MiB", _parts(memory, "memory_of")
        ),
        _known(
            f"{name}: percent of a processor",
            processor.get("processor"),
            _parts(processor, "processor_of"),
        ),
    ]


def _parts(figures: dict[str, Any], of: str) -> str:
    return ", ".join(f"{kind} {value:.2f}" for kind, value in figures.get(of, {}).items())
