"""What the engine's API shows of the engine's own values: all of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel

from node.api_models import ForkedFromShown, PlaceShown, StackShown, WaitingShown, WaitShown
from node.api_models_application import QueueShown, VersionShown, WorkflowShown
from node.api_models_forks import PlannedShown
from node.api_models_schedules import ScheduleFields
from node.engine.describing import WorkflowDescription
from node.engine.fork_preview import PlannedStep
from node.engine.forked import ForkedFrom
from node.engine.queues import QueueView
from node.engine.releases import VersionView
from node.engine.schedule_control import ScheduleView
from node.engine.stacks import Place, Stack
from node.engine.waiting import Wait, Waiting

#: With what is not shown of each, on purpose.
PAIRS: list[tuple[Any, type[BaseModel], set[str]]] = [
    (Wait, WaitShown, set()),
    (Waiting, WaitingShown, {"rowid"}),
    (Stack, StackShown, set()),
    (Place, PlaceShown, set()),
    (PlannedStep, PlannedShown, set()),
    (ForkedFrom, ForkedFromShown, set()),
    (QueueView, QueueShown, set()),
    (VersionView, VersionShown, set()),
    (ScheduleView, ScheduleFields, set()),
    (WorkflowDescription, WorkflowShown, set()),
]


def hidden(value: Any, model: type[BaseModel]) -> set[str]:
    """Fields of a value that its model would pass over in silence."""
    return {field.name for field in fields(value)} - set(model.model_fields)


@pytest.mark.parametrize(("value", "model", "meant"), PAIRS, ids=lambda one: str(one)[:40])
def test_nothing_is_passed_over(value: Any, model: type[BaseModel], meant: set[str]) -> None:
    assert hidden(value, model) == meant


def test_what_is_passed_over_is_noticed() -> None:
    assert "wakes" in hidden(Wait, PlaceShown)
