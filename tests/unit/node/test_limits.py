"""What an agent's settings say reaches every engine."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from backup.settings import StoreSettings
from fleet.settings import LIMITS, AgentSettings
from node.engine.retention import KEEP_ALL, Default
from node.order import EngineOrder, NodeOrder


def test_every_limit_is_handed_on() -> None:
    for model in (AgentSettings, NodeOrder, EngineOrder):
        assert set(LIMITS) <= set(model.model_fields)
        for name in LIMITS:
            assert model.model_fields[name].default == AgentSettings.model_fields[name].default


def test_seconds_become_a_default() -> None:
    assert Default.of(None, None) == KEEP_ALL
    assert Default.of(60, None) == Default(keep=timedelta(minutes=1))
    assert Default.of(None, 0.5) == Default(history=timedelta(milliseconds=500))


@pytest.mark.parametrize("seconds", [-1, 1e30])
def test_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError, match="keep_closed"):
        AgentSettings.model_validate(
            {
                "store": StoreSettings.model_construct(),
                "token": "t",
                "host": "h",
                "data": "/d",
                "keep_closed": seconds,
            }
        )
