"""What the fleet's HTTP API shows of the operations that its coordinators have carried out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fleet.views import Page, View

BY_HEADER = "litefleet-by"
"""Header of a request with who asks, percent-encoded: `ada@laptop`."""
WHY_HEADER = "litefleet-why"
"""Header of a request with the reason, percent-encoded."""
Outcome = Literal["done", "failed", "refused"]


class OperationStep(View):
    """One step of an operation, and how many seconds it took."""

    name: str
    seconds: float


class OperationView(View):
    """One operation, recorded when it was over. It is never changed after that."""

    n: int = Field(default=0, description="its place in the record; it grows, and may leave gaps")
    id: str = Field(
        description="names the operation: it is recorded once, however often it is told"
    )
    kind: str = Field(
        description="`provision`, `failover`, `restart`, `start`, `restore`, `fork`, `upgrade`, "
        "`drill`, `copy`, `fence`, `resume`, `delete`, `undelete`, `purge`, `purge_epoch`, `hold`, "
        "`unhold` and others"
    )
    tenant: str | None = None
    by: str = Field(description="who asked; `coordinator` for what it did of its own accord")
    why: str = ""
    began_at: float
    ended_at: float
    epoch_before: int | None = None
    epoch_after: int | None = None
    from_host: str | None = None
    to_host: str | None = None
    steps: list[OperationStep] = Field(default_factory=list, description="in order")
    outcome: Outcome = Field(
        default="done", description="`done`; `failed`; `refused`: nothing was changed"
    )
    error: str = ""
    data: dict[str, Any] = Field(default_factory=dict, description="more, for programs")

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


class HistoryPage(Page[OperationView]):
    """Operations in the order in which they ended."""
