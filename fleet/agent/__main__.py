"""``python -m fleet.agent SETTINGS``: one host."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from backup.errors import StoreError
from backup.litestream.binary import MissingBinary, require
from backup.litestream.release import Trust
from fleet.agent.agent import Agent
from fleet.agent.api import create_app
from fleet.agent.authority import ClockSkewed
from fleet.agent.memory import AnotherAgent
from fleet.runtimes.protocol import RuntimeFailed
from fleet.serving import HttpServer, announce
from fleet.settings import AgentSettings, BadSettings


async def run(settings: AgentSettings) -> None:
    """Serve the agent's API and hold the lease until SIGTERM or SIGINT; until SIGHUP, which leaves
    the nodes to the agent that comes next."""
    agent = Agent(settings)
    server = HttpServer(
        create_app(agent, settings.token.get_secret_value()),
        settings.listen_host,
        settings.listen_port,
    )
    agent.answers_at(server.url)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    loop.add_signal_handler(signal.SIGHUP, agent.step_aside)
    await server.start()
    announce(settings.address_file, server.url)
    try:
        await agent.run()
    finally:
        await server.stop()


def main(settings: Callable[[], AgentSettings]) -> int:
    """Run one with these settings; its exit status. What is wrong is told on stderr."""
    try:
        judged = require()
        if judged.trust is Trust.WARN:
            print(f"warning: Litestream: {judged.text}", file=sys.stderr)
        asyncio.run(run(settings()))
    except (
        AnotherAgent,
        BadSettings,
        ClockSkewed,
        MissingBinary,
        RuntimeFailed,
        StoreError,
    ) as error:
        print(f"the host agent cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda: AgentSettings.read(Path(sys.argv[1]))))
