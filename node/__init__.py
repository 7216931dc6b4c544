"""What a tenant's code imports: `from node import activity, workflow`."""

from node.engine.context import ActivityInfo, WorkflowInfo
from node.engine.definition import Activity, Child, RetryPolicy, Workflow, activity
from node.engine.durability import Durability
from node.engine.errors import ActivityFailed, ChildFailed, NonRetryable, RetryLater
from node.engine.external import External
from node.engine.namespace import workflow
from node.engine.queue import Queue, Rate
from node.engine.signals import Signal

__all__ = [
    "Activity",
    "ActivityFailed",
    "ActivityInfo",
    "Child",
    "ChildFailed",
    "Durability",
    "External",
    "NonRetryable",
    "Queue",
    "Rate",
    "RetryLater",
    "RetryPolicy",
    "Signal",
    "Workflow",
    "WorkflowInfo",
    "activity",
    "workflow",
]
