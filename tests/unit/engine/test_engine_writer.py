"""The writer: which commits it makes on the caller's thread, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from node.engine import collection
from node.engine.commits import Commits
from node.engine.events import Kind
from node.engine.inspection import committed_at, events_of, inspect_log
from node.engine.schema import VERSION, connect
from node.engine.seals import newest
from node.engine.store import Store
from node.engine.writer import QUICK, Batch, Call, Entry, Writer


class Log:
    """A new log with its writer, whose COMMITs take as long as the test says."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.store = Store(self.path, tenant="acme", lineage="line", create=True, now=lambda: 1)
        self.seconds = 0.0
        self.committed: list[Batch] = []
        self.failed: list[BaseException] = []
        self.told = threading.Semaphore(0)
        self._time = 0.0
        self._begun = False
        self.writer = Writer(
            connect(self.path),
            self.store.tail,
            names=self.store.names(),
            heads={},
            on_committed=self._on_committed,
            on_failed=self._on_failed,
            wait=lambda pause: None,
            timer=self._timer,
        )
        self.writer.start()

    def _timer(self) -> float:
        # Read before and after each COMMIT.
        self._begun = not self._begun
        if not self._begun:
            self._time += self.seconds
        return self._time

    def _on_committed(self, batch: Batch) -> None:
        self.committed.append(batch)
        self.told.release()

    def _on_failed(self, error: BaseException) -> None:
        self.failed.append(error)
        self.told.release()

    def by_thread(self, batch: Batch) -> None:
        self.writer.submit(batch)
        assert self.told.acquire(timeout=20)
        assert not self.failed

    def warm_up(self) -> None:
        """So many quick commits that it takes the file for quick."""
        for number in range(20):
            self.by_thread(starting(1000 + number))

    def close(self) -> None:
        self.writer.close()
        self.store.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.close()


def starting(number: int, events: int = 0) -> Batch:
    """An execution's start and some timers."""
    key = f"execution-{number}"
    entries = [Entry(number, key, Kind.STARTED, "order", 1, "{}")]
    entries += [Entry(number, key, Kind.TIMER, "(timer)", nth + 1, nth) for nth in range(events)]
    return Batch(at=1, entries=entries)


def test_a_new_writer_takes_the_file_for_slow(log: Log) -> None:
    assert not log.writer.commit_here(starting(1))
    assert list(events_of(log.path)) == []


def test_quick_commits_are_made_here(log: Log) -> None:
    log.warm_up()
    batch = starting(1)
    assert log.writer.commit_here(batch)
    assert batch.first == batch.last == 21
    assert inspect_log(log.path).sequence == 21


def test_one_slow_commit_among_quick_ones_changes_nothing(log: Log) -> None:
    log.warm_up()
    log.seconds = 3 * QUICK
    assert log.writer.commit_here(starting(1))
    assert log.writer.commit_here(starting(2))


def test_a_very_slow_commit_sends_the_next_ones_to_the_thread(log: Log) -> None:
    log.warm_up()
    log.seconds = 10 * QUICK
    assert log.writer.commit_here(starting(1))
    log.seconds = 0.0
    assert not log.writer.commit_here(starting(2))
    for number in range(100, 130):
        log.by_thread(starting(number))
    assert log.writer.commit_here(starting(2))


def test_transactional_activities_are_never_run_here(log: Log) -> None:
    log.warm_up()
    batch = starting(1)
    batch.calls.append(
        Call(1, "execution-1", "book", 1, lambda _: (Kind.STEP_COMPLETED, None), lambda *_: None)
    )
    assert not log.writer.commit_here(batch)
    assert batch.calls[0].outcome is None


def test_a_lock_of_another_one_is_not_waited_for_here(log: Log) -> None:
    log.warm_up()
    other = apsw.Connection(str(log.path))
    other.execute("BEGIN IMMEDIATE")
    batch = starting(1)
    assert not log.writer.commit_here(batch)
    log.writer.submit(batch)
    other.execute("ROLLBACK")
    other.close()
    # The thread waits for it, and the batch is written once.
    assert log.told.acquire(timeout=20)
    assert [event.execution for event in events_of(log.path)].count("execution-1") == 1


def test_what_makes_the_log_unwritable_is_raised(log: Log) -> None:
    log.warm_up()
    other = connect(log.path)
    other.execute("DROP TABLE litefleet_event")
    other.close()
    with pytest.raises(apsw.SQLError, match="litefleet_event"):
        log.writer.commit_here(starting(1))


