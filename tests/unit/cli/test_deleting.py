"""Deleting a tenant by command: what is asked before, what is told after."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import httpx
import pytest

from fleet import cli
from fleet.cli import connection
from fleet.client import Client
from tests.unit.cli.test_commands import TENANT

DELETION = {
    "tenant": "acme",
    "number": 1,
    "phase": "kept",
    "asked_at": 1.0,
    "purge_after": 2.0,
    "by": "me",
}
RECEIPT = {
    **{key: DELETION[key] for key in ("tenant", "number", "asked_at", "purge_after", "by")},
    "lineage": "l-1",
    "epoch": 3,
    "began_at": 2.0,
    "purged_at": 3.0,
    "kinds": {"replicas": {"objects": 6, "bytes": 9}},
    "total": {"objects": 6, "bytes": 9},
    "removed": "ab",
    "keys": "revoked",
    "versions": "enabled",
    "hosts": {"host-9": {"problem": "its lease has ended"}},
    "content": "cd",
    "intact": True,
}

Run = Callable[..., tuple[int, str, str]]


class Fleet:
    """A coordinator that answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.phase = "kept"
        self.blocked = ""
        self.intact = True
        self.asked: list[tuple[str, dict[str, object]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        told = DELETION | {"phase": self.phase, "blocked": self.blocked}
        if path.endswith("/deletion") and request.method == "POST":
            self.asked.append((path, json.loads(request.content)))
            return httpx.Response(202, json=told)
        if path.endswith("/deletion"):
            return httpx.Response(200, json=told)
        if path.endswith("/receipts"):
            return httpx.Response(200, json={"items": [RECEIPT | {"intact": self.intact}]})
        if path == "/api/deletions":
            return httpx.Response(200, json={"items": [told]})
        return httpx.Response(200, json=TENANT)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def run(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        connection,
        "connect",
        lambda *_: Client("http://fleet", "token", transport=httpx.MockTransport(fleet)),
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["litefleet", "tenant", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_nothing_is_deleted_that_nobody_confirmed(run: Run, fleet: Fleet) -> None:
    for more in ((), ("--now",), ("--json",)):
        code, out, err = run("delete", "acme", *more)
        assert code == 1
        assert "--yes" in out + err
    assert fleet.asked == []


def test_the_grace_period_and_the_reason_are_passed_on(run: Run, fleet: Fleet) -> None:
    code, _, err = run("delete", "acme", "--yes", "--grace", "12h", "--why", "they left")
    assert code == 0
    assert "litefleet tenant undelete acme" in err
    (_, body), *_ = fleet.asked
    assert (body["grace_seconds"], body["why"]) == (43_200, "they left")
    assert "@" in str(body["by"])
    run("delete", "acme", "--yes")
    assert fleet.asked[-1][1]["grace_seconds"] is None


def test_what_goes_at_once_is_followed_to_its_receipt(run: Run, fleet: Fleet) -> None:
    fleet.phase = "purged"
    code, out, _ = run("delete", "acme", "--yes", "--now")
    assert code == 0
    assert "6 objects, 9 bytes" in out
    assert "THE BUCKET KEEPS THEM" in out
    assert "its lease has ended" in out
    assert fleet.asked[0][1]["grace_seconds"] == 0
    assert json.loads(run("delete", "acme", "--yes", "--now", "--json")[1])["content"] == "cd"


def test_what_does_not_go_is_a_failure_with_its_reason(run: Run, fleet: Fleet) -> None:
    fleet.blocked = "it is on hold"
    code, _, err = run("delete", "acme", "--yes", "--now", "--wait", "0.1")
    assert code == 1
    assert "it is on hold" in err


def test_no_grace_period_for_what_goes_at_once(run: Run, fleet: Fleet) -> None:
    assert run("delete", "acme", "--yes", "--now", "--grace", "1d")[0] == 2
    assert run("delete", "acme", "--yes", "--grace", "soon")[0] == 2
    assert fleet.asked == []


def test_deleted_tenants_are_listed_apart(run: Run, fleet: Fleet) -> None:
    assert "acme" in run("list", "--deleted")[1]
    assert json.loads(run("list", "--deleted", "--json")[1])["items"][0]["phase"] == "kept"


def test_a_receipt_that_was_changed_is_a_failure(run: Run, fleet: Fleet) -> None:
    assert run("receipt", "acme")[0] == 0
    assert json.loads(run("receipt", "acme", "--json")[1])["items"][0]["number"] == 1
    fleet.intact = False
    code, out, err = run("receipt", "acme")
    assert code == 1
    assert "DOES NOT MATCH" in out
    assert "is not what was written" in err


def test_one_that_is_brought_back_is_waited_for(run: Run) -> None:
    code, _, err = run("undelete", "acme")
    assert code == 0
    assert "serves on host-2" in err
