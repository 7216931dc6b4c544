"""The metrics of one host: its nodes as the agent sees them, and what their engines say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from fleet.gateway.tally import GATEWAY_METRICS, Sample
from node.order import NodeStatus

#: Seconds that an engine has to answer; one that does not is left out, and counted as silent.
PATIENCE: Final = 5.0

#: What the agent says of each node: name, kind, meaning.
NODE_METRICS: Final = (
    ("litefleet_node_serving", "gauge", "1 while the tenant's engine answers on this host"),
    ("litefleet_node_answered", "gauge", "1 if the engine's own metrics are here"),
    ("litefleet_node_epoch", "gauge", "the node's epoch"),
    ("litefleet_node_lag_seconds", "gauge", "age of the oldest commit that is not proven"),
    ("litefleet_node_lag_bytes", "gauge", "bytes of its WAL that are not in the bucket"),
    ("litefleet_node_engine_restarts_total", "counter", "engines that ended and were restarted"),
    ("litefleet_node_sidecar_restarts_total", "counter", "sidecars that ended and were restarted"),
)


async def of_engines(
    nodes: Iterable[NodeStatus], clients: Mapping[str, httpx.AsyncClient]
) -> dict[str, str]:
    """What each engine that answers in time has to say, by tenant; `clients` by socket."""

    async def ask(node: NodeStatus) -> tuple[str, str | None]:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await clients[node.api_socket].get("http://node/metrics")
        except (httpx.HTTPError, TimeoutError):
            return node.tenant, None
        return node.tenant, answer.text if answer.status_code == 200 else None

    found = await asyncio.gather(*(ask(node) for node in nodes if node.serving))
    return {tenant: text for tenant, text in found if text is not None}


def of_host(
    nodes: Iterable[NodeStatus], engines: Mapping[str, str], gateway: Iterable[Sample] = ()
) -> str:
    """All of it in the text format of Prometheus, each family once. `gateway`: what the host's
    own has done."""
    families: dict[str, _Block] = {}
    for name, kind, help, _ in GATEWAY_METRICS:
        families[name] = _Block([f"# HELP {name} {help}", f"# TYPE {name} {kind}"])
    for name, given, number in gateway:
        [labels] = [each for family, _, _, each in GATEWAY_METRICS if family == name]
        pairs = ",".join(f'{key}="{value}"' for key, value in zip(labels, given, strict=True))
        families[name].samples.append(f"{name}{{{pairs}}} {number}")
    for name, kind, help in NODE_METRICS:
        families[name] = _Block([f"# HELP {name} {help}", f"# TYPE {name} {kind}"])
    for node in nodes:
        values = (
            int(node.serving),
            int(node.tenant in engines),
            node.epoch,
            node.lag.seconds,
            node.lag.bytes,
            node.engine_restarts,
            node.sidecar_restarts,
        )
        for (name, _, _), value in zip(NODE_METRICS, values, strict=True):
            if value is not None:
                families[name].samples.append(f'{name}{{tenant="{node.tenant}"}} {value}')
    for text in engines.values():
        _add(families, text)
    return "\n".join(line for block in families.values() for line in block.lines()) + "\n"


@dataclass(slots=True)
class _Block:
    """A family: what it is, and its samples."""

    head: list[str]
    samples: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [*self.head, *self.samples]


def _add(families: dict[str, _Block], text: str) -> None:
    block: _Block | None = None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            block = families.setdefault(line.split(" ", 3)[2], _Block([]))
            if not block.head:
                block.head = [line]
        elif line.startswith("#"):
            if block is not None and len(block.head) == 1:
                block.head.append(line)
        elif block is not None and line:
            block.samples.append(line)
