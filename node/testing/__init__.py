"""For tests of workflows: the real engine on a file of its own, with time that skips."""

from node.engine.testing import Rehearsal
from node.testing.barrier import MemoryBarrier
from node.testing.clock import SkippingClock
from node.testing.crashes import NotDurable, Survived, crash_everywhere
from node.testing.lab import Diverged, Execution, ExecutionFailed, Lab, Stuck, in_lab
from node.testing.mocks import MockedCall
from node.testing.replays import assert_replays

__all__ = [
    "Diverged",
    "Execution",
    "ExecutionFailed",
    "Lab",
    "MemoryBarrier",
    "MockedCall",
    "NotDurable",
    "Rehearsal",
    "SkippingClock",
    "Stuck",
    "Survived",
    "assert_replays",
    "crash_everywhere",
    "in_lab",
]
