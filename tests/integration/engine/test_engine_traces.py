"""Spans of executions and attempts: once, the same in every life, and all of them.

`traces_scenario` is killed at every commit, and loses its machines, with the others in four ways.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from node import RetryPolicy, activity, workflow
from node.api import create_api
from node.api_metrics import MetricsApi
from node.engine.application import Application
from node.engine.durability import Outcome, Proof
from node.engine.engine import Engine
from node.engine.events import Kind, Reuse, traced
from node.engine.inspection import inspect_log
from node.otel import Telemetry, in_thread
from node.outbox import Outbox
from node.spans import Span, Spans
from tests.integration.engine import traces_scenario
from tests.integration.engine.harness import (
    Proves,
    application,
    engine,
    go,
    until,
)
from tests.integration.engine.lives import Life, forks

SCENARIO = "tests.integration.engine.traces_scenario"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00"


class Collected:
    """What was exported, by both of the SDK's ways."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.memory = InMemorySpanExporter()
        self.metrics: list[MetricsData] = []
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.tracer = self.provider.get_tracer("shop")
        self.sampler = sampler or ParentBased(ALWAYS_ON)

    async def export(self, spans: Sequence[ReadableSpan]) -> bool:
        return self.memory.export(spans).value == 0

    async def take(self, metrics: MetricsData) -> bool:
        self.metrics.append(metrics)
        return True

    async def live(
        self,
        path: Path,
        app: Application,
        drive: Callable[[Engine], Awaitable[None]],
        **options: Any,
    ) -> None:
        """One life of an engine that tells everything."""
        telemetry = Telemetry(
            lineage="line",
            resource=Resource.create({}),
            sampler=self.sampler,
            spans=self.export,
            metrics=self.take,
            gather=0,
        )
        it = engine(path, app, observer=telemetry.observer, **options)
        telemetry.attach(it)
        async with it:
            telemetry.begin(MetricsApi(it).families)
            await drive(it)
            await telemetry.end()

    def spans(self) -> dict[str, ReadableSpan]:
        """By name, or by name and attempt."""
        found: dict[str, ReadableSpan] = {}
        for span in self.memory.get_finished_spans():
            about = span.attributes or {}
            attempt = about.get("litefleet.attempt")
            name = span.name if attempt is None else f"{span.name}/{attempt}"
            assert name not in found, name
            found[name] = span
        return found


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.mark.parametrize("mode", [{}, {"forced_replay": True}, {"durability": "every_commit"}])
def test_a_trace_goes_through_requests_lives_and_children(
    tmp_path: Path, mode: dict[str, Any]
) -> None:
    collected = Collected()

    @activity(retry=RetryPolicy(initial=0.001))
    async def fetch() -> None:
        with collected.tracer.start_as_current_span(f"GET {activity.info().attempt}"):
            if activity.info().attempt == 1:
                raise ValueError("not yet")

    @activity
    def on_a_thread() -> None:
        with collected.tracer.start_as_current_span("on a thread"):
            pass

    @workflow
    async def part() -> None:
        await on_a_thread()
        raise ValueError("too bad")

    @workflow
    async def order() -> None:
        await fetch()
        try:
            await part.child()
        except Exception:
            await workflow.sleep(0.01)
        await workflow.receive("go")

    app = application(fetch, on_a_thread, part, order)

    async def first(it: Engine) -> None:
        transport = httpx.ASGITransport(create_api(it))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            answer = await client.post(
                "/executions",
                json={"workflow": "order", "id": "o", "ack": "async"},
                headers={"traceparent": TRACEPARENT},
            )
            assert answer.status_code == 201
        await until(lambda: [w.kind for w in it.waiting("o")] == ["signal"])

    async def second(it: Engine) -> None:
        await it.signal("o", "go", trace=UNSAMPLED)
        await it.result("o", wait=10)

    async def test() -> None:
        await collected.live(tmp_path, app, first, barrier=Proves(), epoch=1, **mode)
        assert "order" not in collected.spans()
        await collected.live(tmp_path, app, second, barrier=Proves(), epoch=2, **mode)

    go(test())
    spans = collected.spans()
    assert set(spans) == {
        *("order", "part", "fetch/1", "fetch/2", "on_a_thread/1"),
        *("GET 1", "GET 2", "on a thread"),
    }
    for span in spans.values():
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACEPARENT.split("-")[1]
    top, below = spans["order"], spans["part"]
    assert top.parent is not None
    assert f"{top.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert top.parent.is_remote
    for child, parent in [
        ("part", "order"),
        ("fetch/1", "order"),
        ("fetch/2", "order"),
        ("on_a_thread/1", "part"),
        ("GET 1", "fetch/1"),
        ("GET 2", "fetch/2"),
        ("on a thread", "on_a_thread/1"),
    ]:
        assert parent_of(spans[child]) == id_of(spans[parent]), child
        assert (spans[child].start_time or 0) + 1_000_000 > (spans[parent].start_time or 0)
    assert below.status.status_code is StatusCode.ERROR
    assert below.status.description == "ValueError: too bad"
    assert spans["fetch/1"].status.status_code is StatusCode.ERROR
    assert top.status.status_code is StatusCode.OK
    names = [event.name for event in top.events]
    assert names == ["child", "child failed", "timer", "timer fired", "signal"]
    assert [f"{link.context.trace_id:032x}" for link in top.links] == [UNSAMPLED.split("-")[1]]
    assert (top.attributes or {})["litefleet.outcome"] == "completed"
    inspect_log(tmp_path / "log.db")


