"""What there is to see of a node from outside: its log, its metrics, its traces."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

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


def test_a_setting_of_the_log_that_cannot_be_is_told(on_host: OnHost) -> None:
    async def scenario(host: TestHost) -> None:
        node = await host.start(env={"LITEFLEET_LOG_FORMAT": "xml"})
        status = await node.until(lambda status: bool(status.incidents), "told")
        assert "LITEFLEET_LOG_FORMAT is 'xml'; it is json or text" in status.incidents[0]

    on_host(scenario)
