"""What the containers of compose.yaml run: `start.py store`, `coordinator` or `host`.

Each takes the fleet's secrets from a volume that they share, where the first of them has made them
up, writes its settings to memory and becomes the program: no secret is in the compose file, in an
environment that `docker inspect` shows, or on a command line. What is given as STORE_KEY,
STORE_SECRET and LITEFLEET_TOKEN is used instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import time
from pathlib import Path

import boto3
import botocore.exceptions
from botocore.config import Config
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet import DEFAULT_NAME, state
from fleet.settings import AgentSettings, CoordinatorSettings, ProcessSettings

SECRETS = Path("/secrets/fleet.json")
RUN = Path("/run/litefleet")
"""In memory."""
DATA = Path("/var/lib/litefleet")
"""A volume."""
USER = 10_000
"""`litefleet` in the image."""
DOORS = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
"""Of the store, beside its S3 API: closed by keys that nobody knows."""
PATIENCE = 120.0
"""Seconds for the store to come up."""


def take_secrets() -> dict[str, str]:
    """The fleet's, made up by whoever is first."""
    SECRETS.parent.chmod(0o700)
    made = {
        "key": "LF" + secrets.token_hex(9).upper(),
        "secret": secrets.token_hex(20),
        "token": secrets.token_urlsafe(24),
    }
    partial = SECRETS.with_name(f".{socket.gethostname()}")
    partial.touch(0o600)
    partial.write_text(json.dumps(made))
    with contextlib.suppress(FileExistsError):
        os.link(partial, SECRETS)
    partial.unlink()
    found: dict[str, str] = json.loads(SECRETS.read_text())
    given = {"key": "STORE_KEY", "secret": "STORE_SECRET", "token": "LITEFLEET_TOKEN"}
    return found | {what: os.environ[name] for what, name in given.items() if os.environ.get(name)}


def store_of(known: dict[str, str]) -> StoreSettings:
    return StoreSettings(
        endpoint=os.environ.get("STORE_ENDPOINT", "http://store:8333"),
        bucket=os.environ.get("STORE_BUCKET", "litefleet"),
        region=os.environ.get("STORE_REGION", "us-east-1"),
        credentials=Credentials(
            access_key_id=known["key"], secret_access_key=SecretStr(known["secret"])
        ),
    )


def run_store(known: dict[str, str]) -> None:
    """SeaweedFS, with the fleet's key as its administrator's."""
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": known["key"], "secretKey": known["secret"]}]
    identity = {"name": "fleet", "credentials": credentials, "actions": actions}
    options = {
        "dir": "/data",
        "ip": "127.0.0.1",
        "ip.bind": "0.0.0.0",
        "s3.port": 8333,
        "s3.config": RUN / "identities.json",
        "s3.iam.readOnly": "false",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "webdav": "false",
        "admin.ui": "false",
        "admin.user": "admin",
        "admin.password": secrets.token_hex(16),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    write(RUN / "identities.json", json.dumps({"identities": [identity]}))
    write(RUN / "options", "".join(f"{name}={value}\n" for name, value in options.items()))
    become_user("/data", *RUN.iterdir())
    keys = {f"WEED_{door}_KEY": secrets.token_hex(16) for door in DOORS}
    os.environ.update(keys, HOME="/data")
    os.execvp("weed", ["weed", "-logtostderr=true", "mini", f"-options={RUN}/options"])


def run_coordinator(known: dict[str, str]) -> None:
    name = socket.gethostname()
    store = store_of(known)
    await_bucket(store)
    settings = CoordinatorSettings(
        store=store,
        token=SecretStr(known["token"]),
        listen_host="0.0.0.0",
        listen_port=8080,
        address_file=RUN / "own" / "address",
        issuer="iam" if os.environ.get("STORE_IAM", "yes") == "yes" else "shared",
        name=name,
        data=DATA,
        advertise=f"http://{name}:8080",
    )
    # For `docker compose exec coordinator litefleet …`: this very process will be the coordinator.
    state.write(DEFAULT_NAME, "http://127.0.0.1:8080", known["token"], RUN / "home", store=store)
    become("fleet.coordinator", settings, as_user=True)


def run_host(known: dict[str, str]) -> None:
    """As root, who gives every tenant users of its own."""
    name = socket.gethostname()
    settings = AgentSettings(
        store=store_of(known),
        token=SecretStr(known["token"]),
        listen_host="0.0.0.0",
        listen_port=7070,
        advertise=f"http://{name}:7070",
        address_file=RUN / "own" / "address",
        host=name,
        data=DATA,
    )
    await_bucket(settings.store)
    become("fleet.agent", settings, as_user=False)


def await_bucket(store: StoreSettings) -> None:
    """Wait for the store, and make the bucket if there is none and we may."""
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name=store.region,
        aws_access_key_id=store.credentials.access_key_id,
        aws_secret_access_key=store.credentials.secret_access_key.get_secret_value(),
        config=Config(
            connect_timeout=2,
            read_timeout=5,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            with contextlib.suppress(
                client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
            ):
                client.create_bucket(Bucket=store.bucket)
            client.head_bucket(Bucket=store.bucket)
            return
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            if time.monotonic() > ends:
                sys.exit(f"the store at {store.endpoint} does not answer: {error}")
            time.sleep(0.5)


def become(module: str, settings: ProcessSettings, *, as_user: bool) -> None:
    """Write the settings and be this program from now on."""
    own = RUN / "own"
    own.mkdir(mode=0o755, exist_ok=True)
    file = own / "settings.json"
    settings.write(file)
    if as_user:
        become_user(DATA, own, file)
    os.execvp("python3", ["python3", "-m", module, str(file)])


def become_user(*its: Path | str) -> None:
    """Give these away, and be the image's user from now on."""
    for path in its:
        os.chown(path, USER, USER)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


def write(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


def main() -> None:
    for name in ("STORE_ENDPOINT", "STORE_BUCKET", "STORE_REGION", "STORE_IAM"):
        if not os.environ.get(name):
            os.environ.pop(name, None)
    known = take_secrets()
    {"store": run_store, "coordinator": run_coordinator, "host": run_host}[sys.argv[1]](known)


if __name__ == "__main__":
    main()
