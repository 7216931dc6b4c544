"""The metrics of one engine: what they are called, and what they are now.

Counting is the engine's (`tally`); everything else is looked at when somebody asks. The same
families are shown to Prometheus and sent by OpenTelemetry.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from node.engine.engine import Engine
from node.engine.events import CLOSED_STATUS, Kind
from node.engine.tally import Histogram

#: Names of one label that are shown; the rest is put together as OTHER.
MOST_NAMES: Final = 200
OTHER: Final = "(other)"

Labels = tuple[str, ...]
Kinds = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A family: counters never fall while an engine lives, and begin at 0 with it."""

    name: str
    kind: Kinds
    help: str
    labels: Labels = ()


@dataclass(slots=True)
class Family:
    """A metric with its values by the values of its labels."""

    metric: Metric
    values: dict[Labels, float] = field(default_factory=dict)
    histograms: dict[Labels, Histogram] = field(default_factory=dict)


_counters = (
    ("executions_started_total", "executions that began, an id used again included", "workflow"),
    ("executions_closed_total", "executions that ended", "workflow outcome"),
    ("executions_continued_total", "continue_as_new", "workflow"),
    ("executions_reopened_total", "executions that had failed and are tried again", "workflow"),
    ("steps_called_total", "activities that workflows called", "activity"),
    ("attempts_total", "attempts of activities that ended, in the log", "activity outcome"),
    ("events_total", "events of the log, by kind", "kind"),
    ("barriers_total", "answers of the durability barrier", "outcome"),
    ("cpu_seconds_total", "processor time of the engine's process", ""),
)
_gauges = (
    ("executions_open", "executions that have not ended, by what they are at", "workflow state"),
    ("attempts_running", "attempts of activities under way", ""),
    ("queue_waiting", "executions that wait for their turn", "queue"),
    ("queue_running", "executions that have their turn", "queue"),
    ("queue_oldest_wait_seconds", "how long the one waits that waits the longest", "queue"),
    ("queue_paused", "1 while the queue is paused", "queue"),
    ("timer_lag_seconds", "how late the earliest timer, retry or turn of a queue is", ""),
    ("loop_lag_seconds", "the longest that the event loop was late of late", ""),
    ("log_sequence", "the newest event of the log", ""),
    ("log_proven_sequence", "the newest event that the engine knows is in the bucket", ""),
    ("log_bytes", "size of the log's file, without its WAL", ""),
    ("wal_bytes", "size of the WAL", ""),
    ("resident_bytes", "memory of the engine's process, pages shared with others included", ""),
    ("started_at_seconds", "when the engine opened the log, unix time", ""),
    ("epoch", "the engine's epoch", ""),
)
_histograms = (
    (
        "attempt_seconds",
        "length of attempts of activities, without what they waited for",
        "activity",
    ),
    ("commit_seconds", "time that the log's file took to be synced", ""),
    ("commit_events", "events of a commit", ""),
    ("barrier_seconds", "time until the durability barrier answered", ""),
    ("replay_seconds", "time to replay an open execution when the log was opened", ""),
)


def _declared() -> Iterator[tuple[str, Metric]]:
    kinds: tuple[tuple[Kinds, tuple[tuple[str, str, str], ...]], ...] = (
        ("counter", _counters),
        ("gauge", _gauges),
        ("histogram", _histograms),
    )
    for kind, some in kinds:
        for name, help, labels in some:
            yield name, Metric(f"litefleet_{name}", kind, help, tuple(labels.split()))


METRICS: Final[Mapping[str, Metric]] = dict(_declared())

_ENDS: Final = {
    Kind.STEP_COMPLETED: "completed",
    Kind.STEP_FAILED: "failed",
    Kind.STEP_RETRY: "retried",
    Kind.STEP_CANCELLED: "cancelled",
}
_STATES: Final = ("running", "waiting", "queued", "paused", "diverged")


def families_of(
    engine: Engine,
    *,
    opened_at: float,
    loop_lag: float,
    now: Callable[[], float] = time.time,
) -> list[Family]:
    """Every metric of an engine, now. Every family is there, if only without a value."""
    found = {name: Family(metric) for name, metric in METRICS.items()}
    for name, labels, value in _numbers(engine, opened_at, loop_lag, now()):
        found[name].values[labels] = value
    tally = engine.tally
    found["attempt_seconds"].histograms.update({(name,): h for name, h in tally.attempts.items()})
    found["commit_seconds"].histograms[()] = tally.commits
    found["commit_events"].histograms[()] = tally.batches
    found["barrier_seconds"].histograms[()] = tally.proofs
    found["replay_seconds"].histograms[()] = tally.replays
    for family in found.values():
        family.values = _bounded(family)
    return list(found.values())


def _numbers(
    engine: Engine, opened_at: float, loop_lag: float, now: float
) -> Iterator[tuple[str, Labels, float]]:
    tally = engine.tally
    started = dict(tally.of(Kind.STARTED))
    for name, count in tally.of(Kind.RESTARTED).items():
        started[name] = started.get(name, 0) + count
    for name, count in started.items():
        yield "executions_started_total", (name,), count
    for kind, status in CLOSED_STATUS.items():
        for name, count in tally.of(kind).items():
            yield "executions_closed_total", (name, status.value), count
    for metric, kind in (
        ("executions_continued_total", Kind.CONTINUED),
        ("executions_reopened_total", Kind.REOPENED),
        ("steps_called_total", Kind.STEP),
    ):
        for name, count in tally.of(kind).items():
            yield metric, (name,), count
    for kind, outcome in _ENDS.items():
        for name, count in tally.of(kind).items():
            yield "attempts_total", (name, outcome), count
    for kind, count in tally.kinds().items():
        yield "events_total", (kind.name.lower(),), count
    for proven, count in tally.proven.items():
        yield "barriers_total", (proven.value,), count
    census = engine.census()
    for workflow in {workflow for workflow, _ in census}:
        for state in _STATES:
            yield "executions_open", (workflow, state), census.get((workflow, state), 0)
    for queue in engine.queues.list():
        yield "queue_waiting", (queue.name,), queue.waiting
        yield "queue_running", (queue.name,), queue.running
        oldest = 0.0 if queue.oldest_since is None else max(0.0, now - queue.oldest_since)
        yield "queue_oldest_wait_seconds", (queue.name,), oldest
        yield "queue_paused", (queue.name,), queue.paused
    path = engine.config.path
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "attempts_running", (), engine.attempts_running
    yield "timer_lag_seconds", (), engine.late
    yield "loop_lag_seconds", (), loop_lag
    yield "log_sequence", (), engine.sequence
    yield "log_proven_sequence", (), engine.proven
    yield "log_bytes", (), _size(str(path))
    yield "wal_bytes", (), _size(f"{path}-wal")
    yield "resident_bytes", (), _resident()
    yield "cpu_seconds_total", (), usage.ru_utime + usage.ru_stime
    yield "started_at_seconds", (), opened_at
    yield "epoch", (), engine.config.epoch


def _bounded(family: Family) -> dict[Labels, float]:
    """The values, those of all names beyond MOST_NAMES put together."""
    names = sorted({labels[0] for labels in family.values if labels})
    if len(names) <= MOST_NAMES:
        return family.values
    shown = set(names[:MOST_NAMES])
    kept: dict[Labels, float] = {}
    for labels, value in family.values.items():
        key = labels if labels[0] in shown else (OTHER, *labels[1:])
        kept[key] = kept.get(key, 0) + value
    return kept


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
