"""The API's OpenAPI document: complete, valid, and what the API really answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from node import Queue, RetryPolicy, Signal, Start, Unsigned, activity, webhook, workflow
from node.api import create_api
from node.api_openapi import openapi
from node.engine.application import collect
from node.engine.engine import Engine
from tests.integration.engine.harness import Proves, application, engine
from tests.integration.engine.openapi_checks import (
    Checked,
    Undeclared,
    check_document,
    declared_routes,
)


class Order(BaseModel):
    """What somebody wants."""

    item: str
    count: Annotated[int, Field(ge=1)] = 1


class Receipt(BaseModel):
    total: float


approved = Signal("approved", bool)
LINE = Queue("line")


@activity(retry=RetryPolicy(max_attempts=1))
async def fails() -> None:
    raise ValueError("too bad")


@workflow
async def sells(order: Order, note: str = "none") -> Receipt:
    """Sell something. It waits until that is approved.

    More words.
    """

    @workflow.query
    def open_orders(kind: str = "all") -> list[Order]:
        """The orders."""
        return [order]

    @workflow.update
    def change(count: int) -> int:
        order.count = count
        return count

    @workflow.signal
    def hint(text: str) -> None:
        pass

    workflow.stream("notes").publish(note)
    await workflow.receive(approved)
    return Receipt(total=order.count * 1.5)


@workflow
async def breaks() -> None:
    await fails()


@workflow
async def tells() -> str:
    event = workflow.external("paid")
    workflow.stream("tokens").publish(event.token)
    return str(await event)


@webhook("/orders", verify=Unsigned())
def ordered(request: Any) -> Start:
    return Start(sells, {"order": {"item": "tea"}})


def app() -> Any:
    things = (sells, breaks, tells, fails, approved, LINE, ordered)
    return collect("test", things, version="1")


def test_every_route_answers_as_the_document_says(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, way: Checked) -> None:
        async def ask(method: str, url: str, status: int = 200, **more: Any) -> Any:
            answer = await client.request(method, url, **more)
            assert answer.status_code == status, (method, url, answer.text)
            return answer

        async def post(url: str, body: Any = None, status: int = 200) -> Any:
            return (await ask("POST", url, status, json=body or {})).json()

        order = {"order": {"item": "tea"}}
        start = {"workflow": "sells", "input": order, "labels": {"customer": "acme"}}
        await post("/executions", {**start, "id": "a"}, 201)
        await post("/executions", {**start, "id": "a"}, 200)
        await post("/executions", {"workflow": "none"}, 404)
        await post("/executions", {"workflow": "sells", "input": {"order": 7}}, 422)
        await post(
            "/executions", {"workflow": "sells", "labels": {"a b": "c"}, "input": order}, 422
        )
        await post("/workflows/sells?id=b&label=customer=acme&queue=line", order, 201)
        broken = await post("/workflows/breaks?wait=10&id=c", {}, 201)
        assert broken["error"]["type"] == "ActivityFailed"
        await post("/workflows/tells?id=t", {}, 201)
        for url in ("", "?label=customer=acme&order=newest", "?status=failed", "?failures=false"):
            assert (await ask("GET", f"/executions{url}")).json()["items"]
        await ask("GET", "/executions?after=x", 422)
        await ask("GET", "/executions?label=none", 422)
        await ask("GET", "/counts?by=status&by=workflow")
        for more in (
            "",
            "/events",
            "/result",
            "/waiting",
            "/archive",
            "/streams",
            "/streams/notes",
        ):
            await ask("GET", f"/executions/a{more}")
        await ask("GET", "/executions/c/streams/none", 404)
        await ask("GET", "/executions/none", 404)
        await post("/executions/a/signals/hint", {"value": "x", "key": "1"}, 202)
        await post("/executions/a/signals/hint", {"value": "x", "key": "1"}, 200)
        await post("/executions/a/queries/open_orders", {"input": {"kind": "new"}})
        await post("/executions/a/queries/none", {}, 404)
        await post("/executions/a/updates/change", {"input": {"count": 3}})
        await post("/executions/a/updates/change", {"input": {"count": "x"}}, 422)
        await post("/executions/a/pause")
        await post("/executions/a/resume")
        await post("/executions/a/signals/approved", {"value": True}, 202)
        assert (await ask("GET", "/executions/a/result?wait=10")).json()["result"] == {"total": 4.5}
        await post("/executions/a/signals/approved", {"value": True}, 409)
        await post("/executions/a/resume", {}, 409)
        await post("/executions/a/retry", {}, 409)
        await post("/executions/c/retry")
        token = (await ask("GET", "/executions/t/streams/tokens")).json()["items"][0]["value"]
        await post(f"/external/{token}", {"value": "yes"})
        await post("/external/none", {}, 404)
        await post("/executions/b/cancel", {"reason": "no"})
        await post("/executions/b/terminate")
        await post("/bulk", {"action": "cancel", "filter": {"label": ["customer=acme"]}})
        await post("/bulk", {"action": "cancel"}, 422)
        await ask("GET", "/queues")
        await ask("GET", "/queues/line")
        await ask("GET", "/queues/none", 404)
        await post("/queues/line/pause")
        await post("/queues/line/resume")
        await post("/executions/a/fork", {"dry_run": True, "mode": "reuse"})
        await post("/executions/a/fork", {"mode": "reuse", "id": "fork"}, 201)
        await post("/executions/a/fork", {"mode": "reuse", "id": "fork"}, 200)
        await post("/executions/none/fork", {}, 404)
        taken = (await ask("GET", "/executions/c/archive?children=true")).json()
        await post("/executions/import", {"archive": taken, "id": "imported"}, 201)
        await post("/executions/import", {"archive": {}}, 422)
        await ask("GET", "/waiting")
        await ask("GET", "/versions")
        assert "litefleet_" in (await ask("GET", "/metrics")).text
        await ask("GET", "/log?limit=5")
        await post("/executions", {**start, "id": "pinned"}, 201)
        await post("/executions/pinned/pin")
        await post("/executions/pinned/unpin")
        schedule = {"workflow": "breaks", "every": 3600}
        await post("/schedules", {"id": "s", **schedule, "paused": True}, 201)
        await post("/schedules", {"id": "s", **schedule, "paused": True}, 200)
        await ask("GET", "/schedules")
        await ask("GET", "/schedules/s")
        await ask("GET", "/schedules/none", 404)
        await ask("PUT", "/schedules/s", json={"workflow": "breaks", "every": 7200})
        await post("/schedules/s/resume")
        await post("/schedules/s/pause")
        await post("/schedules/s/trigger", {"key": "k"})
        await post("/schedules/s/backfill", {"start": 0, "end": 3600})
        await ask("DELETE", "/schedules/s", json={})
        await ask("GET", "/webhooks")
        await post("/webhooks/orders", {}, 202)
        await ask("PUT", "/webhooks/orders", 405)
        await ask("GET", "/webhooks/none", 404)
        await post("/sql", {"sql": "SELECT * FROM executions"})
        await post("/sql", {"sql": "DELETE FROM executions"}, 422)
        await ask("GET", "/sql/schema")
        await ask("GET", "/workflows")
        await ask("GET", "/workflows/sells")
        await ask("GET", "/workflows/none", 404)
        await ask("GET", "/status")
        await ask("GET", "/retention")
        await post("/executions/c/hold", {"reason": "evidence"})
        await ask("DELETE", "/executions/c", 409, json={})
        await post("/executions/c/release")
        await ask("DELETE", "/executions/c", json={})
        await ask("DELETE", "/executions/none", 404, json={})
        await post("/retention/prune", {"dry_run": True})
        await post("/retention/prune")
        document = (await ask("GET", "/openapi.json")).json()
        check_document(document)

        missing = {
            f"{method} {route.path}"
            for route in declared_routes(way.api)
            for method in route.operation.methods
            if route.path != "/webhooks/{path:path}" or method == "POST"
        } - way.seen
        assert missing == set(), "no good answer of these was seen"

    run(tmp_path, test)


def test_each_workflow_is_an_operation_with_its_types(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, way: Checked) -> None:
        document = (await client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        sale = document["paths"]["/workflows/sells"]["post"]
        assert sale["operationId"] == "start_sells"
        assert sale["summary"] == "Sell something"
        given = sale["requestBody"]["content"]["application/json"]["schema"]
        assert given["required"] == ["order"]
        assert given["properties"]["note"]["default"] == "none"
        assert schemas[given["properties"]["order"]["$ref"].rpartition("/")[2]]["required"] == [
            "item"
        ]
        answer = sale["responses"]["201"]["content"]["application/json"]["schema"]
        assert answer["properties"]["result"]["$ref"].endswith("/Receipt")

        shown = (await client.get("/workflows/sells")).json()
        assert shown["description"].startswith("Sell something.")
        assert {one["name"]: one["input"]["type"] for one in shown["signals"]} == {
            "approved": "boolean",
            "hint": "string",
        }
        (query,) = shown["queries"]
        assert (query["name"], query["description"]) == ("open_orders", "The orders.")
        assert query["input"]["properties"]["kind"]["default"] == "all"
        assert query["result"]["items"] == {"$ref": "#/$defs/Order"}
        assert [one["name"] for one in shown["updates"]] == ["change"]

    run(tmp_path, test)


def test_an_answer_that_the_document_does_not_know_is_noticed(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, way: Checked) -> None:
        found = way.document["components"]["schemas"]["EngineStatus"]
        del found["properties"]["epoch"]
        with pytest.raises(Undeclared, match="epoch"):
            await client.get("/status")
        del way.document["paths"]["/executions"]["post"]["responses"]["404"]
        with pytest.raises(Undeclared, match="no such status"):
            await client.post("/executions", json={"workflow": "none"})

    run(tmp_path, test)


def test_a_route_without_a_declaration_is_noticed() -> None:
    async def plain(request: Request) -> JSONResponse:
        return JSONResponse({})

    with pytest.raises(Undeclared, match="plain"):
        declared_routes(Starlette(routes=[Route("/plain", plain)]))


def test_a_type_without_a_schema_leaves_the_others_theirs(tmp_path: Path) -> None:
    @workflow
    async def odd(what: type) -> None:
        pass

    async def main() -> None:
        async with engine(tmp_path, application(odd, breaks, fails)) as it:
            api = create_api(it)
            document = openapi(declared_routes(api), it.config.application)
            check_document(document)
            body = document["paths"]["/workflows/odd"]["post"]["requestBody"]
            assert body["content"]["application/json"]["schema"] == {"type": "object"}

    asyncio.run(main())


def run(path: Path, test: Any) -> None:
    async def main() -> None:
        async with engine(path, app(), barrier=Proves()) as it:
            assert isinstance(it, Engine)
            log = path / "engine.log"
            log.write_text("")
            way = Checked(create_api(it, log=log), it.config.application)
            async with httpx.AsyncClient(transport=way, base_url="http://node") as client:
                await test(client, way)

    asyncio.run(main())
