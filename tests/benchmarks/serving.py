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


async def serve(answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Answer each request until there are no more."""
    # Libraries print what they like: it goes to the standard error.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        print(json.dumps({"ready": True}), file=out, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(json.loads(line))), file=out, flush=True)
