"""An error that is meant for the user's eyes: what is wrong, and what to do next."""

from __future__ import annotations


class Problem(Exception):
    """Something that the user can understand and act on.

    `type` is the machine-readable kind, `message` one sentence, `hint` the next step.
    """

    def __init__(self, type: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.message = message
        self.hint = hint

    def as_json(self) -> dict[str, dict[str, str | None]]:
        """The same shape that the HTTP API gives errors."""
        return {"error": {"type": self.type, "message": self.message, "hint": self.hint}}
