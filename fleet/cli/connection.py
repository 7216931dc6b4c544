"""The way from the options to the fleet that they name."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

from fleet.problem import Problem

if TYPE_CHECKING:
    from backup.settings import StoreSettings
    from fleet.client import Client


def connect(name: str, address: str | None) -> Client:
    """A client for the fleet that the options name. Raises Problem when there is none."""
    from fleet.client import Client

    return Client(
        *whereabouts(name, address), by=somebody(), why=os.environ.get("LITEFLEET_WHY", "")
    )


def somebody() -> str:
    """Who gives this command, as far as this machine knows: `ada@laptop`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as containers have it
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def whereabouts(name: str, address: str | None) -> tuple[str, str]:
    """The address and the token of the fleet that the options name. Raises Problem when there is
    none."""
    from fleet import state

    configured = _configured() if address is None else None
    if configured is not None:
        return configured
    if address is not None:
        token = os.environ.get("LITEFLEET_TOKEN")
        if not token:
            raise Problem(
                "no_token",
                "An address was given, but no token.",
                "Set LITEFLEET_TOKEN to the coordinator's token.",
            )
        return address, token
    running = state.read(name)
    if running is not None:
        return running.address, running.token
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
        "Start one with `litefleet up`, or name one with LITEFLEET_ADDRESS and LITEFLEET_TOKEN, or "
        "in litefleet.toml.",
    )


def _configured() -> tuple[str, str] | None:
    """What litefleet.toml says; None where there is none, or it names no coordinator."""
    from fleet.config import find, load

    if find(None) is None:
        return None
    config = load()
    if config.address is None or config.token is None:
        return None
    return config.address, config.token.get_secret_value()


def bucket_of(name: str, s3: str | None, bucket: str, region: str) -> StoreSettings:
    """Where the fleet's bucket is: what works without the coordinator goes there itself.

    Raises Problem when it is not known.
    """
    from fleet import state
    from fleet.external import external_store

    if s3 is not None:
        state.path_of(name)
        return external_store(s3, bucket, region, name)
    running = state.read(name)
    if running is not None and running.store is not None:
        return running.store
    raise Problem(
        "no_store",
        f"No fleet named {name!r} is running on this machine, so its bucket is not known.",
        "Name the store with --s3, --bucket and --name; the access key comes from the environment.",
    )
