"""Deciding what an execution begins with that is made from another one: no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from node.engine.beginning import Beginning, Post, compact
from node.engine.context import LONGEST_ID, child_id
from node.engine.events import (
    BEGINNINGS,
    CLOSING,
    COMMANDS,
    DELIVERIES,
    DONE,
    GIVEN_UP,
    INTENTS,
    MESSAGES,
    NOTES,
    OUTCOMES,
    TIMER_STEP,
    Event,
    Kind,
    Payload,
    opened,
)
from node.engine.fork_source import Cut, Source, cut_at
from node.engine.forked import (
    Forked,
    ForkMode,
    Kept,
    KeptOutcome,
    Letter,
    Recorded,
    Stretch,
    forked_of,
)
from node.engine.queue_ticket import Ticket, unbegun
from node.engine.steps import Command, Step

#: What an operator did to the other execution, or what is written anew.
_LEFT_OUT: Final = frozenset(
    {Kind.ORIGIN, Kind.KEPT, Kind.DEQUEUED, Kind.PAUSED, Kind.RESUMED}
    | {Kind.PINNED, Kind.UNPINNED}
    | BEGINNINGS
)
#: A row of a log: kind, name, occurrence and payload.
Row = tuple[Kind, str, int, Payload]
#: What the code does beyond what stands; raises Divergence where it does not follow that.
Rehearse = Callable[["Fork"], Sequence[Command]]


@dataclass(frozen=True, slots=True)
class Fork:
    """What an execution begins with. `ran` are the steps of the other one, `again` those that
    stand as called and are run again."""

    workflow: str
    beginning: Beginning
    kept: Kept = field(default_factory=Kept)
    stands: tuple[Row, ...] = ()
    ticket: Ticket | None = None
    again: tuple[Step, ...] = ()
    tokens: tuple[Step, ...] = ()
    """The external events that its code waits for."""
    dropped: tuple[Step, ...] = ()
    """Steps that the other one called after what stands."""

    @property
    def forked(self) -> Forked:
        """Where it comes from."""
        assert self.beginning.forked is not None
        return self.beginning.forked

    def rows(self, origin: str | None) -> Iterator[Row]:
        """Its first events."""
        yield Kind.FORKED, self.workflow, 1, self.beginning.payload()
        yield Kind.ORIGIN, self.workflow, 1, origin or "{}"
        yield Kind.KEPT, self.workflow, 1, self.kept.payload()
        yield from self.stands

    def history(self, key: str, origin: str | None = None, at: int = 0) -> list[Event]:
        """Its first events as if they were in a log."""
        return [Event(number, key, *row, at, 0) for number, row in enumerate(self.rows(origin), 1)]


def exact(
    source: Source,
    key: str,
    at: str | int | None,
    *,
    messages: bool,
    paused: bool,
    now: int,
    rehearse: Rehearse,
) -> Fork:
    """Go on from a step of `source` as the execution `key`, at `now` (unix milliseconds). Raises
    ForkRefused, and what `rehearse` raises."""
    cut = cut_at(source, at)
    stands = [event for event in source.history if event.sequence < cut.sequence]
    begun = unbegun(stands) if stands else None
    fork = _exact(source, key, cut, stands, begun, messages=messages, paused=paused, now=now)
    if begun is None:
        return fork
    beyond = rehearse(fork)
    after = [event for event in source.history if event.sequence >= cut.sequence]
    missing = [event for event in after if event.kind in COMMANDS][: len(beyond)]
    if beyond and list(map(_said, missing)) == list(map(_said, beyond)):
        # What the code did before it was told what comes next, though the log has it after.
        stands += missing
        fork = _exact(source, key, cut, stands, begun, messages=messages, paused=paused, now=now)
        rehearse(fork)
    return fork


def _exact(
    source: Source,
    key: str,
    cut: Cut,
    stands: Sequence[Event],
    begun: int | None,
    *,
    messages: bool,
    paused: bool,
    now: int,
) -> Fork:
    if begun is None:
        return _anew(source, key, stands, messages=messages, paused=paused)
    before = Beginning.of(source.first)
    # Signals that came before its queue let it go are there when the code begins.
    early = [event for event in stands[1 : max(begun, 1)] if event.kind is Kind.SIGNAL]
    began, past = stands[begun], stands[max(begun, 1) :]
    ended = {_step(event) for event in past if event.kind in OUTCOMES | GIVEN_UP}
    called = [event for event in past if event.kind in INTENTS and not _detached(event)]
    waits = {_step(event): event for event in called if _step(event) not in ended}
    kept = source.kept
    outcomes = _outcomes(source.history, {step for step in waits if step != cut.step}, past)
    told_of = {one[1:3] for one in outcomes} | {cut.step}
    outcomes += [one for one in kept.outcomes if one[1:3] in waits and one[1:3] not in told_of]
    again = [step for step in waits if step not in {one[1:3] for one in outcomes}]
    inherited = [
        event
        for event in past
        if event.kind not in _LEFT_OUT | CLOSING
        and not (event.kind in NOTES and _step(event) in waits)
    ]
    post = _post(before, early)
    counted, keys = dict(post.counts), tuple(post.keys)
    for event in inherited:
        if event.kind in MESSAGES:
            post.add(event.kind, event.name, opened(event.payload)[1])
    last = max(event.sequence for event in stands)
    letters: list[Letter] = []
    for event in source.history:
        if messages and event.kind in MESSAGES and event.sequence >= cut.sequence:
            number = post.add(event.kind, event.name, opened(event.payload)[1])
            letters.append(Letter(event.kind, event.name, number, str(event.payload)))
    known = {event.sequence for event in stands}
    later = [
        event
        for event in source.history
        if event.sequence >= cut.sequence and event.sequence not in known
    ]
    renamed, fresh = _children(source, key, inherited, later, again)
    beginning = replace(
        before,
        run=1,
        posted=counted,
        signals=(*before.signals, *_signals(early)),
        keys=keys,
        paused=paused,
        forked=Forked(
            source.origin(ForkMode.EXACT, last),
            True,
            *_commits(source, [began, *inherited]),
            renamed,
            source.schedule,
        ),
    )
    told = max((event.at for event in stands if event.kind in DELIVERIES), default=began.at)
    # What is cut off has had its time; where nothing is, time goes on.
    ahead = now - told if cut.sequence <= source.history[-1].sequence else 0
    return Fork(
        source.workflow,
        beginning,
        Kept(tuple(outcomes), kept.results, tuple(letters)),
        tuple(_row(event, fresh, again, now, ahead) for event in inherited),
        source.ticket,
        tuple(step for step in again if step[0] != TIMER_STEP),
        tuple(step for step in again if waits[step].kind is Kind.EXTERNAL),
        tuple(
            _step(event) for event in later if event.kind in INTENTS and event.name != TIMER_STEP
        ),
    )


def _anew(
    source: Source, key: str, stands: Sequence[Event], *, messages: bool, paused: bool
) -> Fork:
    """Nothing of it stands: its code begins."""
    before = Beginning.of(source.first)
    told = source.history if messages else stands
    origin = source.origin(ForkMode.EXACT, stands[-1].sequence if stands else 0)
    forked = Forked(
        origin, renamed=_children(source, key, (), source.history)[0], schedule=source.schedule
    )
    signals = (*before.signals, *_signals(told))
    beginning = replace(before, run=1, signals=signals, paused=paused, forked=forked)
    dropped = [event for event in source.history if event.kind in INTENTS]
    return Fork(
        source.workflow,
        beginning,
        ticket=source.ticket,
        dropped=tuple(_step(event) for event in dropped if event.name != TIMER_STEP),
    )


def _post(before: Beginning, early: Iterable[Event]) -> Post:
    post = Post(dict(before.posted), dict.fromkeys(before.keys, 0))
    for event in early:
        post.add(event.kind, event.name, opened(event.payload)[1])
    return post


def _signals(events: Iterable[Event]) -> list[tuple[str, str]]:
    return [(one.name, opened(one.payload)[0]) for one in events if one.kind is Kind.SIGNAL]


def record(source: Source) -> Fork:
    """All of `source`, closed: as it ended, or terminated if it had not."""
    begun = unbegun(source.history)
    before = Beginning.of(source.first)
    began, past = source.history[begun or 0], source.history[max(begun or 0, 1) :]
    early = [one for one in source.history[1 : max(begun or 0, 1)] if one.kind is Kind.SIGNAL]
    inherited = [event for event in past if event.kind not in _LEFT_OUT]
    rows: list[Row] = [(one.kind, one.name, one.occurrence, one.payload) for one in inherited]
    if source.closed is None:
        words = compact("it was open when it was exported; this is its record")
        rows.append((Kind.TERMINATED, source.workflow, 1, words))
    post = _post(before, early)
    forked = forked_of(source.first)
    beginning = replace(
        before,
        run=1,
        posted=dict(post.counts),
        signals=(*before.signals, *_signals(early)),
        keys=tuple(post.keys),
        paused=False,
        forked=Forked(
            source.origin(ForkMode.RECORD, source.history[-1].sequence),
            begun is not None,
            *_commits(source, [began, *inherited]),
            {} if forked is None else forked.renamed,
            source.schedule,
        ),
    )
    ticket = source.ticket if begun is None else None
    return Fork(source.workflow, beginning, stands=tuple(rows), ticket=ticket)


def reuse(
    source: Source, key: str, input: str, at: str | int | None, *, messages: bool, paused: bool
) -> Fork:
    """Begin anew, as the execution `key`, with what `source` was given and the results that it
    had, those of steps that ended before `at` where that is given. Raises ForkRefused."""
    before = Beginning.of(source.first)
    history = source.history
    if at is not None:
        cut = cut_at(source, at)
        history = [event for event in history if event.sequence < cut.sequence]
    given = (*before.signals, *_signals(source.history)) if messages else ()
    origin = source.origin(ForkMode.REUSE, source.history[-1].sequence)
    forked = Forked(
        origin, renamed=_children(source, key, (), source.history)[0], schedule=source.schedule
    )
    beginning = Beginning(input, signals=given, paused=paused, forked=forked)
    kept = Kept(results=(*results(history), *source.kept.results))
    return Fork(source.workflow, beginning, kept, ticket=source.ticket)


def results(history: Iterable[Event]) -> list[Recorded]:
    """What the activities of a history have returned, in the order of their calls."""
    inputs: dict[Step, str] = {}
    versions: dict[Step, str] = {}
    done: dict[Step, Payload] = {}
    for event in history:
        if event.kind is Kind.STEP:
            inputs[_step(event)] = str(event.payload)
        elif event.kind is Kind.STEP_VERSION:
            versions[_step(event)] = str(event.payload)
        elif event.kind in (Kind.STEP_COMPLETED, Kind.STEP_REUSED):
            done[_step(event)] = event.payload
    return [
        Recorded(step[0], versions.get(step), given, done[step])
        for step, given in inputs.items()
        if step in done
    ]


def _outcomes(
    history: Sequence[Event], steps: set[Step], past: Sequence[Event]
) -> list[KeptOutcome]:
    """How the steps that were called before ended well after it."""
    known = {event.sequence for event in past}
    versions: dict[Step, str] = {}
    found: list[KeptOutcome] = []
    for event in history:
        step = _step(event)
        if event.kind is Kind.STEP_VERSION:
            versions[step] = str(event.payload)
        elif event.kind in DONE and step in steps and event.sequence not in known:
            kind = Kind.STEP_REUSED if event.kind is Kind.STEP_COMPLETED else event.kind
            found.append(KeptOutcome(kind, *step, event.payload, versions.get(step)))
    return found


def _commits(
    source: Source, events: Sequence[Event]
) -> tuple[tuple[tuple[int, int], ...], tuple[Stretch, ...]]:
    """When the code was told these events, the first of which began it, and who it was then."""
    forked = forked_of(source.first)
    tokens = any(event.kind is Kind.EXTERNAL for event in events)
    times: list[tuple[int, int]] = []
    past: list[Stretch] = []
    commit: int | None = None
    for number, event in enumerate(events):
        if commit is None or event.commit != commit:
            times.append((0, event.at))
            who = (forked and forked.identity(event.commit)) or source.identity
            if not tokens:
                who = replace(who, secret=b"")
            if past and past[-1].identity == who:
                past[-1] = past[-1]._replace(commits=past[-1].commits + 1)
            else:
                past.append(Stretch(1, who))
            commit = event.commit
        if number:
            times[-1] = (times[-1][0] + 1, times[-1][1])
    return tuple(times), tuple(past)


def _children(
    source: Source,
    key: str,
    inherited: Iterable[Event],
    dropped: Iterable[Event],
    again: Iterable[Step] = (),
) -> tuple[dict[str, str], dict[Step, str]]:
    """The ids of children that the code gives and they do not get, since one execution has one
    parent; and the new ids of those that are started `again`."""
    forked = forked_of(source.first)
    before = {} if forked is None else forked.renamed
    given = {new: old for old, new in before.items()}
    owners = {source.identity.execution}
    owners |= {one.identity.execution for one in forked.past} if forked is not None else set()
    renamed: dict[str, str] = {}
    fresh: dict[Step, str] = {}

    def new_id(old: str, step: Step) -> str:
        made_up = old in {child_id(owner, *step) for owner in owners}
        id = f"{old}~{key}"
        return child_id(key, *step) if made_up or len(id) > LONGEST_ID else id

    for event in inherited:
        if event.kind is Kind.CHILD:
            id, step = _child(event), _step(event)
            old = given.get(id, id)
            if step in again:
                id = fresh[step] = new_id(old, step)
            if id != old:
                renamed[old] = id
    for event in dropped:
        if event.kind is Kind.CHILD:
            old = given.get(_child(event), _child(event))
            renamed.setdefault(old, new_id(old, _step(event)))
    return renamed, fresh


def _child(event: Event) -> str:
    return str(json.loads(str(event.payload))["id"])


def _row(
    event: Event, fresh: Mapping[Step, str], again: Iterable[Step], now: int, ahead: int
) -> Row:
    payload = event.payload
    if event.kind is Kind.CHILD and _step(event) in fresh:
        body, old = str(payload), '{"id":' + json.dumps(_child(event))
        assert body.startswith(old)
        payload = '{"id":' + json.dumps(fresh[_step(event)]) + body[len(old) :]
    elif _step(event) in again and event.kind is Kind.TIMER:
        # One that is over has from now on the time that was left of it.
        deadline = int(str(payload))
        payload = deadline + ahead if deadline <= now else deadline
    return event.kind, event.name, event.occurrence, payload


def _detached(event: Event) -> bool:
    return event.kind is Kind.CHILD and "detached" in json.loads(str(event.payload))


def _step(event: Event) -> Step:
    return event.name, event.occurrence


def _said(one: Event | Command) -> Row:
    timer = one.kind is Kind.TIMER
    return one.kind, one.name, one.occurrence, None if timer else one.payload
