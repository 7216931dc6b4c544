"""The client of S3 for each place, and one that is made and used before a fork.

A first client takes 100 ms of parsing, and what botocore computes when it is first used is 8 MB. A
process that is forked from one in which both have happened shares them with all of its kind.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials

from backup.settings import StoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_Place = tuple[str, str, float, float]


@dataclass(slots=True)
class _Prepared:
    """For whoever is told, after the fork, how to get into this place."""

    place: _Place
    client: S3Client
    credentials: Credentials


_prepared: _Prepared | None = None


def client(settings: StoreSettings) -> S3Client:
    """The one that was prepared, if it is for this place and nobody has it; otherwise a new one."""
    global _prepared
    key = settings.credentials.access_key_id
    secret = settings.credentials.secret_access_key.get_secret_value()
    if _prepared is not None and _prepared.place == _place(settings):
        prepared, _prepared = _prepared, None
        prepared.credentials.access_key, prepared.credentials.secret_key = key, secret
        return prepared.client
    return _session().client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=_config(settings),
    )


def prepare(settings: StoreSettings) -> None:
    """Make the client of a place, and use it once for each common kind of request.

    The place is not reached: a server in a thread of this process answers, and is gone when this
    returns. Credentials in ``settings`` are not used.

    Raises:
        Exception: whatever botocore makes of a machine on which that cannot be done.
    """
    global _prepared
    # The session's own: its clients look here whenever they sign, others are given theirs.
    credentials = _session().get_credentials()
    assert isinstance(credentials, Credentials)
    made = _session().client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        config=_config(settings),
    )
    with HTTPServer(("127.0.0.1", 0), _Anything) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            _use(made, f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            serving.join()
    _prepared = _Prepared(_place(settings), made, credentials)


def _use(made: S3Client, instead: str) -> None:
    def turn_aside(request: Any, **_: Any) -> None:
        request.url = instead

    made.meta.events.register("before-send.s3", turn_aside)
    try:
        made.put_object(Bucket="none", Key="key", Body=b"{}", IfNoneMatch="*")
        made.put_object(Bucket="none", Key="key", Body=b"{}", IfMatch='"0"')
        made.get_object(Bucket="none", Key="key")["Body"].read()
        made.list_objects_v2(Bucket="none", Prefix="key")
    finally:
        made.meta.events.unregister("before-send.s3", turn_aside)


class _Anything(BaseHTTPRequestHandler):
    """Says yes to everything, once for each connection: none is left open."""

    protocol_version = "HTTP/1.1"  # in which botocore is told at once that it may go on
    timeout = 5.0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@functools.cache
def _session() -> boto3.session.Session:
    # One for the process: a session's first client costs 100 ms of parsing, each further one 7.
    return boto3.session.Session(aws_access_key_id="none", aws_secret_access_key="none")


def _place(settings: StoreSettings) -> _Place:
    # The bucket comes with each call.
    return (
        settings.endpoint,
        settings.region,
        settings.connect_timeout,
        settings.read_timeout,
    )


def _config(settings: StoreSettings) -> Config:
    return Config(
        # Retries are ours: botocore's would hide an ambiguous write behind a second one.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=32,
        # Also for presigned URLs, which KMS-encrypted objects ask for.
        signature_version="s3v4",
        s3={"addressing_style": "path"},
    )


def warm_up() -> None:
    """Parse botocore's description of S3 now, for clients of any place."""
    _session().client(
        "s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
