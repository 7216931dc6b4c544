"""The operating system's users of one node, where its supervisor is root.

The engine runs as one of its own and the sidecar as another; the tenant's files belong to a group
that both are in, and nobody else. The engine can neither read what the sidecar and the supervisor
know, nor send them a signal, nor see what belongs to another tenant.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from backup.prctl import DUMPABLE, NO_NEW_PRIVS, prctl


class Users(BaseModel):
    """Numbers of users and of the group, none of which anybody else may have."""

    model_config = ConfigDict(frozen=True)

    engine: int = Field(gt=0)
    sidecar: int = Field(gt=0)
    group: int = Field(gt=0)


class Rlimits(BaseModel):
    """What an engine's processes may use, by the kernel's limits of a process or of a user. None:
    as it was. ``processes`` counts all processes and threads of the engine's user."""

    model_config = ConfigDict(frozen=True)

    files: int | None = Field(default=None, gt=0)
    processes: int | None = Field(default=None, gt=0)


def engine_home(folder: Path) -> Path:
    """Where the engine's own log lies, in a node's folder."""
    return folder / "engine"


def sidecar_home(folder: Path) -> Path:
    """Where the sidecar's configuration, socket and log lie, in a node's folder."""
    return folder / "sidecar"


def open_folders(users: Users, folder: Path, sockets: Path) -> None:
    """Let the node's users into its folders, each no further than it must. Call it while nothing
    of the tenant's runs there."""
    os.chown(folder, 0, users.group)
    os.chmod(folder, 0o710)
    # In both, a file can be removed by its owner alone: the supervisor's sockets stay its own.
    os.chown(sockets, 0, users.group)
    os.chmod(sockets, 0o1770)
    for home, user in (
        (engine_home(folder), users.engine),
        (sidecar_home(folder), users.sidecar),
    ):
        home.mkdir(mode=0o700, exist_ok=True)
        os.chown(home, user, users.group)


def hand_over(users: Users, data: Path) -> None:
    """Give the restored files to the engine and its group, before anything of the tenant's has run
    in that folder: no link in it can be the tenant's."""
    for path in data.iterdir():
        os.chmod(path, 0o660)
        os.chown(path, users.engine, users.group, follow_symlinks=False)
    os.chown(data, 0, users.group)
    os.chmod(data, 0o2770)


def let_group_in(users: Users, path: Path) -> None:
    """Let the node's group use a socket of the supervisor's."""
    os.chown(path, 0, users.group)
    os.chmod(path, 0o660)


def become_engine(users: Users, limits: Rlimits) -> None:
    """Turn this process into one of the engine's user, for good."""
    limit(limits)
    os.umask(0o007)
    os.setgroups([])
    os.setgid(users.group)
    os.setuid(users.engine)
    prctl(NO_NEW_PRIVS, 1)
    # It was made undumpable with the change of user; a program of its user may look at itself.
    prctl(DUMPABLE, 1)


def limit(limits: Rlimits) -> None:
    """Lower this process's limits; none is raised. What dies leaves no core behind."""
    wanted = [(resource.RLIMIT_CORE, 0)]
    if limits.files is not None:
        wanted.append((resource.RLIMIT_NOFILE, limits.files))
    if limits.processes is not None:
        wanted.append((resource.RLIMIT_NPROC, limits.processes))
    for kind, value in wanted:
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
