"""What a tenant's code imports: `from node import activity, workflow`."""

from node.engine.context import ActivityInfo, WorkflowInfo
from node.engine.definition import Activity, Child, RetryPolicy, Workflow, activity
from node.engine.durability import Durability
from node.engine.errors import ActivityFailed, ChildFailed, NonRetryable, RetryLater
from node.engine.external import External
from node.engine.namespace import workflow
from node.engine.queue import Queue, Rate
from node.engine.retention import Retention
from node.engine.schedule import Overlap, Schedule
from node.engine.signals import Signal
from node.engine.stream_publisher import ActivityStream, WorkflowStream
from node.engine.webhook_checks import (
    Bearer,
    GitHub,
    Hmac,
    Slack,
    StandardWebhooks,
    Stripe,
    Unsigned,
)
from node.engine.webhook_request import Request
from node.engine.webhooks import Ignore, Reply, Send, Start, webhook

__all__ = [
    "Activity",
    "ActivityFailed",
    "ActivityInfo",
    "ActivityStream",
    "Bearer",
    "Child",
    "ChildFailed",
    "Durability",
    "External",
    "GitHub",
    "Hmac",
    "Ignore",
    "NonRetryable",
    "Overlap",
    "Queue",
    "Rate",
    "Reply",
    "Request",
    "Retention",
    "RetryLater",
    "RetryPolicy",
    "Schedule",
    "Send",
    "Signal",
    "Slack",
    "StandardWebhooks",
    "Start",
    "Stripe",
    "Unsigned",
    "Workflow",
    "WorkflowInfo",
    "WorkflowStream",
    "activity",
    "webhook",
    "workflow",
]
