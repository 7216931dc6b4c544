"""What can go wrong in the engine, in words that say what to do next."""

from __future__ import annotations

from typing import Any


class EngineError(Exception):
    """Base of every error that the engine raises on purpose. `hint` says what to do next."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class DefinitionError(EngineError):
    """A workflow or an activity is declared in a way that the engine cannot run."""

    hint = "Change the declaration; the engine has not started anything."


class PayloadError(EngineError):
    """A value does not fit the type hint it is declared with, or cannot be written as JSON."""

    hint = "Pass a value of the declared type, or change the type hint."


class PayloadTooLarge(PayloadError):
    """A value is larger than the log takes: `blob_limit`, 16 MiB of JSON if nothing else is set."""

    hint = "Keep large data in a file, a table or a bucket, and pass its name."


class LogRefused(EngineError):
    """The database file is not one this engine may open; it was left untouched."""

    hint = "Check the path. Nothing was changed in the file."


class LogInUse(LogRefused):
    """Another engine has this database file open."""

    hint = "Stop the other engine first; one file has one engine."


class LogMissing(LogRefused):
    """There is no database file, and starting empty was not asked for."""

    hint = "Restore the file first. Only a tenant's very first start may create it."


class LogDamaged(LogRefused):
    """The log does not hold together. The message says what is wrong and where."""

    hint = "Keep the file for examination and restore the log from its replica."


class DurabilityUnavailable(EngineError):
    """A durability above `async` is asked for, and there is nothing that could prove it."""

    hint = "Run the engine under its supervisor, or declare the durability as async."


class DeterminismError(EngineError):
    """A workflow did something whose outcome a replay could not repeat."""

    hint = "Move it into an activity and await that."


class Divergence(EngineError):
    """A replay did something else than the log holds. `sequence` is the log's event number,
    `logged` what the log holds there and `did` what the code did."""

    hint = "Put back the code that wrote this log, or make the new code follow it, and restart."

    def __init__(self, message: str, *, sequence: int, logged: str = "", did: str = "") -> None:
        super().__init__(message)
        self.sequence = sequence
        self.logged = logged
        self.did = did


class NotInWorkflow(EngineError):
    """A function that belongs inside a workflow was called outside of one."""

    hint = "Call it from the body of a function declared with @workflow."


class NotInActivity(EngineError):
    """A function that belongs inside an activity was called outside of one."""

    hint = "Call it from the body of a function declared with @activity."


class UnknownWorkflow(EngineError):
    """The application declares no workflow of this name."""

    hint = "Check the name, or load the application that declares it."


class VersionMissing(EngineError):
    """The execution is pinned to a version of the application that is not loaded."""

    hint = "Start the engine with that version beside the current one (--keep), or unpin it."


class UnknownQueue(EngineError):
    """The application declares no queue of this name."""

    hint = "Check the name, or load the application that declares it; GET /queues lists them."


class DuplicateRefused(EngineError):
    """An execution that has not ended has the same deduplication key on the same queue."""

    hint = "Wait for that one to end, or declare the queue with duplicates='existing'."


class BadSchedule(PayloadError):
    """A schedule is asked for that cannot be."""

    hint = "Correct what the message names; nothing was changed."


class UnknownSchedule(EngineError):
    """There is no schedule of this id."""

    hint = "Check the id; GET /schedules lists what there is."


class UnknownExecution(EngineError):
    """The log holds no execution of this id."""

    hint = "Check the id; GET /executions lists what there is."


class ExecutionConflict(EngineError):
    """The id belongs to an execution of another workflow or with another input."""

    hint = "Use another id, or the same workflow and input to get the existing execution."


class ScheduleConflict(EngineError):
    """A schedule of this id is there already, or belongs to the application's declarations."""

    hint = "Use another id, or change the one that is there."


class ExecutionClosed(EngineError):
    """The execution has ended; it takes no more messages."""

    hint = "Look at its result; start another execution to go on."


class ExecutionOpen(EngineError):
    """The execution has not ended, or another one still needs what its log says."""

    hint = "Let it end, cancel it or terminate it; then delete it."


class ExecutionHeld(EngineError):
    """The execution is held: nothing removes it until it is released."""

    hint = "Release it first: POST /executions/{id}/release, or `litefleet exec release`."


class NotProvenYet(EngineError):
    """It could not be proven that the bucket has the log so far, so nothing was removed."""

    hint = "Try again once the bucket can be reached."


class ReadTooLong(EngineError):
    """Reading the log took longer than one reader may, and was cut off."""

    hint = "Ask for less at once, or read a copy of the log."


class ExecutionDiverged(EngineError):
    """The execution's code does not follow its log; it takes no messages until it does."""

    hint = "Put back the code that wrote its log, restart, and send it again."


class UnknownToken(EngineError):
    """No event of this tenant has this token."""

    hint = "Use the token exactly as the workflow gave it."


class UnknownHandler(EngineError):
    """The workflow's code has registered nothing that answers this query or update."""

    hint = "Check the name; a handler is there once the workflow's code has declared it."


class UpdateRefused(EngineError):
    """The update's validator refused it, and nothing was logged."""

    hint = "The message says why; correct the update and send it again."


