"""What an error means for the user: a message and what to do next."""

from __future__ import annotations

import re

from fleet.problem import Problem


def problem_of(error: Exception) -> Problem:
    """The problem that an error is; one of type `unexpected` for what should not happen."""
    if isinstance(error, Problem):
        return error
    from pydantic import ValidationError

    from backup.errors import StoreError
    from fleet import state
    from node.client.errors import LitefleetError, Unreachable
    from node.engine.errors import EngineError
    from restore.errors import Damaged, RestoreFailed

    if isinstance(error, state.NameTaken):
        return Problem(
            "name_taken",
            f"{str(error)[0].upper()}{str(error)[1:]}.",
            "Stop it with Ctrl-C where it runs, or start another one beside it with --name.",
        )
    if isinstance(error, state.BadName):
        return Problem("bad_name", f"{error}.", "Choose another with --name.")
    if isinstance(error, Damaged):
        return Problem(
            "damaged",
            f"{_sentence(error)}.",
            "Nothing was changed. `litefleet verify` names the files; --at takes an earlier time, "
            "--in-spite-of-damage the newest state before the damage.",
        )
    if isinstance(error, RestoreFailed):
        return Problem("restore_failed", f"{_sentence(error)}.", "Nothing was changed.")
    if isinstance(error, StoreError):
        return Problem(
            "store_error",
            f"The store did not answer as it should: {error}.",
            "Check that it is there and that the access key reaches the bucket: "
            "`litefleet doctor --s3 URL` does.",
        )
    if isinstance(error, Unreachable):
        return Problem(
            error.type,
            _sentence(error.message) + ".",
            "Is it running? `litefleet up` starts a fleet and `litefleet dev` an engine; "
            "LITEFLEET_ADDRESS or LITEFLEET_URL points to another.",
        )
    if isinstance(error, LitefleetError):
        return Problem(error.type, _sentence(error.message), error.hint or None)
    if isinstance(error, EngineError):
        return Problem(_snake(type(error).__name__), f"{_sentence(error)}.", error.hint or None)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem("bad_value", f"{where}: {first['msg']}.")
    if isinstance(error, OSError) and error.filename is not None:
        return Problem(
            "file_error",
            f"{error.filename}: {error.strerror}.",
            "Check that the folder exists, can be written and has space left.",
        )
    return Problem(
        "unexpected",
        f"{type(error).__name__}: {error}",
        "This should not happen: run it again with LITEFLEET_DEBUG=1 and report what it shows.",
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _sentence(error: Exception | str) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
