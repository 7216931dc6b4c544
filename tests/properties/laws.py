"""What holds for every run of every program, however often its engine was cut off.

Each is looked at in the log that is left and in what the outside has seen, and raises
AssertionError.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import apsw

from node.engine.archive import replay
from node.engine.beginning import standing
from node.engine.durability import Durability
from node.engine.events import (
    CLOSED_STATUS,
    CLOSING,
    INTENTS,
    RESERVED,
    Event,
    Kind,
    Status,
    opened,
)
from node.engine.external import execution_secret
from node.engine.inspection import events_of, inspect_log, owner_of
from node.engine.live import Origin
from tests.properties.interpreter import APP, ATTEMPTS
from tests.properties.world import AGAIN, World


def check(world: World, floor: Durability = Durability.ASYNC) -> None:
    """All of them."""
    histories: dict[str, list[Event]] = {}
    inspect_log(world.path)
    for event in events_of(world.path):
        histories.setdefault(event.execution, []).append(event)
    histories = {
        id: events for id, events in histories.items() if not events[0].name.startswith(RESERVED)
    }
    _the_code_follows_the_log(world.path, histories, floor)
    _nothing_is_mistaken(histories)
    _every_result_had_its_effect(world, histories)
    _tables_hold_each_transaction_once(world.path, histories)
    _attempts_are_counted(histories)
    _families_agree(histories)
    _messages_arrived_once(world, histories)


def outcome(world: World) -> dict[str, Any]:
    """What must be the same in every run of a program that can end in one way only."""
    return {
        "ended": world.ended,
        "answers": world.answers,
        "streams": world.streams,
        "steps": {
            id: [(event.kind, event.name, event.occurrence) for event in events if _is_step(event)]
            for id, events in world.events.items()
        },
    }


def _is_step(event: Event) -> bool:
    return event.kind in INTENTS or event.kind is Kind.CHUNK


def _the_code_follows_the_log(
    path: Path, histories: dict[str, list[Event]], floor: Durability
) -> None:
    owner = owner_of(path)
    for id, events in histories.items():
        replayed = replay(
            events,
            APP,
            tenant=owner.tenant,
            lineage=owner.lineage,
            secret=execution_secret(owner.secret, id),
            floor=floor,
        )
        assert replayed.ok, f"{id}: {replayed.divergence or replayed.refused}"


def _nothing_is_mistaken(histories: dict[str, list[Event]]) -> None:
    for id, events in histories.items():
        if events[-1].kind is Kind.FAILED:
            assert "Broken" not in str(events[-1].payload), f"{id}: {events[-1].payload}"


def _every_result_had_its_effect(world: World, histories: dict[str, list[Event]]) -> None:
    """At least once, under one key for each call, and never without its intent in the log."""
    had: dict[tuple[str, str, int], set[str]] = {}
    for effect in world.effects:
        had.setdefault((effect.execution, effect.step, effect.occurrence), set()).add(effect.key)
    assert all(len(keys) == 1 for keys in had.values()), "a call had two keys"
    assert len({key for keys in had.values() for key in keys}) == len(had), "a key was used twice"
    intended, done = set(), set()
    for id, events in histories.items():
        for event in events:
            if event.name == "hand_over":
                continue
            if event.kind is Kind.STEP:
                intended.add((id, event.name, event.occurrence))
            elif event.kind is Kind.STEP_COMPLETED:
                done.add((id, event.name, event.occurrence))
    assert done <= had.keys(), f"in the log without an effect: {done - had.keys()}"
    # A transactional one runs in the transaction that a crash may take back with its intent.
    loose = {call for call in had if call[1] != "table_step"} - intended
    assert not loose, f"an effect that is not in the log: {loose}"


def _tables_hold_each_transaction_once(path: Path, histories: dict[str, list[Event]]) -> None:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = db.execute("SELECT place FROM kept").fetchall()
    except apsw.SQLError:
        rows = []
    finally:
        db.close()
    logged = Counter(
        json.loads(str(event.payload))
        for events in histories.values()
        for event in events
        if event.kind is Kind.STEP_COMPLETED and event.name == "table_step"
    )
    kept = Counter(row[0] for row in rows)
    assert kept == logged, f"the table has {kept}, the log {logged}"


def _attempts_are_counted(histories: dict[str, list[Event]]) -> None:
    """No step is tried more often than its policy says."""
    for id, events in histories.items():
        tries: Counter[tuple[str, int]] = Counter()
        for event in standing(events):
            step = (event.name, event.occurrence)
            if event.kind is Kind.STEP_RETRY:
                tries[step] += 1
                said = json.loads(str(event.payload))["attempt"]
                assert said == tries[step], f"{id}: attempt {said} of {step} is {tries[step]}"
                assert said < ATTEMPTS, f"{id}: {step} is tried for ever"


def _families_agree(histories: dict[str, list[Event]]) -> None:
    """What a parent was told of a child is what became of it, and no child outlives its parent."""
    for id, events in histories.items():
        origin = Origin.of(standing(events))
        if origin.parent is None or origin.detached:
            continue
        ended = events[-1]
        parent = histories[origin.parent]
        told = [
            event
            for event in standing(parent)
            if event.kind in (Kind.CHILD_COMPLETED, Kind.CHILD_FAILED)
            and (event.name, event.occurrence) == origin.step
        ]
        assert len(told) <= 1
        if told and ended.kind in CLOSING:
            _agrees(id, told[0], ended)
        if parent[-1].kind in CLOSING:
            assert ended.kind in CLOSING, f"{id} has outlived its parent"


def _agrees(id: str, told: Event, ended: Event) -> None:
    if told.kind is Kind.CHILD_COMPLETED:
        assert ended.kind is Kind.COMPLETED, f"{id} completed, its parent was told: {ended}"
        assert told.payload == ended.payload, f"{id}: {told.payload} and {ended.payload}"
    else:
        said = json.loads(str(told.payload))
        status = CLOSED_STATUS.get(ended.kind, Status.RUNNING)
        assert said["status"] == status, f"{id} is {status}, its parent was told {said}"


def _messages_arrived_once(world: World, histories: dict[str, list[Event]]) -> None:
    found: Counter[tuple[str, str, str]] = Counter()
    for id, events in histories.items():
        for event in events:
            if event.kind is Kind.SIGNAL:
                found[id, event.name, str(opened(event.payload)[1])] += 1
    again = any(what in AGAIN for _, what, *_ in world.program.outside)
    assert world.arrived <= found.keys(), f"lost: {world.arrived - found.keys()}"
    if not again:
        twice = [message for message, count in found.items() if count > 1]
        assert not twice, f"arrived twice: {twice}"