def test_runs_retries_and_used_ids_are_spans_of_their_own(tmp_path: Path) -> None:
    collected = Collected()
    broken = True

    @activity(retry=RetryPolicy(max_attempts=1))
    async def fragile() -> None:
        if broken:
            raise ValueError("too bad")

    @activity
    async def endless() -> None:
        await asyncio.Event().wait()

    @workflow
    async def work(run: int = 1) -> None:
        if run == 1:
            workflow.continue_as_new(2)
        other = asyncio.ensure_future(endless())
        await workflow.sleep(0.001)
        await fragile()
        other.cancel()

    app = application(fragile, endless, work)

    async def drive(it: Engine) -> None:
        nonlocal broken
        await it.start("work", {}, id="w")
        await it.result("w", wait=10)
        broken = False
        await it.control.retry("w")
        await it.result("w", wait=10)
        await it.start("work", {"run": 3}, id="w", reuse=Reuse.IF_CLOSED)
        await it.result("w", wait=10)

    go(collected.live(tmp_path, app, drive))
    spans = collected.memory.get_finished_spans()
    assert len({id_of(span) for span in spans}) == len(spans)
    works = [span for span in spans if span.name == "work"]
    outcomes = [(span.attributes or {})["litefleet.outcome"] for span in works]
    assert outcomes == ["continued", "failed", "completed", "completed"]
    traces = [span.context.trace_id for span in works if span.context is not None]
    assert traces[0] == traces[1] == traces[2] != traces[3]
    links = [[link.context.span_id for link in span.links] for span in works]
    assert links == [[], [id_of(works[0])], [id_of(works[1])], []]
    attempts = [
        (span.name, (span.attributes or {})["litefleet.outcome"], parent_of(span))
        for span in spans
        if span.name != "work"
    ]
    assert attempts == [
        ("fragile", "failed", id_of(works[1])),
        ("endless", "abandoned", id_of(works[1])),
        ("fragile", "completed", id_of(works[2])),
        ("endless", "cancelled", id_of(works[2])),
        ("fragile", "completed", id_of(works[3])),
        ("endless", "cancelled", id_of(works[3])),
    ]


@pytest.mark.parametrize(
    ("sampler", "trace", "kept"),
    [
        (ParentBased(ALWAYS_ON), UNSAMPLED, 0),
        (ParentBased(ALWAYS_ON), None, 3),
        (TraceIdRatioBased(0), None, 0),
    ],
)
def test_what_is_not_sampled_is_not_sent(
    tmp_path: Path, sampler: Sampler, trace: str | None, kept: int
) -> None:
    collected = Collected(sampler)

    @activity
    async def one() -> None:
        with collected.tracer.start_as_current_span("own"):
            pass

    @workflow
    async def work() -> None:
        await one()

    async def drive(it: Engine) -> None:
        await it.start("work", {}, id="w", trace=trace)
        await it.result("w", wait=10)

    go(collected.live(tmp_path, application(one, work), drive))
    assert len(collected.memory.get_finished_spans()) == kept


