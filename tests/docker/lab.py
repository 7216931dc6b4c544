"""A fleet of containers, each with an address of its own on a Docker network of the test's.

A store, a coordinator and a receiver outside the fleet; hosts are added by the test, which can
kill them, freeze them and cut them off from whatever it likes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config
from pydantic import SecretStr

from backup.settings import Credentials, StoreSettings
from fleet.client import Client, FleetError
from fleet.settings import AgentSettings, CoordinatorSettings
from fleet.views import TenantView

APPS = Path(__file__).parent / "apps"
SECRET = "not-a-secret-outside-of-this-test"
STORE = """
import json, os, subprocess
os.makedirs("/tmp/store", exist_ok=True)
with open("/tmp/id.json", "w") as file:
    json.dump({"identities": [{"name": "fleet", "credentials":
        [{"accessKey": "fleet", "secretKey": os.environ["SECRET"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}, file)
os.execvp("weed", ["weed", "-logtostderr=true", "mini", "-dir=/tmp/store", "-ip=127.0.0.1",
    "-ip.bind=0.0.0.0", "-s3.port=8333", "-s3.config=/tmp/id.json", "-s3.iam.readOnly=false",
    "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-master.volumeSizeLimitMB=256"])
"""


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.1)
    return found


class Lab:
    """What runs, by name. ``tag`` is in every name, so that labs do not meet."""

    def __init__(self, engine: Any, image: str, folder: Path):
        self.engine = engine
        self.image = image
        self.folder = folder
        self.tag = f"lf{secrets.token_hex(3)}"
        self.token = secrets.token_urlsafe(16)
        self.network: Any = None
        self.containers: dict[str, Any] = {}
        self.volumes: list[Any] = []
        self.client: Client

    # -- the parts ----------------------------------------------------------------------------

    def start(self) -> None:
        self.network = self.engine.networks.create(self.tag, driver="bridge")
        self.run("store", ["python3", "-c", STORE], environment={"SECRET": SECRET})
        self._make_bucket()
        self.run(
            "receiver",
            [
                "python3",
                "-m",
                "examples.receiver",
                "--host",
                "0.0.0.0",
                "--port",
                "9000",
                "--ledger",
                "/tmp/effects.jsonl",
            ],
        )
        settings = CoordinatorSettings(
            store=self.store("store"),
            token=SecretStr(self.token),
            listen_host="0.0.0.0",
            listen_port=8080,
            issuer="iam",
            data=Path("/var/lib/litefleet"),
            advertise="http://coordinator:8080",
        )
        self.configure("coordinator", settings)
        self.run("coordinator", ["python3", "-m", "fleet.coordinator", "/etc/lf/settings.json"])
        self.client = Client(f"http://{self.address('coordinator')}:8080", self.token)
        until(self._acts, "the coordinator is active")

    def _acts(self) -> bool:
        # It answers before it has its seat, and then knows of nothing.
        with contextlib.suppress(FleetError):
            self.client.hosts()
            return True
        return False

    def add_host(self, name: str, **more: Any) -> None:
        """A host: an agent as root, its nodes as processes, its disk a volume."""
        settings = AgentSettings(
            store=self.store("store"),
            token=SecretStr(self.token),
            listen_host="0.0.0.0",
            listen_port=7070,
            advertise=f"http://{name}:7070",
            host=name,
            data=Path("/var/lib/litefleet"),
            **more,
        )
        self.configure(name, settings)
        volume = self.engine.volumes.create(f"{self.tag}-{name}")
        self.volumes.append(volume)
        self.start_host(name)

    def start_host(self, name: str, **options: Any) -> None:
        """Start it, on the disk that it has."""
        self.run(
            name,
            # The first process is not the agent: it reaps, and ends with it.
            ["sh", "-c", "python3 -m fleet.agent /etc/lf/settings.json & wait $!"],
            volumes={f"{self.tag}-{name}": {"bind": "/var/lib/litefleet", "mode": "rw"}},
            **options,
        )

    def joined(self, *names: str) -> None:
        def live() -> bool:
            with contextlib.suppress(FleetError):
                found = {host.name for host in self.client.hosts() if host.state == "live"}
                return found >= set(names)
            return False

        until(live, f"{', '.join(names)} joined")

    def store(self, host: str) -> StoreSettings:
        return StoreSettings(
            endpoint=f"http://{host}:8333",
            bucket="litefleet",
            prefix="fleet",
            credentials=Credentials(access_key_id="fleet", secret_access_key=SecretStr(SECRET)),
        )

    def run(self, name: str, command: list[str], **options: Any) -> Any:
        """A container of the image, on the network under its name."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        volumes = {
            str(folder): {"bind": "/etc/lf", "mode": "ro"},
            str(APPS): {"bind": "/apps", "mode": "ro"},
            **options.pop("volumes", {}),
        }
        container = self.containers[name] = self.engine.containers.create(
            self.image,
            command,
            name=f"{self.tag}-{name}",
            hostname=name,
            volumes=volumes,
            network=self.tag,
            **options,
        )
        self.network.disconnect(container)
        self.network.connect(container, aliases=[name])
        container.start()
        return container

    def configure(self, name: str, settings: Any) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        settings.write(self.folder / name / "settings.json")

    def address(self, name: str) -> str:
        container = self.containers[name]
        container.reload()
        found: str = container.attrs["NetworkSettings"]["Networks"][self.tag]["IPAddress"]
        return found

    def _make_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{self.address('store')}:8333",
            aws_access_key_id="fleet",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(
                connect_timeout=1,
                read_timeout=5,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

        def made() -> bool:
            try:
                with contextlib.suppress(
                    client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
                ):
                    client.create_bucket(Bucket="litefleet")
                client.put_object(Bucket="litefleet", Key=".ready", Body=b"x")
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                return False
            return True

        until(made, "the store takes an object")

    # -- what an outsider sees ----------------------------------------------------------------

    def create(self, tenant: str, durability: str = "async") -> TenantView:
        env = {"RECEIVER": "http://receiver:9000", "TENANT": tenant}
        self.client.create_tenant(tenant, "probing", durability, env)  # type: ignore[arg-type]
        return self.serving(tenant)

    def serving(self, tenant: str, epoch: int = 1, seconds: float = 90.0) -> TenantView:
        seen: list[Any] = []

        def there() -> TenantView | None:
            try:
                view = self.client.tenant(tenant)
            except FleetError as error:
                seen.append(error)
                return None
            seen.append(view)
            return view if view.serving and view.state == "active" and view.epoch >= epoch else None

        try:
            found: TenantView = until(there, f"{tenant} serves in epoch {epoch}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[-1:]}\n{self.logs()}") from error
        return found

    def ask(self, tenant: str, workflow: str, **given: Any) -> Any:
        """Run a workflow to its end, through whatever happens meanwhile; its result."""
        id = f"{workflow}-{secrets.token_hex(4)}"
        self.begin(tenant, workflow, id, **given)
        return self.result(tenant, id)

    def begin(self, tenant: str, workflow: str, id: str, **given: Any) -> bool:
        """Start an execution; whether it was acknowledged as durable."""

        def started() -> list[bool]:
            with contextlib.suppress(FleetError):
                return [self.client.start(tenant, workflow, id, given, True).durable]
            return []

        durable: bool = until(started, f"{id} was started", 90.0)[0]
        return durable

    def result(self, tenant: str, id: str, seconds: float = 120.0) -> Any:
        def ended() -> list[Any]:
            with contextlib.suppress(FleetError):
                outcome = self.client.result(tenant, id, wait=2.0)
                assert outcome.status != "failed", outcome
                return [outcome.result] if outcome.status == "completed" else []
            return []

        try:
            return until(ended, f"{id} of {tenant} completed", seconds)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def ledger(self) -> list[dict[str, Any]]:
        """Every arrival at the receiver, in order."""
        out = self.containers["receiver"].exec_run(["cat", "/tmp/effects.jsonl"]).output
        return [json.loads(line) for line in out.decode().splitlines()]

    def logs(self) -> str:
        """The last words of everything."""
        return "\n".join(
            f"-- {name}\n{container.logs(tail=12).decode(errors='replace')}"
            for name, container in self.containers.items()
        )

    # -- what can happen to a host ------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Its machine is gone, at once; its disk stays."""
        self.containers[name].kill()
        self.containers.pop(name).remove(force=True)

    def freeze(self, name: str) -> None:
        self.containers[name].pause()

    def thaw(self, name: str) -> None:
        self.containers[name].unpause()

    def cut(self, name: str, *others: str) -> None:
        """Let nothing through between a host and these others, in either direction."""
        for other in others:
            address = self.address(other)
            self._filter(name, "-A", "OUTPUT", "-d", address)
            self._filter(name, "-A", "INPUT", "-s", address)

    def heal(self, name: str) -> None:
        """Let everything through again."""
        for chain in ("INPUT", "OUTPUT"):
            self._nsenter(name, "iptables", "-F", chain)

    def _filter(self, name: str, how: str, chain: str, side: str, address: str) -> None:
        self._nsenter(name, "iptables", how, chain, side, address, "-j", "DROP")

    def _nsenter(self, name: str, *command: str) -> None:
        container = self.containers[name]
        container.reload()
        pid = str(container.attrs["State"]["Pid"])
        subprocess.run(["nsenter", "-t", pid, "-n", *command], check=True, capture_output=True)

    def save_disk(self, name: str) -> bytes:
        """What is on a host's disk now, as a machine's image would have it."""
        stream, _ = self.containers[name].get_archive("/var/lib/litefleet/.")
        return b"".join(stream)

    def restore_disk(self, name: str, saved: bytes) -> None:
        """Put an older state back; the host must be down."""
        volume = {f"{self.tag}-{name}": {"bind": "/disk", "mode": "rw"}}
        box = self.engine.containers.create(self.image, ["true"], volumes=volume)
        try:
            empty = ["sh", "-c", "rm -rf /disk/* /disk/.[!.]*"]
            self.engine.containers.run(self.image, empty, volumes=volume, remove=True)
            assert box.put_archive("/disk", saved)
        finally:
            box.remove(force=True)

    def shell(self, name: str, command: str) -> str:
        code, out = self.containers[name].exec_run(["sh", "-c", command])
        assert code == 0, out
        text: str = out.decode()
        return text

    def end(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
        for container in self.containers.values():
            with contextlib.suppress(Exception):
                container.remove(force=True, v=True)
        labels = {"label": "litefleet.lab=" + self.tag}
        for container in self.engine.containers.list(all=True, filters=labels):
            container.remove(force=True)
        for volume in self.volumes:
            with contextlib.suppress(Exception):
                volume.remove(force=True)
        if self.network is not None:
            self.network.remove()


@contextlib.contextmanager
def lab(engine: Any, image: str) -> Iterator[Lab]:
    """A lab with everything but hosts; nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="lf-lab-", dir="/tmp"))
    os.chmod(folder, 0o711)
    one = Lab(engine, image, folder)
    try:
        one.start()
        yield one
    finally:
        one.end()
        shutil.rmtree(folder, ignore_errors=True)
