"""Forks, exports and imports over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx

from node.engine.engine import Engine
from tests.integration.engine.test_engine_api import Answers, serve


def test_forking_over_http(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        await client.post(
            "/executions", json={"workflow": "doubled", "id": "a", "input": {"number": 4}}
        )
        await engine.result("a", wait=10)
        body = {"id": "b", "at": "double"}
        dry = await client.post("/executions/a/fork", json={**body, "dry_run": True})
        assert dry.status_code == 200
        assert dry.json()["steps"] == [
            {
                "name": "double",
                "occurrence": 1,
                "kind": "activity",
                "action": "runs",
                "why": "it has no outcome that stands",
                "certain": True,
            }
        ]
        assert dry.json()["mode"] == "exact"
        made = await client.post("/executions/a/fork", json=body)
        assert made.status_code == 201
        assert made.json()["durable"] is True
        assert made.json()["forked_from"] == {"id": "a", "mode": "exact", "sequence": 2}
        assert (await client.post("/executions/a/fork", json=body)).status_code == 200
        assert (await engine.result("b", wait=10)).result == {"number": 8}
        shown = (await client.get("/executions/b")).json()
        assert shown["forked_from"]["id"] == "a"
        items = (await client.get("/executions")).json()["items"]
        assert [one["forked_from"] is None for one in items] == [True, False]
        reused = {"mode": "reuse", "input": {"number": 4}, "paused": True}
        made = await client.post("/executions/a/fork", json=reused)
        assert (made.status_code, made.json()["paused"]) == (201, True)
        for asked, status, kind in (
            ({"at": "other"}, 409, "fork_refused"),
            ({"mode": "record"}, 409, "fork_refused"),
            ({"mode": "other"}, 422, "bad_request"),
            ({"mode": "reuse", "input": {"x": 1}}, 422, "payload_error"),
            ({"id": "a", "at": "double"}, 409, "execution_conflict"),
        ):
            answer = await client.post("/executions/a/fork", json=asked)
            assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
            assert answer.json()["error"]["hint"]
        assert (await client.post("/executions/z/fork", json={})).status_code == 404

    serve(tmp_path, test, barrier=Answers())


def test_exporting_and_importing_over_http(tmp_path: Path) -> None:
    async def test(client: httpx.AsyncClient, engine: Engine) -> None:
        body = {"workflow": "fails", "id": "a", "ack": "async"}
        await client.post("/executions", json=body)
        await engine.result("a", wait=10)
        archive = (await client.get("/executions/a/archive", params={"children": True})).json()
        assert archive["children"] == []
        asked = {"archive": archive, "id": "r", "ack": "async"}
        dry = await client.post("/executions/import", json={**asked, "dry_run": True})
        assert (dry.json()["mode"], dry.json()["ends"]) == ("record", "nothing: it is a record")
        record = await client.post("/executions/import", json=asked)
        assert (record.status_code, record.json()["status"]) == (201, "failed")
        assert (await client.post("/executions/import", json=asked)).status_code == 200
        made = await client.post(
            "/executions/import", json={"archive": archive, "mode": "exact", "ack": "async"}
        )
        assert (made.status_code, made.json()["paused"]) == (201, True)
        assert made.json()["id"].startswith("a-")
        before = engine.sequence
        archive["rows"][0]["payload"] = "other"
        bad = await client.post("/executions/import", json={"archive": archive, "ack": "async"})
        assert (bad.status_code, bad.json()["error"]["type"]) == (422, "archive_refused")
        # Nothing could prove it, and nothing is done.
        durable = await client.post("/executions/a/fork", json={})
        assert durable.json()["error"]["type"] == "durability_unavailable"
        assert engine.sequence == before

    serve(tmp_path, test)
