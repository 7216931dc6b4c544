"""The engine's metrics for Prometheus: nothing of it is loaded before somebody asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.engine.engine import Engine
from node.engine.tally import Histogram
from node.metrics import Family, families_of

#: Seconds between two looks at how late the loop is, and for which the longest is remembered.
LOOK_EVERY: Final = 0.5
LOOK_BACK: Final = 30.0
#: Seconds after the last question at which nobody looks any more.
PATIENCE: Final = 600.0


class LoopLag:
    """How late the event loop is with what is due: looked at from the first question on."""

    def __init__(self) -> None:
        self._asked = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._late: list[tuple[float, float]] = []

    def longest(self) -> float:
        """The longest of late, in seconds."""
        loop = asyncio.get_running_loop()
        self._asked = loop.time()
        if self._looking is None or self._looking.done():
            self._looking = loop.create_task(self._look(loop))
        return max((late for _, late in self._late), default=0.0)

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        while loop.time() - self._asked < PATIENCE:
            due = loop.time() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            now = loop.time()
            self._late.append((now, now - due))
            self._late = [one for one in self._late if one[0] > now - LOOK_BACK]
        self._late.clear()


class MetricsApi:
    """One route."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.opened_at = time.time()
        self.lag = LoopLag()

    def routes(self) -> list[Route]:
        """There is /metrics."""
        return [Route("/metrics", self.metrics, methods=["GET"])]

    def families(self) -> list[Family]:
        """What the engine's metrics are now."""
        return families_of(self.engine, opened_at=self.opened_at, loop_lag=self.lag.longest())

    async def metrics(self, request: Request) -> Response:
        """In the text format of Prometheus; every sample says whose it is."""
        text, media_type = exposed(self.families(), self.engine.config.tenant)
        return Response(text, media_type=media_type)


def exposed(families: Sequence[Family], tenant: str) -> tuple[bytes, str]:
    """Families in the text format of Prometheus, and what that is called."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    class Registry:
        def collect(self) -> Iterator[Any]:
            return (_family(one, tenant) for one in families)

    return generate_latest(Registry()), CONTENT_TYPE_LATEST


def _family(family: Family, tenant: str) -> Any:
    from prometheus_client import core

    metric = family.metric
    labels = ("tenant", *metric.labels)
    if metric.kind == "histogram":
        shown = core.HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for values, histogram in family.histograms.items():
            shown.add_metric((tenant, *values), list(_buckets(histogram)), histogram.total)
        return shown
    kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=labels)
    for values, value in family.values.items():
        plain.add_metric((tenant, *values), value)
    return plain


def _buckets(histogram: Histogram) -> Iterator[tuple[str, int]]:
    so_far = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        so_far += count
        yield str(bound), so_far
