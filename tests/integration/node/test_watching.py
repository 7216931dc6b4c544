"""What there is to see of a node from outside: its log, its metrics, its traces."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fleet.agent.metrics import of_engines, of_host
from node.order import NodeStatus

from .conftest import Scenario, TestHost

OnHost = Callable[[Scenario], None]


def test_the_log_of_an_engine_is_read_over_http(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start()
        status = await node.serving()
        await node.begin("job", steps=1)
        await node.result("job")
        answer = (await node.call("GET", "/log", params={"execution": "job"})).json()
        (line,) = answer["items"]
        assert (line["message"], line["logger"], line["level"]) == (
            "counted to 1",
            "workflow",
            "info",
        )
        assert (line["tenant"], line["epoch"], line["workflow"]) == ("t", status.epoch, "count")
        later = (await node.call("GET", "/log", params={"after": answer["next"]})).json()
        assert later["items"] == []
        none = await node.call("GET", "/log", params={"level": "error"})
        assert none.json()["items"] == []
        assert (await node.call("GET", "/log", params={"after": "x"})).status_code == 422
        lines = (node.folder / "engine.log").read_text().splitlines()
        assert [json.loads(line)["message"] for line in lines] == ["counted to 1"]

    on_host(scenario)


def test_an_engine_tells_its_metrics(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(durability="before_effects")
        await node.serving()
        assert (await node.begin("job", steps=2)).json()["durable"]
        await node.result("job")
        text = (await node.call("GET", "/metrics")).text
        assert 'litefleet_executions_started_total{tenant="t",workflow="count"} 1.0' in text
        assert 'litefleet_barriers_total{outcome="durable",tenant="t"}' in text
        silent = NodeStatus(tenant="s", serving=True, api_socket=str(node.sockets / "none"))
        nodes = [await node.status(), silent]
        sockets = [one.api_socket for one in nodes]
        clients = {
            socket: httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket))
            for socket in sockets
        }
        whole = of_host(nodes, await of_engines(nodes, clients))
        for client in clients.values():
            await client.aclose()
        assert 'litefleet_node_answered{tenant="t"} 1' in whole
        assert 'litefleet_node_answered{tenant="s"} 0' in whole
        assert 'litefleet_attempts_total{activity="mark",outcome="completed",tenant="t"} 2' in whole

    on_host(scenario)


class Collector:
    """Takes what is sent by OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        taken = self.taken = dict[str, list[bytes]](traces=[], metrics=[])

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                taken[self.path.rpartition("/")[2]].append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Any]:
        found = []
        for body in self.taken["traces"]:
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found


def test_an_engine_sends_traces_and_metrics(on_host: OnHost) -> None:
    collector = Collector()
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }

    async def scenario(host: TestHost) -> None:
        first = await host.start(env=env)
        await first.serving()
        await first.begin("job", steps=2)
        await first.result("job")
        while not collector.spans():
            await asyncio.sleep(0.05)
        await first.begin("long", steps=3, pause=1.0)
        while len(host.effects()) < 3:
            await asyncio.sleep(0.02)
        first.kill_all(await first.status())
        second = await host.start(env=env)
        await second.serving()
        await second.result("long")
        await second.remote.drain()
        await second.ended()

    on_host(scenario)
    collector.server.shutdown()
    collector.server.server_close()
    spans = collector.spans()
    executions = [span for span in spans if span.name == "count"]
    assert len(executions) == 2
    assert len({span.span_id for span in spans}) == len(spans)
    assert {span.parent_span_id for span in spans} == {b""} | {one.span_id for one in executions}
    names = sorted(span.name for span in spans)
    assert names == sorted(["count"] * 2 + ["keep"] * 5 + ["mark"] * 5)
    # The one that was lost with its host, too, from its real start to its end.
    long = max(executions, key=lambda span: int(span.end_time_unix_nano))
    assert long.end_time_unix_nano - long.start_time_unix_nano > 2_000_000_000
    metrics = ExportMetricsServiceRequest.FromString(collector.taken["metrics"][-1])
    shown = metrics.resource_metrics[0].scope_metrics[0].metrics
    assert "litefleet_commit_seconds" in {metric.name for metric in shown}


def test_a_setting_of_the_log_that_cannot_be_is_told(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(env={"LITEFLEET_LOG_FORMAT": "xml"})
        status = await node.until(lambda status: bool(status.incidents), "told")
        assert "LITEFLEET_LOG_FORMAT is 'xml'; it is json or text" in status.incidents[0]

    on_host(scenario)
