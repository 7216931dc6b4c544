"""A client that was prepared before a fork: whose it is, and as whom it signs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from backup import client as s3
from backup.settings import Credentials, StoreSettings
from backup.store import S3Store
from node.warmth import warm_up


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A store's address, and as whom each request to it was signed."""
    signers: list[str] = []

    class Store(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            signers.append(self.headers["authorization"].partition("Credential=")[2].split("/")[0])
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", signers
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_prepared() -> Iterator[None]:
    yield
    s3._prepared = None


def settings(endpoint: str, key: str = "acme") -> StoreSettings:
    credentials = Credentials(access_key_id=key, secret_access_key=SecretStr("secret"))
    return StoreSettings(endpoint=endpoint, bucket="bucket", credentials=credentials)


def test_it_signs_as_whoever_takes_it_and_is_taken_once(asked: tuple[str, list[str]]) -> None:
    endpoint, signers = asked
    s3.prepare(settings(endpoint, "nobody"))
    assert signers == []  # preparing it asks the store for nothing
    prepared = s3._prepared
    assert prepared is not None
    first = S3Store(settings(endpoint, "acme"))
    second = S3Store(settings(endpoint, "birch"))
    assert first._client is prepared.client
    assert second._client is not prepared.client
    first.put("a", b"1")
    second.put("a", b"1")
    first.put("a", b"1")
    assert signers == ["acme", "birch", "acme"]


def test_another_place_gets_a_client_of_its_own(asked: tuple[str, list[str]]) -> None:
    endpoint, signers = asked
    s3.prepare(settings("http://127.0.0.1:1", "nobody"))
    S3Store(settings(endpoint)).put("a", b"1")
    S3Store(settings(endpoint).model_copy(update={"read_timeout": 9.0})).put("a", b"1")
    assert signers == ["acme", "acme"]
    assert s3._prepared is not None


def test_what_is_told_to_the_nursery_is_no_secret() -> None:
    told = settings("http://store").without_credentials().model_dump_json(context={"reveal": True})
    assert "acme" not in told
    assert "secret" not in told.replace("secret_access_key", "")


def test_no_thread_is_left_that_a_fork_would_break() -> None:
    before = threading.active_count()
    warm_up(settings("http://127.0.0.1:1"))
    assert s3._prepared is not None
    assert threading.active_count() == before
