"""A small application for tests of sleep: a timer, a message, and a webhook."""

from __future__ import annotations

from node import Bearer, Request, Send, webhook, workflow


@workflow
async def nap(seconds: float) -> str:
    """Wait for a timer."""
    await workflow.sleep(seconds)
    return "rested"


@workflow
async def wait() -> str:
    """Wait for a message, for as long as it takes."""
    return str(await workflow.receive("go"))


@webhook("/go", verify=Bearer(secret_env="SECRET"))
def go(request: Request) -> Send:
    """Send the message."""
    return Send("waiting", "go", request.json(), key="once")
