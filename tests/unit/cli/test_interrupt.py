"""A signal stops a program once, and lets it clean up."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fleet.interrupt import Interrupted, run


def test_a_program_that_ends_by_itself_gives_its_result() -> None:
    async def program() -> int:
        return 7

    assert run(program()) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_it_and_further_ones_do_not_disturb_the_clean_up(
    number: signal.Signals,
) -> None:
    cleaned: list[str] = []
    told: list[None] = []

    async def program() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.append("done")

    with pytest.raises(Interrupted) as caught:
        run(program(), on_signal=lambda: told.append(None))
    assert caught.value.signal is number
    assert cleaned == ["done"]
    assert len(told) == 2


def test_an_error_stays_what_it_is() -> None:
    async def program() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(program())
