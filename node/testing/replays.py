"""Whether code still follows what was recorded."""

from __future__ import annotations

from pathlib import Path

from node.engine.application import Application
from node.engine.archive import Archive, replay, replay_archive
from node.engine.events import RESERVED, Event
from node.engine.inspection import events_of, inspect_log


def assert_replays(recorded: Archive | Path | str, application: Application) -> int:
    """Follow an archive, or every execution of a closed log, with an application's code; how
    many executions that were. Nothing has an effect.

    An archive is one, or the path of its file, ending in `.json`. Executions of a log that made
    external events or wait for them are followed with other tokens: use their archives.
    Raises AssertionError where the code leaves the log, UnknownWorkflow, and what cannot be read:
    LogMissing, LogRefused, LogDamaged, PayloadError.
    """
    if isinstance(recorded, Archive):
        replayed = [replay_archive(recorded, application)]
    elif str(recorded).endswith(".json"):
        return assert_replays(Archive.read(Path(recorded).read_bytes()), application)
    else:
        about = inspect_log(recorded)
        histories: dict[str, list[Event]] = {}
        for event in events_of(recorded):
            histories.setdefault(event.execution, []).append(event)
        replayed = [
            replay(events, application, tenant=about.tenant, lineage=about.lineage)
            for events in histories.values()
            # The engine's own, which the application does not have.
            if not events[0].name.startswith(RESERVED)
        ]
    left = [f"{one.execution}: {one.divergence or one.refused}" for one in replayed if not one.ok]
    if left:
        raise AssertionError("the code does not follow the log\n" + "\n".join(left))
    return len(replayed)
