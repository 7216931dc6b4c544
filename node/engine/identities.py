"""Whose a log is, and was: a tenant that was forked goes on under another name.

What an execution's code is told of itself, its random numbers included, comes from the identity
under which it began; told another one, it would not follow its own log. What begins after the fork
has the new one, and so has every idempotency key from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

#: The row of litefleet_meta that holds them.
INHERITED: Final = "inherited"


class Inherited(NamedTuple):
    """Whose the log was up to an event."""

    until: int
    tenant: str
    lineage: str


@dataclass(frozen=True, slots=True)
class Identities:
    """Whose a log is now, and whose it was before, oldest first."""

    tenant: str
    lineage: str
    inherited: tuple[Inherited, ...] = ()

    @staticmethod
    def of(meta: Mapping[str, Any]) -> Identities:
        """Read them from a log's own description. Raises ValueError, KeyError, TypeError."""
        rows = json.loads(meta.get(INHERITED, "[]"))
        inherited = tuple(Inherited(int(until), str(t), str(of)) for until, t, of in rows)
        return Identities(meta["tenant"], meta["lineage"], inherited)

    @property
    def first(self) -> tuple[str, str]:
        """The tenant and the lineage that the log began with."""
        return self.at(1) if self.inherited else (self.tenant, self.lineage)

    def at(self, began: int) -> tuple[str, str]:
        """The tenant and the lineage of what began with this event; 0 for what begins now."""
        for one in self.inherited if began else ():
            if began <= one.until:
                return one.tenant, one.lineage
        return self.tenant, self.lineage

    def forked(self, until: int, tenant: str, lineage: str) -> Identities:
        """These, with another owner after event `until`."""
        before = Inherited(until, self.tenant, self.lineage)
        return Identities(tenant, lineage, (*self.inherited, before))

    def row(self) -> str:
        """What litefleet_meta holds of those before."""
        return json.dumps([list(one) for one in self.inherited])
