"""The way from the options to the fleet that they name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleet.problem import Problem

if TYPE_CHECKING:
    from fleet.client import Client


def connect(name: str, address: str | None) -> Client:
    """A client for the fleet that the options name. Raises Problem when there is none."""
    from fleet import state
    from fleet.client import Client

    if address is not None:
        token = os.environ.get("LITEFLEET_TOKEN")
        if not token:
            raise Problem(
                "no_token",
                "An address was given, but no token.",
                "Set LITEFLEET_TOKEN to the coordinator's token.",
            )
        return Client(address, token)
    running = state.read(name)
    if running is not None:
        return Client(running.address, running.token)
    others = [one.name for one in state.running()]
    if others:
        raise Problem(
            "no_fleet",
            f"No fleet named {name!r} is running on this machine.",
            f"These are: {', '.join(others)} (choose one with --name).",
        )
    raise Problem(
        "no_fleet",
        "No fleet is running on this machine.",
        "Start one with `litefleet up`, or name one with LITEFLEET_ADDRESS and LITEFLEET_TOKEN.",
    )
