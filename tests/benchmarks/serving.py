"""A participant's side of a contest: requests come in as lines of JSON, answers go out.

Only the standard library, since it also runs in the competitors' environments.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

# Libraries, and the servers that they start, print what they like: it goes to the standard error.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


async def serve(answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Answer each request until there are no more."""
    _tell({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _tell(await answer(json.loads(line)))


def _tell(body: dict[str, Any]) -> None:
    print(json.dumps(body), file=_answers, flush=True)
