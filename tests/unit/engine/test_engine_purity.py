"""Clock and chance in a workflow are refused when the application is loaded."""

from __future__ import annotations

import asyncio
import datetime as dates
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from random import choice
from time import time as clock
from typing import Any

import pytest

from node import activity, workflow
from node.engine.application import collect
from node.engine.errors import DefinitionError
from node.engine.purity import impurities


def helper() -> float:
    return deeper()


def deeper() -> float:
    return clock()


@activity
async def allowed() -> float:
    return time.time() + random.random()


async def by_module() -> float:
    return time.time()


async def by_name() -> float:
    return clock()


async def by_class() -> object:
    return datetime.now(UTC)


async def by_module_and_class() -> object:
    return dates.datetime.utcnow(), dates.date.today()


async def by_helper() -> float:
    return helper()


async def in_a_nested_function() -> list[float]:
    def inner() -> float:
        return random.random()

    return [inner() for _ in range(3)]


async def in_a_lambda() -> Callable[[], object]:
    return lambda: uuid.uuid4()


async def by_choice() -> int:
    return choice([1, 2])


async def by_system() -> object:
    return os.urandom(3), secrets.token_hex(), random.SystemRandom()


async def by_sleeping() -> None:
    time.sleep(1)  # noqa: ASYNC251 - what is to be found


IMPURE = [
    by_module,
    by_name,
    by_class,
    by_module_and_class,
    by_helper,
    in_a_nested_function,
    in_a_lambda,
    by_choice,
    by_system,
    by_sleeping,
]


@pytest.mark.parametrize("function", IMPURE, ids=lambda function: function.__name__)
def test_clock_and_chance_are_found(function: Callable[..., Any]) -> None:
    assert impurities(function)
    with pytest.raises(DefinitionError, match="on a replay"):
        collect("app", [workflow(function)])


async def fine() -> object:
    await asyncio.sleep(1)
    await allowed()
    own = random.Random(7)
    secrets.compare_digest("a", "b")
    when = datetime.fromtimestamp(0, UTC) + dates.timedelta(seconds=1)
    return own.random(), uuid.UUID(int=1), when, workflow.now(), workflow.random().random()


def test_what_a_replay_repeats_is_fine() -> None:
    assert impurities(fine) == []
    collect("app", [workflow(fine), allowed])


def test_it_says_where_and_what_instead() -> None:
    line = by_helper.__code__.co_firstlineno
    assert line
    (found,) = impurities(by_helper)
    assert found == (
        f"deeper, line {deeper.__code__.co_firstlineno + 1}: clock gives something else on a"
        " replay; use workflow.now()"
    )
