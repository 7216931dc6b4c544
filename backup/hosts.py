"""What is wanted of a host: whether it is given tenants, and whether it keeps those that it has."""

from __future__ import annotations

from backup.records import Record


class HostRecord(Record):
    """``host.json``, beside the host's lease and written by operators only.

    ``cordoned``: it is given no tenant that it does not have. ``draining``: those that it has go
    to other hosts, too. ``asked_at`` is in unix seconds; ``why`` is what the operator said.
    """

    host: str
    cordoned: bool = False
    draining: bool = False
    asked_at: float = 0.0
    why: str = ""


def cordon(now: HostRecord | None, host: str, *, drain: bool, at: float, why: str) -> HostRecord:
    """The record of a host that takes no more tenants, and with ``drain`` keeps none. A host that
    is being drained goes on with that."""
    now = now or HostRecord(host=host, rev=0)
    return now.model_copy(
        update=now.succeeded_by(
            cordoned=True, draining=drain or now.draining, asked_at=at, why=why or now.why
        )
    )


def uncordon(now: HostRecord | None, *, at: float) -> HostRecord | None:
    """The record of a host that takes tenants; None where it does already."""
    if now is None or not (now.cordoned or now.draining):
        return None
    return now.model_copy(
        update=now.succeeded_by(cordoned=False, draining=False, asked_at=at, why="")
    )
