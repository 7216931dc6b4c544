"""For tests of workflows: the real engine on a file of its own, with time that skips."""

from node.testing.barrier import MemoryBarrier
from node.testing.clock import SkippingClock
from node.testing.crashes import NotDurable, Survived, crash_everywhere
from node.testing.decorator import in_lab
from node.testing.execution import Diverged, Execution, ExecutionFailed
from node.testing.lab import Lab
from node.testing.mocks import ActivityCall
from node.testing.pace import Stuck
from node.testing.rehearsal import Rehearsal
from node.testing.replays import assert_replays

__all__ = [
    "ActivityCall",
    "Diverged",
    "Execution",
    "ExecutionFailed",
    "Lab",
    "MemoryBarrier",
    "NotDurable",
    "Rehearsal",
    "SkippingClock",
    "Stuck",
    "Survived",
    "assert_replays",
    "crash_everywhere",
    "in_lab",
]