class UpdateFailed(EngineError):
    """The update was accepted, and its handler raised. `type` and `message` say what."""

    hint = "The update is in the log. Send another one if it should be tried again."

    def __init__(self, name: str, *, type: str, message: str) -> None:
        super().__init__(f"{name}: {type}: {message}")
        self.type = type
        self.message = message


class QueryFailed(EngineError):
    """The query's function raised. Nothing was changed."""

    hint = "The message says what it raised; the workflow goes on."


class StateChanged(EngineError):
    """A query, a validator or a condition tried to change the workflow, and was refused."""

    hint = "Use an update to change the workflow; a query, validator or condition only looks."


class EngineStopped(EngineError):
    """The engine is closing, closed, fenced or failed, and takes no more work."""

    hint = "Ask again; another engine may have taken over."


class ForkRefused(EngineError):
    """An execution cannot be forked as it was asked. Nothing was changed."""

    hint = "Choose another step, or reuse the results of its steps."


class ArchiveRefused(PayloadError):
    """A file is no archive of an execution, or a damaged or newer one. Nothing was changed."""

    hint = "Export the execution again."


class UnknownWebhook(EngineError):
    """The application declares no webhook at this path."""

    hint = "Check the path; GET /webhooks lists what there is."


class WebhookRefused(EngineError):
    """A request to a webhook does not prove whom it is from. Nothing was read of its body."""

    hint = "Check that sender and tenant have the same secret, and that their clocks agree."


class WebhookUnreadable(EngineError):
    """The body of a request to a webhook is not what the webhook expects."""

    hint = "Sent again as it is, it will be refused again."


class WebhookTooLarge(EngineError):
    """The body of a request to a webhook has more bytes than the webhook takes."""

    hint = "Declare the webhook with a larger max_body."


class WebhookSecretMissing(EngineError):
    """The environment has no secret to check a webhook's requests with: none is taken."""

    hint = "Set it in the tenant's environment: tenant create --env."


class WebhookFailed(EngineError):
    """The webhook's function raised, or asked for what cannot be done."""

    hint = "The engine's log has the details."


class StatementTooSlow(EngineError):
    """Reading took longer than it may: a long reader would hold up the writer."""

    hint = "Ask for less: narrow it down, use LIMIT, or allow it more seconds."


class StatementRefused(EngineError):
    """The statement is no SQL that may be run here: one SELECT, on what may be read."""

    hint = "Only read: one SELECT on the views and tables that GET /sql/schema lists."


class ReadersBusy(EngineError):
    """Too many are reading the log at once."""

    hint = "Ask again in a moment."


class StreamClosed(EngineError):
    """The workflow has closed the stream, and publishes to it again."""

    hint = "Close a stream after the last value, or use another name."


class UnknownStream(EngineError):
    """Nothing was published to a stream of this name, and the execution has ended."""

    hint = "Check the name; GET /executions/{id}/streams lists what there is."


class ActivityFailed(EngineError):
    """An activity failed for good; raised in the workflow that awaits it.

    `step` and `occurrence` say which call, `type` and `message` what it raised last, and
    `attempts` how often it was tried.
    """

    hint = ""

    def __init__(
        self, *, step: str, occurrence: int, type: str, message: str, attempts: int
    ) -> None:
        super().__init__(
            f"{step} #{occurrence} failed after {attempts} attempts: {type}: {message}"
        )
        self.step = step
        self.occurrence = occurrence
        self.type = type
        self.message = message
        self.attempts = attempts


class ChildFailed(EngineError):
    """A child execution did not complete; raised in the workflow that awaits it.

    `workflow` and `id` say which child, `status` how it ended (failed, cancelled, terminated),
    `type` and `message` why.
    """

    hint = ""

    def __init__(self, *, workflow: str, id: str, status: str, type: str, message: str) -> None:
        super().__init__(f"child {workflow} {id!r} {status}: {type}: {message}")
        self.workflow = workflow
        self.id = id
        self.status = status
        self.type = type
        self.message = message


class Interrupted(EngineError):
    """An activity was cut short by a crash of the engine too often to be tried again."""

    hint = "Find out whether it is what crashes; then retry the execution."


class ActivityCancelled(EngineError):
    """Raised by a heartbeat in an activity that nobody waits for any more: stop."""

    hint = "Stop what the activity does; its outcome is not wanted."


class ContinueAsNew(BaseException):
    """Ends a workflow's code to begin it again with this input. Not an error, nor to be caught."""

    def __init__(self, input: str) -> None:
        super().__init__("continue as new")
        self.input = input


class RetryLater(Exception):
    """Raise in an activity to be tried again after `retry_after` seconds.

    Any exception with a numeric attribute `retry_after` is treated the same way.
    """

    def __init__(self, message: str = "", *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NonRetryable(Exception):
    """Raise in an activity to fail it at once, whatever its retry policy says."""


def describe(error: BaseException) -> dict[str, Any]:
    """The form in which the log keeps an exception: its type's name and its message."""
    return {"type": type(error).__name__, "message": str(error)[:4000]}
