"""A node's supervisor as first process of a container: ``python -m node.container SOCKETS LOG``.

When it ends, for whatever reason, the kernel ends everything else in the container.
"""

from __future__ import annotations

import sys
from pathlib import Path

from backup.client import warm_up
from node.life import supervise
from node.processes import log_to


def main(sockets: Path, log: str) -> None:
    log_to(log)
    warm_up()
    supervise(sockets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
