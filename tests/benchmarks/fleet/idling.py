"""What an awake tenant that does nothing takes of its host: memory and processor."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from tests.benchmarks.fleet.place import Place, Stuck
from tests.benchmarks.spread import percentiles

MIB = 1 << 20


async def measure(
    here: Place, names: Sequence[str], host: str, settling: float, seconds: float
) -> dict[str, Any]:
    """For each of a host's tenants, all its processes counted: MiB of memory, where a page that
    several processes share counts for each with its share (PSS), and percent of a processor over
    so many seconds. What the host has once for all its tenants comes extra."""
    await here.quiet(names)
    await asyncio.sleep(settling)
    nodes = [node.pids for node in await here.nodes(host) if node.tenant in names]
    if len(nodes) != len(names) or any(len(pids) != 4 for pids in nodes):
        raise Stuck("not every tenant's node is whole")
    before = [{kind: _cpu(pid) for kind, pid in pids.items()} for pids in nodes]
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    cpu, memory = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for pids, then in zip(nodes, before, strict=True):
        for kind, pid in pids.items():
            cpu[kind].append((_cpu(pid) - then[kind]) / took * 100)
            memory[kind].append(pss(pid) / MIB)
    each = [sum(values) for values in zip(*memory.values(), strict=True)]
    p50, p99 = percentiles(each)
    agent = psutil.Process(here.fleet.hosts[host].machine.pid)
    own = {agent.pid} | {child.pid for child in agent.children()}
    return {
        "tenants": len(names),
        "memory": mean(each),
        "memory_p50": p50,
        "memory_p99": p99,
        "memory_of": {kind: mean(values) for kind, values in memory.items()},
        "processor": sum(mean(values) for values in cpu.values()),
        "processor_of": {kind: mean(values) for kind, values in cpu.items()},
        "memory_of_agent_and_nursery": sum(pss(pid) for pid in own) / MIB,
    }


def pss(pid: int) -> int:
    """Bytes: a process's own pages, and its share of those that it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Stuck(f"process {pid} has no memory")


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
