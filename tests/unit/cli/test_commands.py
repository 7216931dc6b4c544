"""The commands against a coordinator in memory: output, exit codes, errors without tracebacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet import bucket_lag, cli
from fleet.cli import connection
from fleet.client import Client
from fleet.views import LagView

TENANT = {
    "name": "acme",
    "app": "examples.documents.app",
    "durability": "before_effects",
    "state": "active",
    "host": "host-2",
    "epoch": 2,
    "lineage": "l-1",
    "serving": True,
    "executions": {"running": 1, "completed": 2, "failed": 0},
    "sequence": 40,
    "proven_sequence": 39,
    "txid": 7,
    "replicated_txid": 7,
    "lag_seconds": 0.0,
    "lag_txids": 0,
    "lag_bytes": 0,
    "recoveries": [
        {
            "tenant": "acme",
            "from_host": "host-1",
            "to_host": "host-2",
            "from_epoch": 1,
            "epoch": 2,
            "cause": "host_lost",
            "at": 1.0,
            "rto_seconds": 17.5,
            "split": {"detect": 16.0, "start": 1.5},
        }
    ],
}


def coordinator(request: httpx.Request) -> httpx.Response:
    path = request.url.path
    if request.method == "POST" and path == "/api/tenants":
        body = json.loads(request.content)
        if body["name"] == "taken":
            error = {
                "type": "duplicate",
                "message": "There is a tenant named 'taken' already.",
                "hint": "Choose another name.",
            }
            return httpx.Response(409, json={"error": error})
        return httpx.Response(201, json=TENANT | body | {"serving": body["name"] != "broken"})
    if path == "/api/tenants":
        return httpx.Response(200, json={"items": [TENANT], "next": None})
    if path == "/api/tenants/acme":
        return httpx.Response(200, json=TENANT)
    if path == "/api/tenants/broken":
        trouble = {"name": "broken", "serving": False, "detail": "the engine ended with 1: why"}
        return httpx.Response(200, json=TENANT | trouble)
    if path == "/api/hosts":
        host = {"name": "host-2", "state": "live", "tenants": ["acme"], "lease_age_seconds": 1.25}
        return httpx.Response(200, json={"items": [host], "next": None})
    if path == "/api/lag":
        return httpx.Response(200, json={"items": [{"tenant": "acme", "lag_seconds": 0.5}]})
    if path == "/api/resume":
        return httpx.Response(200, json={})
    return httpx.Response(404, json={"error": {"type": "not_found", "message": "No such thing."}})


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LITEFLEET_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("LITEFLEET_ADDRESS", "LITEFLEET_TOKEN", "LITEFLEET_DEBUG", "LITEFLEET_NAME"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, connected: bool = True) -> Ran:
        if connected:
            transport = httpx.MockTransport(coordinator)
            monkeypatch.setattr(
                connection,
                "connect",
                lambda *_: Client("http://fleet", "token", transport=transport),
            )
        monkeypatch.setattr(sys, "argv", ["litefleet", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "list"),
        ("tenant", "show", "acme"),
        ("tenant", "create", "birch", "--durability", "async", "--env", "A=b=c"),
        ("host", "list"),
        ("lag",),
        ("resume",),
    ],
    ids=" ".join,
)
def test_every_command_has_json_on_stdout_and_nothing_else(run, arguments) -> None:  # type: ignore[no-untyped-def]
    plain = run(*arguments)
    assert plain.code == 0, plain.err
    assert plain.out + plain.err
    ran = run(*arguments, "--json")
    assert ran.code == 0, ran.err
    json.loads(ran.out)


def test_tables_show_what_matters(run) -> None:  # type: ignore[no-untyped-def]
    assert "host-2" in run("tenant", "list").out
    shown = run("tenant", "show", "acme").out
    assert "proven to 39" in shown
    assert "host-1 → host-2" in shown
    assert "1.25 s" in run("host", "list").out


def test_a_lag_above_a_threshold_is_a_failure(run) -> None:  # type: ignore[no-untyped-def]
    assert run("lag", "--max-seconds", "0.5").code == 0
    for more in ((), ("--watch",)):
        ran = run("lag", "--max-seconds", "0.4", "--json", *more)
        assert ran.code == 1
        assert json.loads(ran.out)["items"][0]["tenant"] == "acme"
        assert "acme is 0.5 s behind, more than 0.4" in ran.err
    assert "not known" in run("lag", "--max-txids", "9").err


def test_the_bucket_is_looked_at_itself(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    view = bucket_lag.BucketLagView(
        tenant="acme",
        state="active",
        epoch=2,
        txid=7,
        files=3,
        bytes=4096,
        newest_at=1.0,
        age_seconds=2.0,
        proven_txid=7,
        said_txid=9,
        behind_txids=2,
    )
    asked = []

    def look(store: object, told: list[LagView], progress: object) -> list[object]:
        asked.append([one.tenant for one in told])
        return [view]

    settings = StoreSettings(
        endpoint="http://127.0.0.1:1",
        bucket="bucket",
        credentials=Credentials(access_key_id="any", secret_access_key=SecretStr("any")),
    )
    monkeypatch.setattr(bucket_lag, "look", look)
    monkeypatch.setattr(connection, "bucket_of", lambda *_: settings)
    ran = run("lag", "--from-bucket")
    assert (ran.code, asked) == (0, [["acme"]])
    assert "4,096" in ran.out
    assert json.loads(run("lag", "--from-bucket", "--json").out)["items"][0]["txid"] == 7
    late = run("lag", "--from-bucket", "--max-txids", "1")
    assert (late.code, "2 txids behind" in late.err) == (1, True)
    # With the store alone nobody is asked.
    assert run("lag", "--from-bucket", "--s3", "http://127.0.0.1:1").code == 0
    assert asked[-1] == []
    view.finding = "9 was said to be in the bucket"
    assert run("lag", "--from-bucket").code == 1
    assert run("lag", "--from-bucket", "--watch").code == 2


def test_a_tenants_variables_reach_the_coordinator(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("tenant", "create", "birch", "--env", "A=b=c", "--env", "B=", "--json")
    assert json.loads(ran.out)["name"] == "birch"


def test_a_refusal_is_a_message_with_what_to_do(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("tenant", "create", "taken")
    assert ran.code == 1
    assert "There is a tenant named 'taken' already." in ran.err
    assert "Choose another name." in ran.err
    assert "Traceback" not in ran.err
    as_json = run("tenant", "create", "taken", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["error"]["type"] == "duplicate"


def test_a_tenant_whose_engine_does_not_start_says_why(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("tenant", "create", "broken")
    assert ran.code == 1
    assert "was created, but does not serve: the engine ended with 1: why" in ran.err
    assert run("tenant", "create", "broken", "--wait", "0").code == 0
    assert "the engine ended with 1: why" in run("tenant", "show", "broken").out
    assert "failing" in run("tenant", "show", "broken").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "create", "birch", "--env", "novalue"),
        ("tenant", "create", "birch", "--durability", "sometimes"),
        ("tenant",),
        ("nonsense",),
        ("demo", "--lose", "3", "--hosts", "3"),
        ("demo", "--tenants", "0"),
        ("demo", "--how", "explode"),
        ("lag", "--nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_two(run, arguments) -> None:  # type: ignore[no-untyped-def]
    ran = run(*arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.err


def test_without_a_fleet_it_says_how_to_start_one(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("tenant", "list", connected=False)
    assert ran.code == 1
    assert "litefleet up" in ran.err


def test_an_address_needs_a_token(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    ran = run("tenant", "list", "--address", "http://127.0.0.1:9", connected=False)
    assert ran.code == 1
    assert "LITEFLEET_TOKEN" in ran.err
    monkeypatch.setenv("LITEFLEET_TOKEN", "x")
    ran = run("tenant", "list", "--address", "http://127.0.0.1:9", connected=False)
    assert ran.code == 1
    assert "No answer at http://127.0.0.1:9" in ran.err


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "no credentials"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY is missing"),
        ({"LITEFLEET_S3_SECRET_ACCESS_KEY": "a"}, "LITEFLEET_S3_ACCESS_KEY_ID is missing"),
    ],
)
def test_a_store_needs_both_halves_of_a_key(  # type: ignore[no-untyped-def]
    run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name in ("LITEFLEET_S3_", "AWS_"):
        for half in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name + half, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in ("demo", "up", "doctor"):
        ran = run(command, "--s3", "http://127.0.0.1:9")
        assert ran.code == 1
        assert words in ran.err


@pytest.mark.parametrize("url", ["127.0.0.1:9", "ftp://host", "http://host/path"])
def test_a_store_needs_a_proper_address(run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LITEFLEET_S3_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("LITEFLEET_S3_SECRET_ACCESS_KEY", "b")
    ran = run("demo", "--s3", url)
    assert ran.code == 1
    assert "--s3" in ran.err


def test_help_names_every_command(run) -> None:  # type: ignore[no-untyped-def]
    shown = run("--help").out
    for command in ("demo", "up", "tenant", "host", "lag", "doctor", "resume"):
        assert command in shown
    assert run("--version").out.startswith("litefleet ")


def test_the_unexpected_is_one_message_unless_asked_for_more(  # type: ignore[no-untyped-def]
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Client:
        raise RuntimeError("a [surprise]")

    monkeypatch.setattr(connection, "connect", fail)
    ran = run("lag", connected=False)
    assert ran.code == 1
    assert "RuntimeError: a [surprise]" in ran.err
    assert "Traceback" not in ran.err
    monkeypatch.setenv("LITEFLEET_DEBUG", "1")
    with pytest.raises(RuntimeError):
        run("lag", connected=False)