def test_without_a_trace_the_log_has_none(tmp_path: Path) -> None:
    @workflow
    async def work() -> None:
        await workflow.receive("go")

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            transport = httpx.ASGITransport(create_api(it))
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                for id, header in [("a", None), ("b", "nonsense"), ("c", TRACEPARENT)]:
                    headers = {} if header is None else {"traceparent": header}
                    body = {"workflow": "work", "id": id, "ack": "async"}
                    await client.post("/executions", json=body, headers=headers)
                    path = f"/executions/{id}/signals/go"
                    await client.post(path, json={"ack": "async"}, headers=headers)
                    await it.result(id, wait=10)
            kinds = {id: [event.kind for event in it.events(id)] for id in "abc"}
            assert Kind.ORIGIN not in kinds["a"] + kinds["b"]
            assert Kind.ORIGIN in kinds["c"]
            signals = [e.payload for id in "abc" for e in it.events(id) if e.kind is Kind.SIGNAL]
            assert [traced(payload) for payload in signals] == [None, None, TRACEPARENT]
            assert signals[0] == '{"v":null}'
        inspect_log(tmp_path / "log.db")

    go(test())


def test_nothing_is_sent_before_it_is_proven_and_all_of_it_once_it_can_be(tmp_path: Path) -> None:
    sent: list[Span] = []
    works = False

    class Slow:
        may = asyncio.Event()

        async def prove(self, sequence: int) -> Proof:
            await self.may.wait()
            return Proof(Outcome.DURABLE)

    async def export(spans: Sequence[Span]) -> bool:
        if works:
            sent.extend(spans)
        return works

    @workflow
    async def work() -> None: ...

    async def test() -> None:
        nonlocal works
        slow = Slow()
        async with engine(tmp_path, application(work), barrier=slow) as it:
            outbox = Outbox(it, export, gather=0)
            outbox.begin()
            works = True
            await it.start("work", {}, id="a")
            await it.result("a", wait=10)
            outbox.wake()
            await asyncio.sleep(0.05)
            assert sent == []
            slow.may.set()
            await until(lambda: len(sent) == 1)
            works = False
            await it.start("work", {}, id="b")
            await it.result("b", wait=10)
            outbox.wake()
            await asyncio.sleep(0.05)
            await outbox.close(within=0.01)
        works = True
        # What could not be sent waits in the log for the next engine.
        async with engine(tmp_path, application(work), barrier=slow) as it:
            outbox = Outbox(it, export, gather=0)
            outbox.begin()
            await until(lambda: len(sent) == 2)
            await outbox.close()
        assert [span.attributes["litefleet.execution"] for span in sent] == ["a", "b"]

    go(test())


def test_a_log_that_is_told_for_the_first_time_is_told_from_now_on(tmp_path: Path) -> None:
    sent: list[Span] = []

    async def export(spans: Sequence[Span]) -> bool:
        sent.extend(spans)
        return True

    @workflow
    async def work() -> None:
        await workflow.receive("go")

    async def test() -> None:
        async with engine(tmp_path, application(work)) as it:
            for id in "ab":
                await it.start("work", {}, id=id)
            await it.signal("a", "go")
            await it.result("a", wait=10)
        async with engine(tmp_path, application(work)) as it:
            outbox = Outbox(it, export, gather=0)
            outbox.begin()
            await it.signal("b", "go")
            await it.result("b", wait=10)
            await outbox.close()
            (span,) = sent
            assert span.attributes["litefleet.execution"] == "b"
            assert span.began_at == it.events("b")[0].at
        inspect_log(tmp_path / "log.db")

    go(test())


def test_spans_are_the_same_wherever_reading_begins(tmp_path: Path) -> None:
    """A life that goes on from any mark makes the spans that one life would have made."""

    async def test() -> None:
        app = traces_scenario.APP
        async with engine(tmp_path, app) as it:
            await it.start("family", {}, id="f", trace=TRACEPARENT)
            await it.signal("f", "go", 7)
            for id in ("f", "alone"):
                await it.result(id, wait=10)
            events = it.events_after(0, 10_000)
            assert [event.sequence for event in events] == list(range(1, it.sequence + 1))
            whole = Spans("line", it.events)
            wanted = [span for event in events for span in whole.feed(event)]
            assert len(wanted) == 7 + 26
            for cut in range(len(events)):
                parts = Spans("line", it.events), Spans("line", it.events)
                found = [
                    span for event in events for span in parts[event.sequence > cut].feed(event)
                ]
                assert found == wanted, cut

    go(test())


