"""Programs that an engine once did not survive, as they were found and printed."""

from __future__ import annotations

import pytest

from tests.properties.programs import Program
from tests.properties.ways import survives

FOUND = {
    "a child in its parent's queue, cancelled with it, got the turn that its parent gave back": (
        Program(["child", ["count"], "queued"], workflow="queued")
    ),
    "clean-up that awaits what is cancelled ended the engine when its code was dropped": (
        Program(["gather", ["finally", ["receive", "go", None], ["quit"]], ["fail"]])
    ),
    "clean-up that goes on with a new input ended the engine when its code was dropped": (
        Program(["gather", ["finally", ["receive", "go", None], ["again"]], ["fail"]])
    ),
}


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_found_before(program: Program) -> None:
    survives(program, thorough=True)
