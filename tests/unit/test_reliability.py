"""docs/reliability.md is what was found, and the check of faults can fail."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from backup import keys
from backup.memory import MemoryStore
from restore.plan import LtxFile, parse, plan
from tests.faults.cases import CASES, Case
from tests.faults.chains import Spoil, duplicate, flip, garble, remove, truncate
from tests.faults.lab import Verdict
from tests.faults.ledger import STEPS, Ledger, mismatched
from tests.faults.page import page
from tests.faults.processes import machine_lost
from tests.faults.robbery import cut_of
from tests.faults.summary import summary

DOCS = Path(__file__).parents[2] / "docs"


def found() -> dict[str, Any]:
    return dict(json.loads((DOCS / "reliability.json").read_text(encoding="utf-8")))


def told() -> str:
    return (DOCS / "reliability.md").read_text(encoding="utf-8")


def test_the_document_is_made_of_the_findings() -> None:
    assert page(found()) == told()


def test_another_finding_would_be_another_document() -> None:
    for name in ("acknowledged", "lost", "wrong_rows", "refused", "runs"):
        other = copy.deepcopy(found())
        other["faults"][0][name] += 1
        assert page(other) != told(), name


def test_no_fault_is_left_out_of_it_and_nothing_was_lost() -> None:
    rows = {one["fault"]: one for one in found()["faults"]}
    assert list(rows) == [case.name for case in CASES]
    for one in rows.values():
        assert (one["lost"], one["wrong_rows"]) == (0, 0), one["fault"]
        assert one["runs"] or one["not_run"], one["fault"]
        assert one["twin"] or not one["runs"], one["fault"]


def test_a_row_says_what_was_lost_and_what_failed() -> None:
    case = Case("a fault", machine_lost)
    verdicts: list[Verdict | str] = [
        Verdict(7, lost=["a"], rto=2.0),
        Verdict(5, refused="gone"),
        "it hung",
    ]
    row = summary(case, verdicts)
    assert (row["acknowledged"], row["lost"], row["refused"]) == (12, 1, 1)
    assert row["failures"] == ["it hung", "gone"]
    whole = {"conditions": found()["conditions"], "faults": [row]}
    assert "| a fault | 3 |  | 12 | 1 | 1 | 0.00 | 2.00 / 2.00 |" in page(whole)
    assert "- a fault: it hung" in page(whole)
    # One that may be refused is no failure.
    assert summary(Case("a fault", machine_lost, may_refuse=True), verdicts)["failures"] == [
        "it hung"
    ]


@pytest.mark.parametrize("rows", [[], [0, 1], [0, 1, 2, 2], [1, 0, 2], [0, 1, 2, 3]], ids=str)
def test_rows_that_are_not_those_of_the_ledger_are_noticed(rows: list[int]) -> None:
    ledger = Ledger(results={"one", "other"})
    right = list(range(STEPS))
    assert mismatched({"one": right, "other": right}, ledger) == set()
    assert mismatched({"one": right, "other": rows}, ledger) == {"other"}
    assert mismatched({"one": right}, ledger) == {"other"}


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("spoil", [duplicate, flip, garble, remove, truncate])
def test_what_spoils_a_file_spoils_it_at_any_level(spoil: Spoil, level: int) -> None:
    store = MemoryStore()
    file = LtxFile(1, 4, level, 90)
    key = keys.epoch("t", 1) + file.name
    store.put(key, bytes(range(90)))
    spoil(store, key, file)
    now = {entry.key: store.get(entry.key).body for entry in store.list("")}
    if spoil is duplicate:
        assert list(now.values()) == [bytes(range(90))] * 2
        other = parse(keys.epoch("t", 1), [entry for entry in store.list("") if entry.key != key])
        assert [(file.low, file.high) for file in other] == [(1, 4)]
    else:
        assert now.get(key) != bytes(range(90))


def test_the_twin_loses_the_newer_part_and_what_is_damaged() -> None:
    whole = plan(LtxFile(txid, txid, 0, 100) for txid in range(1, 11))
    assert cut_of(whole, None) == 4
    assert cut_of(whole, 3) == 2
    merged = plan([LtxFile(1, 8, 1, 100), LtxFile(9, 9, 0, 10), LtxFile(10, 10, 0, 10)])
    assert cut_of(merged, None) == 8
