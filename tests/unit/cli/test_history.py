"""`litefleet history` against a coordinator in memory."""

from __future__ import annotations

import json
import sys

import httpx
import pytest

from fleet import cli
from fleet.cli import connection
from fleet.client import Client

OPERATION = {
    "n": 7,
    "id": "start/acme/2",
    "kind": "failover",
    "tenant": "acme",
    "by": "coordinator",
    "why": "host lost",
    "began_at": 1.0,
    "ended_at": 18.5,
    "epoch_before": 1,
    "epoch_after": 2,
    "from_host": "host-1",
    "to_host": "host-2",
    "steps": [{"name": "detect", "seconds": 16.0}, {"name": "start", "seconds": 1.5}],
}


def run(monkeypatch: pytest.MonkeyPatch, *words: str, pages: list[list[object]]) -> list[str]:
    """Run the command; the queries that it sent."""
    queries = []

    def answer(request: httpx.Request) -> httpx.Response:
        queries.append(str(request.url.query, "ascii"))
        if not pages:
            raise KeyboardInterrupt
        return httpx.Response(200, json={"items": pages.pop(0)})

    def client(name: str, address: str | None) -> Client:
        return Client("http://fleet", "t", httpx.MockTransport(answer))

    monkeypatch.setattr(connection, "connect", client)
    monkeypatch.setattr(sys, "argv", ["litefleet", "history", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return queries


def test_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    queries = run(monkeypatch, "acme", "--kind", "failover", pages=[[OPERATION]])
    assert queries == ["tenant=acme&kind=failover&after=0&limit=50&newest=true"]
    out = capsys.readouterr().out
    for words in ("failover", "host-1", "host-2", "1 → 2", "done"):
        assert words in out


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    queries = run(monkeypatch, "--json", "--since", "1970-01-01T00:00:10Z", pages=[[OPERATION]])
    assert "since=10.0" in queries[0]
    [one] = json.loads(capsys.readouterr().out)["items"]
    assert one["steps"] == OPERATION["steps"]


def test_following(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    new = OPERATION | {"n": 9, "kind": "drill"}
    queries = run(monkeypatch, "--follow", "--json", pages=[[OPERATION], [new]])
    assert [dict(one.split("=") for one in query.split("&"))["after"] for query in queries] == [
        "0",
        "7",
        "9",
    ]
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["failover", "drill"]
