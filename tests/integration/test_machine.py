"""A machine is lost, frozen and swept as a whole, whatever its programs do to get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet.machine import MARK, Machine, MachineError, descendants, process_table

Eventually = Callable[..., None]

# Leaves a daemon behind: forks twice, begins a session of its own, drops its environment, and
# says its pid. The first process ends or stays as it is told.
DAEMONISE = """
import os, sys, time
out = sys.argv[1]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()));"
        code += "time.sleep(600)"
        os.execve(sys.executable, [sys.executable, "-c", code, out + ".tmp"], {})
    os._exit(0)
os.wait()
while not (os.path.exists(out + ".tmp") and os.path.getsize(out + ".tmp")):
    time.sleep(0.005)
os.rename(out + ".tmp", out)
time.sleep(600 if sys.argv[2] == "stay" else 0)
"""

# Forks without end, each generation replacing the one before: a tree that cannot be listed once.
RESTLESS = """
import os, sys, time
open(sys.argv[1], "w").write("up")
while True:
    pid = os.fork()
    if pid:
        time.sleep(0.002)
        os._exit(0)
    os.setsid()
"""

COUNTS = """
import sys, time
n = 0
with open(sys.argv[1], "w", buffering=1) as file:
    while True:
        n += 1
        file.write(f"{n}\\n")
        time.sleep(0.001)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine("m1") as machine:
        yield machine


def run(machine: Machine, tmp_path: Path, code: str, *args: str) -> None:
    machine.start(
        [sys.executable, "-c", code, *args], env={"A": "1"}, log=tmp_path / "log", cwd=tmp_path
    )


def daemon_of(file: Path, eventually: Eventually) -> int:
    eventually(file.exists, "the daemon is up")
    return int(file.read_text())


def state_of(pid: int) -> str:
    process = process_table().get(pid)
    return process.state if process else "gone"


def is_gone(pid: int) -> bool:
    return state_of(pid) in ("gone", "Z")


def test_runs_the_agent_with_exactly_its_environment(machine: Machine, tmp_path: Path) -> None:
    run(machine, tmp_path, "import os; print(dict(os.environ), flush=True)")
    assert machine.wait(30) == 0
    said = (tmp_path / "log").read_text()
    assert "'A': '1'" in said
    assert "PATH" not in said
    assert MARK in said
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert not machine.running


