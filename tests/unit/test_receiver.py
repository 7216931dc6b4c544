"""The receiver's answers to what it cannot take, without a process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from examples.receiver import MAX_BODY, Ledger, create_app


def ask(tmp_path: Path, method: str, url: str, **options: object) -> httpx.Response:
    ledger = Ledger(tmp_path / "ledger", clock=lambda: 1.5)

    async def inside() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(ledger))
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.request(method, url, **options)  # type: ignore[arg-type]

    try:
        return asyncio.run(inside())
    finally:
        ledger.close()


KEY = {"Idempotency-Key": "k"}


@pytest.mark.parametrize(
    ("headers", "content", "status", "kind"),
    [
        ({}, b"{}", 400, "missing_key"),
        (KEY, b"{", 400, "not_json"),
        (KEY, b"\xff", 400, "not_json"),
        (KEY, b'"' + b"x" * MAX_BODY + b'"', 413, "too_large"),
        (KEY | {"Litefleet-Attempt": "two"}, b"{}", 400, "bad_attempt"),
    ],
)
def test_what_it_cannot_take_is_refused_and_not_entered(
    tmp_path: Path, headers: dict[str, str], content: bytes, status: int, kind: str
) -> None:
    answer = ask(tmp_path, "POST", "/effects", headers=headers, content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind
    assert (tmp_path / "ledger").read_text() == ""


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "after=-1", "after=x"])
def test_a_page_that_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    assert ask(tmp_path, "GET", f"/effects?{query}").status_code == 400


def test_an_empty_ledger_is_one_empty_page(tmp_path: Path) -> None:
    assert ask(tmp_path, "GET", "/effects").json() == {"items": [], "next": None}


def test_an_arrival_carries_its_time(tmp_path: Path) -> None:
    ask(tmp_path, "POST", "/effects", headers=KEY, json=[1])
    item = ask(tmp_path, "GET", "/effects").json()["items"][0]
    assert item["at"] == 1.5
    assert item["body"] == [1]
