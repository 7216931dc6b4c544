"""Litestream's log is bounded though the process keeps its file open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backup.litestream.sidecar import Sidecar


def test_a_large_log_is_put_aside_and_goes_on(tmp_path: Path) -> None:
    sidecar: Any = Sidecar.__new__(Sidecar)
    sidecar._log = tmp_path / "litestream.log"
    sidecar.bound_log(10)  # there is none yet
    writer = os.open(sidecar._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(writer, b"small")
    sidecar.bound_log(10)
    assert not (tmp_path / "litestream.log.1").exists()
    os.write(writer, b" and then large")
    sidecar.bound_log(10)
    os.write(writer, b"next")
    os.close(writer)
    assert (tmp_path / "litestream.log.1").read_bytes() == b"small and then large"
    assert sidecar._log.read_bytes() == b"next"