def test_kill_takes_a_double_forked_daemon_with_it(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    run(machine, tmp_path, DAEMONISE, str(tmp_path / "daemon"), "stay")
    daemon = daemon_of(tmp_path / "daemon", eventually)
    assert set(machine.processes()) == {machine.pid, daemon}
    assert os.getsid(daemon) != os.getsid(machine.pid)

    machine.kill()

    assert is_gone(daemon)
    assert is_gone(machine.pid)
    assert machine.processes() == []
    assert machine.exit_code == -signal.SIGKILL
    machine.kill()  # again: nothing to do


def test_a_daemon_outlives_its_agent_and_is_still_the_machines(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    run(machine, tmp_path, DAEMONISE, str(tmp_path / "daemon"), "go")
    daemon = daemon_of(tmp_path / "daemon", eventually)
    assert machine.wait(30) == 0

    assert machine.processes() == [daemon]
    with pytest.raises(MachineError, match=str(daemon)):
        machine.sweep()
    machine.kill()
    assert is_gone(daemon)
    machine.sweep()


def test_without_the_subreaper_the_daemon_would_get_away(
    tmp_path: Path, eventually: Eventually
) -> None:
    """The broken twin: a plain child process, and a look at what descends from it."""
    child = subprocess.Popen([sys.executable, "-c", DAEMONISE, str(tmp_path / "daemon"), "stay"])
    daemon = daemon_of(tmp_path / "daemon", eventually)
    try:
        assert daemon not in descendants(process_table(), child.pid)
    finally:
        os.kill(daemon, signal.SIGKILL)
        child.kill()
        child.wait()


def test_kill_catches_a_tree_that_forks_all_the_time(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    run(machine, tmp_path, RESTLESS, str(tmp_path / "up"))
    eventually((tmp_path / "up").exists, "it forks")
    machine.kill()
    assert machine.processes() == []


def test_freeze_stops_everything_and_thaw_lets_it_go_on(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    count = tmp_path / "count"
    run(machine, tmp_path, COUNTS, str(count))
    eventually(lambda: count.exists() and count.stat().st_size > 20, "it counts")

    machine.freeze()
    assert [state_of(pid) for pid in machine.processes()] == ["T"]
    frozen = count.read_bytes()
    machine.freeze()  # again: nothing to do
    assert count.read_bytes() == frozen
    assert machine.running

    machine.thaw()
    eventually(lambda: count.stat().st_size > len(frozen), "it counts again")


def test_a_frozen_machine_can_be_killed(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    run(machine, tmp_path, DAEMONISE, str(tmp_path / "daemon"), "stay")
    daemon = daemon_of(tmp_path / "daemon", eventually)
    machine.freeze()
    machine.kill()
    assert is_gone(daemon)


def test_terminate_lets_the_agent_end_in_order(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(3)))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    run(machine, tmp_path, code)
    eventually(lambda: "up" in (tmp_path / "log").read_text(), "the agent is up")
    assert machine.terminate(30) is True
    assert machine.exit_code == 3
    assert (tmp_path / "log").read_text() == "up\nbye\n"


def test_terminate_kills_what_will_not_end(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    run(machine, tmp_path, code)
    eventually(lambda: "up" in (tmp_path / "log").read_text(), "the agent is up")
    assert machine.terminate(0.2) is False
    assert machine.exit_code == -signal.SIGKILL
    assert machine.processes() == []


def test_terminate_kills_what_the_agent_leaves_behind(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    run(machine, tmp_path, DAEMONISE, str(tmp_path / "daemon"), "stay")
    daemon = daemon_of(tmp_path / "daemon", eventually)
    assert machine.terminate(0.2) is False
    assert is_gone(daemon)


def test_it_may_be_started_from_a_thread_that_ends(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    """PR_SET_PDEATHSIG would kill it here: it watches the thread that forked, not the process."""
    count = tmp_path / "count"
    thread = threading.Thread(target=run, args=(machine, tmp_path, COUNTS, str(count)))
    thread.start()
    thread.join()
    eventually(lambda: count.exists() and count.stat().st_size > 100, "it lives on")
    assert machine.running


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_it_dies_with_its_starter(tmp_path: Path, eventually: Eventually, frozen: bool) -> None:
    code = f"""
import sys, time
from pathlib import Path
from fleet.machine import Machine
machine = Machine("orphan")
machine.start([sys.executable, "-c", {DAEMONISE!r}, {str(tmp_path / "daemon")!r}, "stay"],
              env={{}}, log=Path({str(tmp_path / "log")!r}))
while not Path({str(tmp_path / "daemon")!r}).exists():
    time.sleep(0.005)
if {frozen}:
    machine.freeze()
print(machine.pid, flush=True)
time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    agent = int(starter.stdout.readline())
    daemon = daemon_of(tmp_path / "daemon", eventually)
    assert not is_gone(agent)

    starter.kill()
    starter.wait()
    starter.stdout.close()

    eventually(lambda: is_gone(agent), "the agent is gone")
    eventually(lambda: is_gone(daemon), "the daemon is gone")


def test_when_its_init_is_killed_nothing_is_forgotten(
    machine: Machine, tmp_path: Path, eventually: Eventually
) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    run(machine, tmp_path, code)
    log = tmp_path / "log"
    eventually(lambda: log.read_text().endswith("\n"), "the child is up")
    child = int(log.read_text())
    init = psutil.Process(machine.pid).parent()
    assert init is not None
    init.kill()

    assert machine.wait(30) == -signal.SIGKILL
    # The kernel kills the agent with its parent; the child has no such wish of its own.
    eventually(lambda: machine.processes() == [child], "the agent is gone")
    machine.kill()
    assert is_gone(child)


def test_what_cannot_be_executed_is_said_and_leaves_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match="cannot run /no/such/program: No such file"):
        machine.start(["/no/such/program"], env={}, log=tmp_path / "log")
    assert machine.processes() == []
    assert not machine.running


def test_a_missing_folder_is_said(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="No such file"):
        machine.start(["true"], env={}, log=tmp_path / "log", cwd=tmp_path / "missing")


def test_it_is_started_once(machine: Machine, tmp_path: Path) -> None:
    run(machine, tmp_path, "pass")
    with pytest.raises(MachineError, match="started before"):
        run(machine, tmp_path, "pass")


def test_a_machine_never_started_is_harmless() -> None:
    machine = Machine("idle")
    machine.kill()
    machine.thaw()
    machine.freeze()
    machine.sweep()
    assert machine.terminate() is True
    assert machine.pid == 0
    assert machine.exit_code is None
    assert not machine.running


def test_waiting_has_an_end(machine: Machine, tmp_path: Path) -> None:
    run(machine, tmp_path, "import time; time.sleep(600)")
    with pytest.raises(TimeoutError, match="still runs"):
        machine.wait(0.05)
