"""What is in the image, seen from inside a container of it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

ROOT = Path(__file__).parents[2]


def run(engine: Any, image: str, *words: str, **options: Any) -> str:
    """A command in a container without network and with a read-only root; what it printed."""
    settings = {"network_mode": "none", "read_only": True, "remove": True, **options}
    out: bytes = engine.containers.run(image, list(words), stderr=True, **settings)
    return out.decode()


@contextlib.contextmanager
def running(engine: Any, image: str, *words: str, **options: Any) -> Iterator[Any]:
    container = engine.containers.run(image, list(words), detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {plain(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_holds_exactly_what_is_pinned(engine: Any, image: str) -> None:
    code = (
        "import json, importlib.metadata as m;"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found = {
        plain(name): version
        for name, version in json.loads(run(engine, image, "python3", "-c", code)).items()
    }
    assert "litefleet" in found
    assert "pip" not in found
    assert {name: version for name, version in found.items() if name != "litefleet"}.items() <= (
        pinned().items()
    )


def test_its_parts_run_on_a_read_only_root_without_network(engine: Any, image: str) -> None:
    assert "litefleet" in run(engine, image, "litefleet", "--help")
    code = (
        "import node.life, fleet.agent.agent, fleet.coordinator.coordinator;"
        "from backup.litestream import binary; print(binary.require().trust)"
    )
    assert run(engine, image, "python3", "-c", code).strip() == "proven"


def test_the_engines_user_owns_nothing_and_can_write_nothing(engine: Any, image: str) -> None:
    code = (
        "import os; found = [];\n"
        "for top in ('/opt', '/usr', '/etc', '/apps', '/var/lib/litefleet'):\n"
        "  for folder, _, names in os.walk(top):\n"
        "    paths = [os.path.join(folder, name) for name in names] + [folder]\n"
        "    found += [p for p in paths if not os.path.islink(p) and os.access(p, os.W_OK)]\n"
        "print(os.getuid(), found)"
    )
    assert run(engine, image, "python3", "-c", code, user="engine").strip() == "10001 []"


def test_nothing_in_it_gives_an_engine_more_rights(engine: Any, image: str) -> None:
    """With no-new-privileges, as nodes run, set-uid programs give nothing."""
    out = run(
        engine,
        image,
        "sh",
        "-c",
        "grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status",
        user="engine",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
    )
    assert re.sub(r"\s+", " ", out).strip() == (
        "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1"
    )


def test_health_needs_something_to_ask(engine: Any, image: str) -> None:
    with pytest.raises(docker.errors.ContainerError, match="LITEFLEET_SOCKETS"):
        run(engine, image, "litefleet-health")


def test_health_is_that_of_what_is_asked(engine: Any, image: str) -> None:
    serve = (
        "import http.server as h\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        "  def do_GET(self): self.send_response(int(self.path[1:])); self.end_headers()\n"
        "h.HTTPServer(('127.0.0.1', 8000), A).serve_forever()"
    )
    with running(engine, image, "python3", "-c", serve, network_mode="none") as container:
        url = {"LITEFLEET_HEALTH_URL": "http://127.0.0.1:8000/200"}
        until = time.monotonic() + 20
        while (asked := container.exec_run("litefleet-health", environment=url))[0] != 0:
            assert time.monotonic() < until, asked
            time.sleep(0.1)
        ill = {"LITEFLEET_HEALTH_URL": "http://127.0.0.1:8000/503"}
        code, words = container.exec_run("litefleet-health", environment=ill)
        assert (code, words.decode().strip()) == (1, f"{ill['LITEFLEET_HEALTH_URL']} answers 503")
        nobody = {"LITEFLEET_HEALTH_URL": "http://127.0.0.1:8001/"}
        code, words = container.exec_run("litefleet-health", environment=nobody)
        assert code == 1
        assert b"does not answer" in words
