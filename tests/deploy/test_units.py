"""The systemd units, by systemd-analyze: nothing in them is unknown or misspelt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.iterdir())


def verify(folder: Path, name: str, text: str) -> str:
    """What systemd has to say against a unit; its program is taken to be installed."""
    unit = folder / name
    unit.write_text(text.replace("/opt/litefleet/bin/python3", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if name in line]
    return "\n".join(said) or ("" if done.returncode == 0 else done.stderr)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_well_formed(tmp_path: Path, name: str) -> None:
    assert verify(tmp_path, name, (FOLDER / name).read_text()) == ""


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Restart=always", "Restart=allways"),
        ("NoNewPrivileges=yes", "NoNewPriviledges=yes"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@nothing-like-it"),
        ("/opt/litefleet/bin/python3", "/nowhere/python3"),
    ],
)
def test_one_that_is_not_is_noticed(tmp_path: Path, name: str, old: str, new: str) -> None:
    text = (FOLDER / name).read_text()
    assert old in text
    assert verify(tmp_path, name, text.replace(old, new)) != ""


@pytest.mark.parametrize("name", UNITS)
def test_little_is_exposed(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=40", str(FOLDER / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:]


def test_nodes_outlive_their_agent() -> None:
    """A crash, or a reload, must not end what the next agent adopts."""
    lines = (FOLDER / "litefleet-host.service").read_text().splitlines()
    assert {"KillMode=process", "Restart=always", "OOMPolicy=continue"} <= set(lines)