def test_a_commit_of_one_statement_is_whole_or_not_at_all(log: Log) -> None:
    log.by_thread(starting(1))
    other = connect(log.path)
    other.execute(
        "CREATE TRIGGER full BEFORE INSERT ON litefleet_event WHEN new.occurrence = 2"
        " BEGIN SELECT raise(ABORT, 'no'); END"
    )
    entries = [Entry(1, "execution-1", Kind.TIMER, "(timer)", nth, nth) for nth in (1, 2)]
    batch = Batch(at=1, entries=entries)
    log.writer.submit(batch)
    assert log.told.acquire(timeout=20)
    assert log.failed
    other.execute("DROP TRIGGER full")
    other.close()
    assert inspect_log(log.path).sequence == 1


@pytest.mark.parametrize("events", [0, 1, 2, 3, 4, 7, 63, 64, 65, 511, 512, 1300])
def test_batches_of_every_size_are_written_whole(log: Log, events: int) -> None:
    log.by_thread(starting(1, events))
    written = list(events_of(log.path))
    assert [event.sequence for event in written] == list(range(1, events + 2))
    assert [event.payload for event in written[1:]] == list(range(events))
    assert {(event.at, event.commit) for event in written} == {(1, events + 1)}
    # Checks the chain too.
    assert inspect_log(log.path).sequence == events + 1


def test_every_reader_finds_the_commit_of_each_event(log: Log) -> None:
    ends = []
    for number, size in enumerate([1, 2, 1, 3, 1, 2, 2, 8, 3, 64, 1, 1, 4, 2], 1):
        batch = starting(number, size - 1)
        batch.at = 1000 * number
        log.by_thread(batch)
        ends += [(batch.at, batch.last)] * size
        stored = log.store.find(f"execution-{number}")
        assert stored is not None
        assert stored.started_at == batch.at
        # One that opens the log finds its end, and the chain there.
        with closing(connect(log.path)) as db:
            assert [end.sequence for end in newest(db, VERSION)] == [batch.last, batch.first - 1]
            stamps = [row[0] for row in db.execute("SELECT at FROM timeline ORDER BY sequence")]
        assert stamps == [f"1970-01-01T00:00:{at // 1000:02}.000Z" for at, _ in ends]
    events = list(events_of(log.path))
    assert [(event.at, event.commit) for event in events] == ends
    assert [committed_at(log.path, event.sequence) for event in events] == [
        at / 1000 for at, _ in ends
    ]
    assert committed_at(log.path, len(ends) + 1) is None
    for number in range(1, 15):
        own = [event for event in events if event.execution == f"execution-{number}"]
        assert log.store.history(own[0].execution, own[-1].sequence) == own
    with closing(connect(log.path)) as db:
        found = db.execute("SELECT count(*) FROM litefleet_commit").fetchall()
    # The beginning, and those of more than two events.
    assert found == [(6,)]


def test_ids_are_known_once_they_are_committed(log: Log) -> None:
    assert log.writer.lacks("execution-1")
    log.by_thread(starting(1))
    assert not log.writer.lacks("execution-1")


def test_garbage_is_searched_for_less_often_and_never_more() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        collection.install()
        assert gc.get_threshold() == (collection.YOUNGEST, collection.OLDER, collection.OLDER)
        gc.set_threshold(100_000, 60, 70)
        collection.install()
        assert gc.get_threshold() == (100_000, 60, 70)
        gc.set_threshold(0)
        collection.install()
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)


def test_a_pause_of_the_search_ends_as_it_began() -> None:
    assert gc.isenabled()
    with collection.paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collection.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_who_waits_for_two_commits_hears_of_the_second_one(tmp_path: Path) -> None:
    async def engine() -> None:
        # The second one may be made on the loop's own thread, right after the first.
        store = Store(
            tmp_path / "log.db", tenant="acme", lineage="line", create=True, now=lambda: 1
        )
        failures: list[BaseException] = []
        commits = Commits(
            connect(store.path),
            store.tail,
            names=store.names(),
            heads={},
            now=lambda: 1,
            on_commit=None,
            on_failed=failures.append,
        )
        for number in range(200):
            first, second = 2 * number + 1, 2 * number + 2
            commits.hold()
            commits.append(Entry(first, f"e{first}", Kind.STARTED, "order", 1, "{}"))
            commits.let_go(now=True)
            commits.append(Entry(second, f"e{second}", Kind.STARTED, "order", 1, "{}"))
            async with asyncio.timeout(20):
                assert await commits.settled() == second
        await commits.close()
        store.close()
        assert not failures

    asyncio.run(engine())
