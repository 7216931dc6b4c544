"""The runtime, and whom it runs as, that an agent's settings ask for."""

from __future__ import annotations

import os

from backup.settings import StoreSettings
from fleet.runtimes.accounts import Accounts
from fleet.runtimes.process import ProcessRuntime, clean_environment
from fleet.runtimes.protocol import Limits, Runtime
from fleet.settings import AgentSettings, BadSettings


def runtime_of(settings: AgentSettings) -> Runtime:
    """Raises `BadSettings`."""
    if settings.runtime == "process":
        return ProcessRuntime(settings.data, clean_environment(), settings.store)
    if not settings.own_users:
        raise BadSettings(
            "the runtime docker runs engines as users of their own; leave out accounts.users"
        )
    from fleet.runtimes.docker import DockerRuntime  # 10 MB that only this runtime needs

    limits = settings.limits
    return DockerRuntime(
        settings.docker,
        settings.store.prefix,
        settings.host,
        Limits(limits.memory_bytes, limits.cpus, limits.pids),
    )


def accounts_of(settings: AgentSettings) -> Accounts | None:
    """Raises `BadSettings` where only root could do what is asked for."""
    if not settings.own_users:
        return None
    if os.geteuid() != 0:
        raise BadSettings(
            "only an agent that is root can run tenants as users of their own; start it as root, "
            'or set accounts.users to "shared" with the runtime process'
        )
    settings.data.mkdir(mode=0o711, parents=True, exist_ok=True)
    closed = next((one for one in settings.data.parents if not one.stat().st_mode & 0o001), None)
    if closed is not None and settings.runtime == "process":
        raise BadSettings(
            f"tenants run as users of their own, and these cannot pass through {closed} to "
            f"{settings.data}; choose another data folder, `chmod o+x {closed}`, or set "
            'accounts.users to "shared"'
        )
    own = settings.accounts
    return Accounts(settings.data / "accounts.json", own.first, own.count)


def store_of_nodes(settings: AgentSettings) -> StoreSettings:
    """The store as nodes reach it."""
    if settings.runtime == "docker" and settings.docker.endpoint is not None:
        return settings.store.model_copy(update={"endpoint": settings.docker.endpoint})
    return settings.store
