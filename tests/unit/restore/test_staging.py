"""Files brought here one by one: cut off anywhere, gone on with, and never taken for what they
are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup import keys
from backup.errors import Denied, StoreError
from backup.memory import MemoryStore, Operation
from restore import staging
from restore.errors import RestoreFailed
from restore.plan import LtxFile, list_epoch
from restore.staging import Bad, Gone, Staging
from tests.ltx_files import put_ltx

PREFIX = keys.epoch("t", 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PART", 1500)
    monkeypatch.setattr(staging, "READERS", 1)


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    put_ltx(made, 1, 1, 3, at=1.0, level=9)
    for txid in (4, 5, 6):
        put_ltx(made, 1, txid, txid, at=float(txid))
    return made


def chain(store: MemoryStore) -> tuple[LtxFile, ...]:
    return list_epoch(store, "t", 1).chain


def reads(store: MemoryStore, since: int = 0) -> int:
    return sum(operation == "get" for operation, _ in store.operations[since:])


def cut_off_after(store: MemoryStore, gets: int) -> None:
    left = gets

    def fault(operation: Operation, key: str) -> StoreError | None:
        nonlocal left
        left -= operation == "get"
        return Denied("cut off") if left < 0 else None

    store.fault = fault


def laid_out(area: Staging) -> set[str]:
    return {str(one.relative_to(area.replica)) for one in area.replica.glob("ltx/*/*")}


def test_what_is_brought_is_laid_out_as_a_replica(store: MemoryStore, tmp_path: Path) -> None:
    area, told = Staging(tmp_path / "s"), list[tuple[int, int]]()
    area.bring(store, PREFIX, chain(store), lambda here, of: told.append((here, of)))
    assert laid_out(area) == {
        f"ltx/9/{1:016x}-{3:016x}.ltx",
        *(f"ltx/0/{n:016x}-{n:016x}.ltx" for n in (4, 5, 6)),
    }
    total = sum(file.size for file in chain(store))
    assert told[-1] == (total, total)
    for file in chain(store):
        assert area.path(file).read_bytes() == store.get(PREFIX + file.name).body


def test_cut_off_at_every_read_nothing_is_read_twice(store: MemoryStore, tmp_path: Path) -> None:
    files = chain(store)
    whole = Staging(tmp_path / "whole")
    whole.bring(store, PREFIX, files)
    needed = reads(store)
    assert needed > 8  # in parts
    for cut in range(needed):
        area, since = Staging(tmp_path / str(cut)), len(store.operations)
        cut_off_after(store, cut)
        with pytest.raises(Denied):
            area.bring(store, PREFIX, files)
        assert not area.replica.exists()
        store.fault = None
        done = reads(store, since)
        area.bring(store, PREFIX, files)
        # Those that were refused were asked for again, and nothing that had come.
        refused = done - cut
        assert reads(store, since) - refused == needed
        assert laid_out(area) == laid_out(whole)
    again = len(store.operations)
    whole.bring(store, PREFIX, files)
    assert reads(store, again) == 0


def test_a_file_that_a_crash_has_cut_or_filled_with_nothing_is_read_anew(
    store: MemoryStore, tmp_path: Path
) -> None:
    area, files = Staging(tmp_path / "s"), chain(store)
    path = area.path(files[0])
    for left in (b"\0" * 900, b"\0" * 9000, store.get(PREFIX + files[0].name).body[:700]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".part").write_bytes(left)
        area.bring(store, PREFIX, files)
        assert path.read_bytes() == store.get(PREFIX + files[0].name).body
        assert not list(area.folder.glob("**/*.part"))


def test_a_damaged_file_is_named_and_the_others_are_kept(
    store: MemoryStore, tmp_path: Path
) -> None:
    area, files = Staging(tmp_path / "s"), chain(store)
    key = PREFIX + files[1].name
    body = store.get(key).body
    store.put(key, body[:500] + bytes([body[500] ^ 1]) + body[501:])
    with pytest.raises(Bad, match=files[1].name) as raised:
        area.bring(store, PREFIX, files)
    assert raised.value.file == files[1]
    assert [area.path(file).exists() for file in files] == [True, False, True, True]
    assert not area.replica.exists()


def test_a_file_under_another_ones_name_is_damaged(store: MemoryStore, tmp_path: Path) -> None:
    files = chain(store)
    store.put(PREFIX + files[1].name, store.get(PREFIX + files[2].name).body)
    with pytest.raises(Bad, match="it holds transactions 5 to 5"):
        Staging(tmp_path / "s").bring(store, PREFIX, files)


def test_a_file_that_was_merged_meanwhile_is_told_of(store: MemoryStore, tmp_path: Path) -> None:
    files = chain(store)
    store.delete(PREFIX + files[2].name)
    with pytest.raises(Gone, match=files[2].name):
        Staging(tmp_path / "s").bring(store, PREFIX, files)


def test_stopped_by_another_thread(store: MemoryStore, tmp_path: Path) -> None:
    area = Staging(tmp_path / "s")
    area.stop()
    with pytest.raises(RestoreFailed, match="stopped"):
        area.bring(store, PREFIX, chain(store))
