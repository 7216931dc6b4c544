"""What to do about a log that cannot be written."""

from __future__ import annotations

import apsw


def advice(error: BaseException) -> str:
    """For who reads the last words of an engine that this error has stopped."""
    if isinstance(error, apsw.FullError):
        what = "Free space on the disk that has the log"
    elif isinstance(error, apsw.ReadOnlyError):
        what = "Make the log's file system and folder writable"
    elif isinstance(error, (apsw.IOError, apsw.CorruptError)):
        what = "Look at the disk that has the log, and move the tenant to another host if it fails"
    elif isinstance(error, (apsw.BusyError, apsw.LockedError)):
        what = "End the program that holds a lock on the log"
    else:
        what = "Look at the engine's own log for what has failed"
    return f"{what}; then start the engine again. It goes on from all that it has acknowledged."
