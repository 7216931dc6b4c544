"""OpenTelemetry, where the environment asks for it: spans of executions and attempts, metrics, and
the context in which activities make spans of their own.

Only `Telemetry.from_environment` decides whether anything of the SDK is imported.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from node.engine.context import ActivityInfo
from node.engine.engine import Engine
from node.engine.errors import EngineError, UnknownExecution
from node.engine.events import Event, Kind, Payload
from node.engine.observer import Observer, Watched
from node.metrics import Family
from node.outbox import GATHER, Outbox
from node.spans import Attributes, Span
from node.trace_ids import Born, Identities, Identity, born_of

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

SCOPE: Final = "litefleet"
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
#: Executions of which an observer remembers where they come from.
REMEMBERED: Final = 4096

#: Seconds that a collector has for what is left when an engine stops.
LAST_WORDS: Final = 2.0

SpanExport = Callable[[Sequence["ReadableSpan"]], Awaitable[bool]]
MetricExport = Callable[["MetricsData"], Awaitable[bool]]


class Telemetry:
    """What one engine tells by OpenTelemetry. Give its `observer` to the engine, `attach` that
    before it is opened, and `begin` once it is; `end` before it is closed.

    `spans` and `metrics` export, and say whether that worked; None exports nothing. `flush` sends
    the spans that activities have made themselves.
    """

    def __init__(
        self,
        *,
        lineage: str,
        resource: Resource,
        sampler: Sampler,
        spans: SpanExport | None,
        metrics: MetricExport | None,
        interval: float = 60.0,
        flush: Callable[[], object] | None = None,
        gather: float = GATHER,
    ) -> None:
        self._resource = resource
        self._sampler = sampler
        self._spans = spans
        self._metrics = metrics
        self._interval = interval
        self._flush = flush
        self._gather = gather
        self._engine: Engine | None = None
        self._outbox: Outbox | None = None
        self._telling: asyncio.Task[None] | None = None
        self._families: Callable[[], list[Family]] | None = None
        self.observer = _Watcher(lineage, self._history, self._began)
        self._attempts: dict[int, int] = {}

    @staticmethod
    def from_environment(
        environment: Mapping[str, str], *, tenant: str, lineage: str, epoch: int, application: str
    ) -> Telemetry | None:
        """As the standard variables say: nothing without an endpoint."""
        traces = _wanted(environment, "TRACES")
        metrics = _wanted(environment, "METRICS")
        if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (traces or metrics):
            return None
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            logger.warning(
                "%s is set, and OpenTelemetry is not installed (%s): pip install 'litefleet[otel]'",
                _ENDPOINT,
                error,
            )
            return None
        about = {
            "litefleet.tenant": tenant,
            "litefleet.lineage": lineage,
            "litefleet.epoch": epoch,
            "litefleet.application": application,
        }
        resource = resource_of(about, environment)
        provider = TracerProvider(resource=resource)
        if traces:
            # For the spans that activities make themselves.
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(provider)
        return Telemetry(
            lineage=lineage,
            resource=resource,
            sampler=provider.sampler,
            spans=in_thread(OTLPSpanExporter().export) if traces else None,
            metrics=in_thread(OTLPMetricExporter().export) if metrics else None,
            interval=int(environment.get(_INTERVAL, "60000")) / 1000,
            flush=provider.force_flush if traces else None,
        )

    def attach(self, engine: Engine) -> None:
        """The engine that it is about."""
        self._engine = engine

    def begin(self, families: Callable[[], list[Family]]) -> None:
        """The engine is open: go on sending. `families` gives its metrics."""
        assert self._engine is not None
        self._families = families
        if self._spans is not None:
            self._outbox = Outbox(self._engine, self._export, gather=self._gather)
            self._outbox.spans.began = self._attempts
            self._outbox.begin()
            self.observer.news = self._outbox.wake
        if self._metrics is not None:
            self._telling = asyncio.create_task(self._tell(), name="metrics")

    async def end(self) -> None:
        """Send what is left, as far as that is quick."""
        self.observer.news = _nothing
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                last: list[Awaitable[object]] = []
                if self._metrics is not None:
                    last.append(self._tell_once())
                if self._flush is not None:
                    last.append(_on_thread(self._flush))
                await asyncio.gather(*last)
        if self._outbox is not None:
            await self._outbox.close(LAST_WORDS)

    # Spans ------------------------------------------------------------------------------------

    async def _export(self, spans: Sequence[Span]) -> bool:
        assert self._spans is not None
        kept = [_readable(s, self._resource) for s in spans if self._is_sampled(s.identity, s.name)]
        return not kept or await self._spans(kept)

    def _is_sampled(self, identity: Identity, name: str) -> bool:
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        parent = None
        if identity.sampled is not None:
            outside = _context(identity.trace, identity.parent or 1, identity.sampled)
            parent = set_span_in_context(NonRecordingSpan(outside))
        # By the trace alone where the sampler goes by chance: one tree is one decision.
        decision: Any = self._sampler.should_sample(parent, identity.trace, name).decision
        return bool(decision.is_sampled())

    def _began(self, identity: Identity, info: ActivityInfo) -> None:
        """An attempt begins: spans that its code makes are below the attempt's."""
        from opentelemetry import context
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        if self._spans is None:
            return
        span = identity.attempt(info.step, info.occurrence, info.attempt)
        self._attempts[span] = int(time.time() * 1000)
        within = _context(identity.trace, span, self._is_sampled(identity, info.workflow))
        context.attach(set_span_in_context(NonRecordingSpan(within)))

    def _history(self, id: str) -> list[Event]:
        try:
            return [] if self._engine is None else self._engine.events(id)
        except UnknownExecution:
            return []

    # Metrics ----------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._tell_once()

    async def _tell_once(self) -> None:
        assert self._metrics is not None
        assert self._families is not None
        with suppress(EngineError):
            try:
                if not await self._metrics(metrics_data(self._families(), self._resource)):
                    logger.warning("the metrics were not taken; the next ones hold them too")
            except EngineError:
                raise
            except Exception:
                logger.exception("the metrics could not be sent")


