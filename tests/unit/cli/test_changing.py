"""`litefleet tenant set`: what is named changes, what is not stays."""

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

Run = Callable[..., tuple[int, str]]


class Fleet:
    """A coordinator with one tenant, that keeps what it was told."""

    def __init__(self) -> None:
        self.limits: dict[str, object] | None = {"rate": 5.0, "concurrency": 7}
        self.told: list[dict[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            self.told.append(json.loads(request.content))
        return httpx.Response(200, json=TENANT | {"limits": self.limits})


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def run(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def invoke(*words: str) -> tuple[int, str]:
        client = Client("http://fleet", "t", transport=httpx.MockTransport(fleet))
        monkeypatch.setattr(connection, "connect", lambda name, address: client)
        monkeypatch.setattr(sys, "argv", ["litefleet", "tenant", "set", "acme", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return invoke


def test_what_is_not_named_stays(run: Run, fleet: Fleet) -> None:
    assert run("--burst", "9")[0] == 0
    assert fleet.told == [{"limits": {"rate": 5.0, "concurrency": 7, "burst": 9}}]


def test_default_is_what_the_fleet_says(run: Run, fleet: Fleet) -> None:
    assert run("--rate", "default", "--sleep-after", "default")[0] == 0
    assert run("--rate", "default", "--concurrency", "default")[0] == 0
    assert fleet.told == [
        {"limits": {"concurrency": 7}, "sleep_after": None},
        {"limits": None},
    ]


def test_sleep_alone_leaves_the_limits_alone(run: Run, fleet: Fleet) -> None:
    code, out = run("--sleep-after", "0")
    assert (code, fleet.told) == (0, [{"sleep_after": 0.0}])
    assert "acme: sleep_after changed" in out


@pytest.mark.parametrize("words", [(), ("--rate", "fast"), ("--body-bytes", "1.5")])
def test_what_makes_no_sense_is_told(run: Run, fleet: Fleet, words: tuple[str, ...]) -> None:
    code, out = run(*words)
    assert code == 1
    assert "Traceback" not in out
    assert fleet.told == []


def test_it_speaks_json(run: Run) -> None:
    code, out = run("--rate", "1", "--json")
    assert code == 0
    assert json.loads(out)["name"] == TENANT["name"]
