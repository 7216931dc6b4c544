"""An application for a first tenant: `litefleet tenant create first --app greetings`."""

from __future__ import annotations

from node import activity, workflow


@activity
def compose(name: str) -> str:
    return f"Hello, {name}!"


@activity(transactional=True)
def remember(text: str) -> int:
    rows = activity.transaction()
    rows.execute("CREATE TABLE IF NOT EXISTS greetings(n INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    rows.execute("INSERT INTO greetings(text) VALUES (?)", (text,))
    [(count,)] = rows.execute("SELECT count(*) FROM greetings")
    return int(count)


@workflow
async def greet(name: str, wait: float = 0.0) -> str:
    text = await compose(name)
    await workflow.sleep(wait)
    number = await remember(text)
    return f"{text} You are number {number}."
