"""docs/reliability.md, made of what `make faults` has found, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

INTRODUCTION: Final = """\
# Reliability: what was tried, and what was lost

Made by `make faults` from its findings, which lie beside it in
[reliability.json](reliability.json). Do not edit it: `tests/unit/test_reliability.py` compares the
two.

Each run is a tenant on real parts: the engine, the supervisor, Litestream and a SeaweedFS, with a
proxy before it that delays, refuses, loses and falsifies. Four clients start executions and wait
until each is durable; four others have executions commit step after step and wait for nothing,
{rate} commits a second together where the machine allows it. A ledger outside has every
acknowledgement. The fault comes under that load. In the end the machine is lost, whatever the fault
has made of it: SIGKILL to all of its processes, and its disk is gone. Another one takes over from
the bucket alone. Then every acknowledged execution must be there with its result, the rows of every
execution whose result was durable must be in the file as the ledger has them, and the whole log
must pass the check of its hash chain and of SQLite.

**{verdict}**

| | |
|---|---|
| Day | {day} |
| Machine | {machine}, {cores} cores, Python {python}, Litestream {litestream}, {store} |
| Load average | {load}: where that is above the cores, the machine had other work too |
| Runs | as the table has them; first seed {seed} |
{remarked}
## Faults

- **Commits/s**: of the lost machine's log, on the average; what a fault stopped is in it.
- **Lost**: of the acknowledged ones, those that are missing or have other rows than the ledger.
- **RPO**: how far the recovered log is behind the lost disk, in seconds of commits that nobody was
  told were durable, at the most. What was acknowledged has an RPO of 0.
- **RTO**: from the start of the next machine's node to its serving, median and most. The time until
  a loss is believed comes before it: see [protocol.md](protocol.md).
- **Refused**: runs in which the next machine says that the content is damaged, and serves nothing.
  Nothing older is ever served in its place.

| Fault | Runs | Commits/s | Acknowledged | Lost | Refused | RPO s | RTO s |
|---|---|---|---|---|---|---|---|
"""

CHECKER: Final = """
## How the check was shown able to fail

Before the take-over of each fault's first run, the bucket is copied without the newer part of the
chain (where a fault has damaged a file: without all from there on), as if it had never been there.
A machine takes over from that copy too, and the same comparison with the same ledger must find what
is missing. It is a fault of the test if it finds nothing.

| Fault | What was found in the robbed copy |
|---|---|
"""

HOW: Final = """
## How the faults are made

- *The disk is full*: a tmpfs of 64 MB under the node, filled to the last byte; needs root.
- *The clock steps*: libfaketime under engine and supervisor, forward and back by 5 minutes and by
  an hour; Litestream, whose runtime reads the clock past the C library, keeps the right time.
- *The take-over is interrupted at every step*: machines that take over are killed at their first
  request to the store, their fifth, their ninth and so on, until one serves before its turn.
- *Restarted in place*: the same host starts the node anew on the files that are there; then nothing
  that was committed may be lost, told durable or not, and that is checked as well.
- *A zombie*: all processes of the owner are stopped, another takes over, and they go on beside it.
- *Two sidecars*: a second Litestream by hand, on the same file and the same replica, for 4 seconds.
  Between them they may spoil the chain, of which nobody knows until it is restored: the next
  machine then refuses to serve, and independent copies and earlier epochs are what is left.
- *A chain of 10,000 objects*: so many syncs; what compaction has made of them is removed.
"""


def page(found: dict[str, Any]) -> str:
    """The document, from what `build/faults.json` holds."""
    about, faults = found["conditions"], found["faults"]
    return "".join(
        [
            INTRODUCTION.format(
                **about,
                rate=about["commits_wanted"],
                verdict=_verdict(faults),
                remarked=f"| Made | {remark} |\n" if (remark := about.get("remark")) else "",
            ),
            *(_row(one) for one in faults),
            *_notes(faults),
            CHECKER,
            *(f"| {one['fault']} | {one['twin'] or '—'} |\n" for one in faults),
            HOW,
        ]
    )


def _verdict(faults: Iterable[dict[str, Any]]) -> str:
    faults = list(faults)
    runs, acknowledged, lost = (
        sum(one[name] for one in faults) for name in ("runs", "acknowledged", "lost")
    )
    wrong = sum(one["wrong_rows"] for one in faults)
    told = f"{runs} runs of {sum(1 for one in faults if one['runs'])} faults, "
    told += f"{acknowledged:,} acknowledged executions, {lost} lost"
    return f"{told}, {wrong} with wrong rows."


def _row(one: dict[str, Any]) -> str:
    if not one["runs"]:
        return f"| {one['fault']} | not run: {one['not_run']} | | | | | | |\n"
    lost = one["lost"] + one["wrong_rows"]
    rto = "" if one["rto_median"] is None else f"{one['rto_median']:.2f} / {one['rto_most']:.2f}"
    rpo = "" if one["rpo_most"] is None else f"{one['rpo_most']:.2f}"
    cells = [
        one["fault"],
        one["runs"],
        one["commits_per_second"] or "",
        one["acknowledged"],
        lost,
        one["refused"],
        rpo,
        rto,
    ]
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _notes(faults: Iterable[dict[str, Any]]) -> Iterable[str]:
    """What was not as it must be."""
    bad = [f"- {one['fault']}: {text}\n" for one in faults for text in one["failures"]]
    return ["\nNot as it must be:\n\n", *bad] if bad else []