class _Watcher(Observer):
    """Knows where executions come from, as attempts need it before anything is sent."""

    def __init__(
        self,
        lineage: str,
        history: Callable[[str], list[Event]],
        began: Callable[[Identity, ActivityInfo], None],
    ) -> None:
        self._born: OrderedDict[str, Born] = OrderedDict()
        self._identities = Identities(lineage, history, self._born.get)
        self._began = began
        self.news: Callable[[], None] = _nothing

    def execution_started(self, execution: Watched) -> None:
        self._born[execution.id] = born_of(execution)
        if len(self._born) > REMEMBERED:
            self._born.popitem(last=False)

    def execution_continued(self, execution: Watched) -> None:
        self.execution_started(execution)

    def execution_closed(self, execution: Watched, kind: Kind, payload: Payload, at: int) -> None:
        self._born.pop(execution.id, None)

    def attempt_began(self, execution: Watched, info: ActivityInfo) -> None:
        # One that is transactional is over by now, and has no heart to beat.
        if info.pulse is not None:
            self._began(self._identities.of_watched(execution), info)

    def committed(self, events: int, seconds: float) -> None:
        self.news()


def resource_of(about: Mapping[str, object], environment: Mapping[str, str]) -> Resource:
    """What everything that is sent is said to be from."""
    from opentelemetry.sdk.resources import Resource

    named = "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    known: dict[str, Any] = dict(about)
    if "OTEL_SERVICE_NAME" not in environment and not named:
        known["service.name"] = "litefleet"
    return Resource.create(known)


