"""The receiver as a process of its own: what it saw is in its ledger, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

Eventually = Callable[..., None]


def command(port: str, ledger: str, *more: str) -> list[str]:
    program = [sys.executable, "-m", "examples.receiver"]
    return [*program, "--port", port, "--ledger", ledger, *more]


@contextmanager
def receiver(tmp_path: Path, eventually: Eventually) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    address = tmp_path / "address"
    address.unlink(missing_ok=True)
    process = subprocess.Popen(
        command("0", str(tmp_path / "ledger"), "--address-file", str(address)),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(address.exists, "the receiver says its address")
        yield address.read_text().strip(), process
    finally:
        process.kill()
        process.communicate()


def post(url: str, key: str, body: object = None, **headers: str) -> httpx.Response:
    named = {f"Litefleet-{name}": value for name, value in headers.items()}
    return httpx.post(f"{url}/effects", json=body, headers={"Idempotency-Key": key, **named})


def test_a_repeat_gets_the_first_answer_and_is_in_the_ledger(
    tmp_path: Path, eventually: Eventually
) -> None:
    with receiver(tmp_path, eventually) as (url, _):
        first = post(url, "k1", {"a": 1}, Tenant="t1", Execution="e1", Step="report#1")
        other = post(url, "k2", {"a": 2}, Tenant="t2")
        repeat = post(url, "k1", {"a": 3}, Tenant="t1", Attempt="2")

        assert first.json() == {"receipt": 1, "key": "k1"} == repeat.json()
        assert other.json() == {"receipt": 2, "key": "k2"}
        assert "litefleet-duplicate" not in first.headers
        assert repeat.headers["litefleet-duplicate"] == "true"
        one = {"arrivals": 2, "effects": 1, "duplicates": 1}
        two = {"arrivals": 1, "effects": 1, "duplicates": 0}
        assert httpx.get(f"{url}/counts").json() == {
            "arrivals": 3,
            "effects": 2,
            "duplicates": 1,
            "tenants": {"t1": one, "t2": two},
        }
        pages = []
        after: int | None = 0
        while after is not None:
            page = httpx.get(f"{url}/effects", params={"after": after, "limit": 2}).json()
            pages.append(page["items"])
            after = page["next"]
    assert [len(page) for page in pages] == [2, 1]
    items = [item for page in pages for item in page]
    assert [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()] == items
    assert {k: items[0][k] for k in ("n", "key", "tenant", "execution", "step", "attempt")} == {
        "n": 1,
        "key": "k1",
        "tenant": "t1",
        "execution": "e1",
        "step": "report#1",
        "attempt": 1,
    }
    assert [item["duplicate"] for item in items] == [False, False, True]
    assert items[0]["body"] == {"a": 1}
    assert items[2]["attempt"] == 2
    assert items[0]["digest"] != items[2]["digest"]  # the repeat said something else


def test_after_a_kill_it_still_knows_every_effect(tmp_path: Path, eventually: Eventually) -> None:
    with receiver(tmp_path, eventually) as (url, process):
        post(url, "k1", "x")
        process.kill()
        process.wait()
    with (tmp_path / "ledger").open("a") as ledger:
        ledger.write('{"n": 2, "key": "k2", "ten')  # what a kill in the middle of a line leaves
    with receiver(tmp_path, eventually) as (url, _):
        assert post(url, "k1", "x").headers["litefleet-duplicate"] == "true"
        assert post(url, "k2", "y").json() == {"receipt": 3, "key": "k2"}
    lines = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]
    assert [(line["n"], line["key"], line["duplicate"]) for line in lines] == [
        (1, "k1", False),
        (2, "k1", True),
        (3, "k2", False),
    ]


def test_it_ends_in_order(tmp_path: Path, eventually: Eventually) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with receiver(tmp_path, eventually) as (url, process):
            assert httpx.get(f"{url}/healthz").json() == {"ok": True}
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0
            assert said == ""


def test_a_port_that_is_taken_is_said_without_a_traceback(
    tmp_path: Path, eventually: Eventually
) -> None:
    with receiver(tmp_path, eventually) as (url, _):
        second = subprocess.run(
            command(url.rsplit(":", 1)[1], os.devnull),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert "Address already in use" in second.stderr
    assert "Traceback" not in second.stderr
