"""What an application declares about how long its executions are kept, and the choice of a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from node.engine.definition import Workflow, named
from node.engine.errors import DefinitionError
from node.engine.events import CLOSED_STATUS, RESERVED, Status

#: The engine's own workflow whose one execution says what was removed from the log, and its id.
RECORD: Final = RESERVED + "retention"
#: Keep for ever, where a less specific rule or the tenant's default would not.
FOREVER: Final = timedelta.max
_CLOSED: Final = frozenset(CLOSED_STATUS.values())


class Retention:
    """How long executions are kept; declared at the top level of an application.

    Those of `workflow` (a workflow or its name; None: of any) that ended as `outcome`
    ("completed", "failed", "cancelled", "terminated"; None: in any way) are removed `keep` after
    their end. What came before the current history of one that continued as new, or whose id was
    used again, is removed `history` after that history began. `timedelta.max` keeps for ever.

    Of several rules the one that names workflow and outcome comes first, then the one with the
    workflow, the one with the outcome, the one with neither, and the tenant's default. Without
    any, everything is kept. Raises DefinitionError.
    """

    def __init__(
        self,
        *,
        workflow: Workflow[..., Any] | str | None = None,
        outcome: Status | str | None = None,
        keep: timedelta | None = None,
        history: timedelta | None = None,
    ) -> None:
        self.workflow = _name(workflow)
        self.outcome = _outcome(outcome)
        self.keep = keep
        self.history = history
        if keep is None and history is None:
            raise DefinitionError(
                f"{self} says neither keep nor history",
                hint="Say how long to keep, such as keep=timedelta(days=30).",
            )
        for what, duration in (("keep", keep), ("history", history)):
            if duration is not None and duration < timedelta():
                raise DefinitionError(f"{self}: {what} is not below zero")
        if history is not None and outcome is not None:
            raise DefinitionError(
                f"{self}: a history belongs to an execution that may be open",
                hint="Declare history in a rule of its own, without an outcome.",
            )

    def __repr__(self) -> str:
        return f"Retention(workflow={self.workflow!r}, outcome={_word(self.outcome)!r})"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is shown. Durations in seconds, None where it does not say or keeps for ever."""

    workflow: str | None
    outcome: str | None
    keep: float | None
    history: float | None
    source: str
    """`application`, or `default` for the tenant's."""


@dataclass(frozen=True, slots=True)
class Default:
    """The tenant's default: how long closed executions and superseded histories are kept, None:
    for ever."""

    keep: timedelta | None = None
    history: timedelta | None = None

    @staticmethod
    def of(keep: float | None, history: float | None) -> Default:
        """The same in seconds."""
        both = (None if one is None else timedelta(seconds=one) for one in (keep, history))
        return Default(*both)


#: No default.
KEEP_ALL: Final = Default()


@dataclass(frozen=True)
class Rules:
    """All the rules of one engine, most specific first. Durations are milliseconds, None: for
    ever."""

    declared: Mapping[tuple[str | None, Status | None], Retention] = field(default_factory=dict)
    default: Default = KEEP_ALL

    @staticmethod
    def of(declared: Iterable[Retention], default: Default = KEEP_ALL) -> Rules:
        """Raises DefinitionError when two are about the same."""
        found: dict[tuple[str | None, Status | None], Retention] = {}
        for one in declared:
            if found.setdefault((one.workflow, one.outcome), one) is not one:
                raise DefinitionError(
                    f"there are two of {one}", hint="Declare one that says keep and history."
                )
        return Rules(found, default)

    def keep(self, workflow: str, outcome: Status) -> int | None:
        """How long after its end an execution is kept."""
        for key in ((workflow, outcome), (workflow, None), (None, outcome), (None, None)):
            rule = self.declared.get(key)
            if rule is not None and rule.keep is not None:
                return _milliseconds(rule.keep)
        return _milliseconds(self.default.keep)

    def history(self, workflow: str) -> int | None:
        """How long after a history began, what came before it is kept."""
        for key in ((workflow, None), (None, None)):
            rule = self.declared.get(key)
            if rule is not None and rule.history is not None:
                return _milliseconds(rule.history)
        return _milliseconds(self.default.history)

    @property
    def shortest(self) -> int | None:
        """The shortest time that any rule names; None when nothing is ever removed."""
        said = [self.default.keep, self.default.history]
        for rule in self.declared.values():
            said += [rule.keep, rule.history]
        found = [length for one in said if (length := _milliseconds(one)) is not None]
        return min(found, default=None)

    def views(self) -> list[Rule]:
        """Every rule, most specific first."""

        def order(rule: Retention) -> tuple[bool, bool, str, str]:
            none = (rule.workflow is None, rule.outcome is None)
            return (*none, rule.workflow or "", rule.outcome or "")

        rules = [
            Rule(
                one.workflow,
                _word(one.outcome),
                _seconds(one.keep),
                _seconds(one.history),
                "application",
            )
            for one in sorted(self.declared.values(), key=order)
        ]
        default = self.default
        if default != KEEP_ALL:
            seconds = (_seconds(default.keep), _seconds(default.history))
            rules.append(Rule(None, None, *seconds, "default"))
        return rules


def _name(workflow: Workflow[..., Any] | str | None) -> str | None:
    if workflow is None:
        return None
    return workflow.name if isinstance(workflow, Workflow) else named(workflow, "workflow")


def _outcome(outcome: Status | str | None) -> Status | None:
    if outcome is None:
        return None
    try:
        status = Status(outcome)
    except ValueError:
        status = Status.RUNNING
    if status not in _CLOSED:
        raise DefinitionError(
            f"Retention: {str(outcome)!r} is no outcome",
            hint=f"An outcome is one of {', '.join(sorted(_CLOSED))}.",
        )
    return status


def _word(outcome: Status | None) -> str | None:
    return None if outcome is None else outcome.value


def _milliseconds(duration: timedelta | None) -> int | None:
    if duration is None or duration == FOREVER:
        return None
    return round(duration.total_seconds() * 1000)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None or duration == FOREVER else duration.total_seconds()