def test_metrics_are_told_under_the_same_names(tmp_path: Path) -> None:
    collected = Collected()

    @workflow
    async def work() -> None: ...

    async def drive(it: Engine) -> None:
        await it.start("work", {}, id="w")
        await it.result("w", wait=10)

    go(collected.live(tmp_path, application(work), drive))
    (data,) = collected.metrics
    metrics = {m.name: m for m in data.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = metrics["litefleet_executions_started_total"].data.data_points
    assert (dict(point.attributes or {}), point.value) == ({"workflow": "work"}, 1)  # type: ignore[union-attr]
    (commits,) = metrics["litefleet_commit_seconds"].data.data_points
    assert sum(commits.bucket_counts) == commits.count > 0  # type: ignore[union-attr]


def test_what_is_sent_can_be_encoded(tmp_path: Path) -> None:
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    collected = Collected()

    @workflow
    async def work() -> None:
        await workflow.sleep(0.001)

    async def drive(it: Engine) -> None:
        await it.start("work", {}, id="w", trace=TRACEPARENT)
        await it.result("w", wait=10)

    go(collected.live(tmp_path, application(work), drive))
    spans = encode_spans(collected.memory.get_finished_spans())
    (span,) = spans.resource_spans[0].scope_spans[0].spans
    assert span.trace_id.hex() == TRACEPARENT.split("-")[1]
    assert span.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    encoded = encode_metrics(collected.metrics[0]).resource_metrics[0].scope_metrics[0].metrics
    assert len(encoded) > 20


def test_a_checker_notices_what_is_wrong(tmp_path: Path) -> None:
    life = Life(tmp_path / "log.db", tmp_path / "ledger", SCENARIO, 0)
    assert forks().live(life).status == 0
    ledger = tmp_path / "ledger"
    lines = ledger.read_text().splitlines()
    traces_scenario.check(tmp_path / "log.db", ledger)
    twins = {
        "a span twice": [*lines, lines[0]],
        "two ids": [*lines, lines[0].replace(lines[0].split()[1], "abc")],
        "without a span": lines[1:],
        "not there": [line for line in lines if " - - - " not in line][:5],
    }
    for words, twin in twins.items():
        ledger.write_text("\n".join(twin) + "\n")
        with pytest.raises(AssertionError, match=words):
            traces_scenario.check(tmp_path / "log.db", ledger)


def test_the_global_tracer_is_left_alone_without_an_endpoint() -> None:
    about: dict[str, Any] = {"tenant": "t", "lineage": "l", "epoch": 1, "application": "a"}
    assert Telemetry.from_environment({}, **about) is None
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}
    assert Telemetry.from_environment(off, **about) is None
    none = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
    }
    assert Telemetry.from_environment(none, **about) is None
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)


def test_without_the_extra_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    about: dict[str, Any] = {"tenant": "t", "lineage": "l", "epoch": 1, "application": "a"}
    assert Telemetry.from_environment(environment, **about) is None
    assert "pip install 'litefleet[otel]'" in caplog.text


def test_a_collector_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.otel.LAST_WORDS", 0.2)
    release = threading.Event()
    calls: list[str] = []

    def hangs(what: object) -> object:
        calls.append("called")
        release.wait(20)
        raise AssertionError

    @workflow
    async def work() -> None: ...

    async def test() -> None:
        telemetry = Telemetry(
            lineage="line",
            resource=Resource.create({}),
            sampler=ParentBased(ALWAYS_ON),
            spans=in_thread(hangs),
            metrics=in_thread(hangs),
            flush=lambda: hangs(None),
            gather=0,
        )
        it = engine(tmp_path, application(work), observer=telemetry.observer)
        telemetry.attach(it)
        async with it:
            telemetry.begin(MetricsApi(it).families)
            await it.start("work", {}, id="w")
            await it.result("w", wait=10)
            await until(lambda: bool(calls))
            began = asyncio.get_running_loop().time()
            await telemetry.end()
            assert asyncio.get_running_loop().time() - began < 10
        assert len(calls) == 3

    go(test())
    release.set()
