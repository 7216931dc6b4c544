"""What a run was made on, for whoever reads its figures."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

import apsw
import psutil

from backup.litestream import binary as litestream


def conditions() -> dict[str, Any]:
    """The machine and the software, and how busy the machine was when asked."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": len(os.sched_getaffinity(0)),
        "memory_mb": psutil.virtual_memory().total >> 20,
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "litestream": litestream.VERSION,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