def in_thread(export: Callable[[Any], Any]) -> Callable[[Any], Awaitable[bool]]:
    """An exporter's function, run on a thread of its own; whether it succeeded."""

    async def exported(what: Any) -> bool:
        try:
            result = await _on_thread(lambda: export(what))
        except Exception:
            logger.exception("OpenTelemetry's exporter failed")
            return False
        return bool(result.value == 0)

    return exported


async def _on_thread(function: Callable[[], Any]) -> Any:
    """Its result. Nobody waits for the thread when the process ends: a collector that does not
    answer must not hold up a move."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result, problem = None, None
        try:
            result = function()
        except Exception as error:
            problem = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="otel", daemon=True).start()
    return await done


def metrics_data(families: Sequence[Family], resource: Resource) -> MetricsData:
    """Families as OpenTelemetry has them, under the same names."""
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Histogram,
        HistogramDataPoint,
        Metric,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    opened = next(f for f in families if f.metric.name == "litefleet_started_at_seconds")
    since = round(opened.values.get((), 0.0) * 1e9)
    whole = AggregationTemporality.CUMULATIVE
    shown = []
    for family in families:
        metric = family.metric
        data: Sum | Gauge | Histogram
        if metric.kind == "histogram":
            points = [
                HistogramDataPoint(
                    attributes=dict(zip(metric.labels, labels, strict=True)),
                    start_time_unix_nano=since,
                    time_unix_nano=now,
                    count=histogram.count,
                    sum=histogram.total,
                    bucket_counts=list(histogram.counts),
                    explicit_bounds=histogram.bounds,
                    # Not kept; the format can do without.
                    min=cast(float, None),
                    max=cast(float, None),
                )
                for labels, histogram in family.histograms.items()
            ]
            data = Histogram(points, whole)
        else:
            numbers = [
                NumberDataPoint(dict(zip(metric.labels, labels, strict=True)), since, now, value)
                for labels, value in family.values.items()
            ]
            counts = metric.kind == "counter"
            data = Sum(numbers, whole, is_monotonic=True) if counts else Gauge(numbers)
        shown.append(Metric(metric.name, metric.help, None, data))
    scope = ScopeMetrics(InstrumentationScope(SCOPE), shown, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    from opentelemetry.sdk.trace import Event as SpanEvent
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, Status, StatusCode

    identity = span.identity
    events = [_event(SpanEvent, note.name, note.attributes, note.at) for note in span.notes]
    status = Status(StatusCode.OK)
    if span.error is not None:
        type, message = span.error
        status = Status(StatusCode.ERROR, f"{type}: {message}")
        about: Attributes = {"exception.type": type, "exception.message": message}
        events.append(_event(SpanEvent, "exception", about, span.ended_at))
    remote = identity.remote and span.span == identity.span
    return ReadableSpan(
        span.name,
        context=_context(identity.trace, span.span, True),
        parent=None
        if span.parent is None
        else _context(identity.trace, span.parent, True, remote=remote),
        resource=resource,
        attributes=span.attributes,
        events=events,
        links=[Link(_linked(link)) for link in span.links],
        status=status,
        start_time=span.began_at * 1_000_000,
        end_time=span.ended_at * 1_000_000,
        instrumentation_scope=InstrumentationScope(SCOPE),
    )


def _event(make: Any, name: str, attributes: Attributes, at: int) -> Any:
    return make(name, attributes, at * 1_000_000)


def _context(trace: int, span: int, sampled: bool, *, remote: bool = False) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(trace, span, is_remote=remote, trace_flags=flags)


def _linked(traceparent: str) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")
    sampled = bool(int(flags, 16) & 1)
    return _context(int(trace, 16), int(span, 16), sampled, remote=True)


def _wanted(environment: Mapping[str, str], what: str) -> bool:
    if environment.get(f"OTEL_{what}_EXPORTER", "otlp") != "otlp":
        return False
    return bool(
        environment.get(_ENDPOINT) or environment.get(f"OTEL_EXPORTER_OTLP_{what}_ENDPOINT")
    )


def _nothing() -> None:
    pass
