"""A machine: one process tree that can be lost, frozen and swept as a whole.

Every program of a machine descends from a small init process, which adopts what its descendants
leave behind (`PR_SET_CHILD_SUBREAPER`), so that no double fork and no `setsid` gets away. It needs
no privileges and no cgroups.

The init runs this very file, by path and isolated, so that it starts in a few milliseconds: this
module imports nothing but the standard library.

The machine must die with whoever started it, in whatever way that happens. `PR_SET_PDEATHSIG`
would tie it to the *thread* that forked; a pipe whose other end nobody else holds says the same
about the process. The init is never frozen, or a frozen machine would outlive its starter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

MARK = "LITEFLEET_MACHINE"
"""Environment variable by which a process of a machine is known even when its init is gone."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.005  # seconds between two looks at /proc
_STOPPED = frozenset("Tt")
_DEAD = frozenset("ZX")


class MachineError(Exception):
    """A machine could not be started, stopped or swept; the message says why."""


class Process(NamedTuple):
    """A line of the process table. ``started`` (clock ticks since boot) tells reused pids apart."""

    pid: int
    parent: int
    state: str
    started: int

    @property
    def identity(self) -> tuple[int, int]:
        return (self.pid, self.started)


class Machine:
    """A process tree that stands for a machine. Its methods block, and may be called by any thread.

    A context manager: leaving it kills the machine.
    """

    def __init__(self, name: str, *, rng: random.Random | None = None) -> None:
        self.name = name
        self._rng = rng or random.Random()
        self._mark = f"{name}-{secrets.token_hex(8)}"
        self._init: subprocess.Popen[bytes] | None = None
        self._control = -1
        self._status = -1
        self._told = b""
        self._pid = 0
        self._exit_code: int | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
    ) -> None:
        """Run ``argv`` (the agent) as the machine's first program.

        ``env`` is its whole environment; what it prints is appended to ``log`` (mode 0600).

        Raises:
            MachineError: it runs already, or ``argv`` cannot be executed.
        """
        if self._init is not None:
            raise MachineError(f"machine {self.name} was started before; make a new one")
        control_read, self._control = os.pipe2(os.O_CLOEXEC)
        self._status, status_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._status, False)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        program = [sys.executable, "-I", "-S", __file__, str(control_read), str(status_write)]
        try:
            self._init = subprocess.Popen(
                [*program, *argv],
                env={**env, MARK: self._mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(control_read, status_write),
                start_new_session=True,
            )
        except OSError as error:
            self._close()
            raise MachineError(f"machine {self.name}: {error}") from error
        finally:
            for fd in (control_read, status_write, output):
                os.close(fd)
        self._listen(lambda: bool(self._pid) or self._init_ended(), timeout=None)
        if not self._pid:
            why = self._told.decode(errors="replace").strip() or "its init ended"
            self.kill()
            raise MachineError(f"machine {self.name}: cannot run {argv[0]}: {why} (log: {log})")

    @property
    def pid(self) -> int:
        """The agent's process id; 0 before the start."""
        return self._pid

    @property
    def exit_code(self) -> int | None:
        """How the agent ended, negative for a signal; None while it runs."""
        self._listen(lambda: True, timeout=0)
        if self._exit_code is None and self._pid and self._init_ended():
            return -signal.SIGKILL  # the init was killed, and the agent dies with it
        return self._exit_code

    @property
    def running(self) -> bool:
        """The agent has been started and has not ended (it may be frozen)."""
        return self._pid != 0 and self.exit_code is None

    def processes(self) -> list[int]:
        """The ids of all living processes of the machine, without its init."""
        return sorted(process.pid for process in self._tree())

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the agent ends and return its exit code.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds.
        """
        self._listen(lambda: self._exit_code is not None, timeout=timeout)
        code = self.exit_code
        if code is None:
            raise TimeoutError(f"machine {self.name}: its agent still runs after {timeout} s")
        return code

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process with SIGSTOP, as when the whole machine is paused.

        Raises:
            MachineError: some process was still not stopped after ``timeout`` seconds.
        """
        with self._lock:
            awake = _freeze(self._tree, time.monotonic() + timeout)
        if awake:
            raise MachineError(f"machine {self.name}: could not freeze {_names(awake)}")

    def thaw(self) -> None:
        """Let every process go on, in random order: a real resume favours no watchdog either."""
        with self._lock:
            while stopped := [p for p in self._tree() if p.state in _STOPPED]:
                self._rng.shuffle(stopped)
                for process in stopped:
                    _signal(process, signal.SIGCONT)

    def kill(self, timeout: float = 10.0) -> None:
        """Lose the machine: stop everything so that nothing can react, kill it, wait until gone.

        Idempotent, and harmless on a machine that never started.

        Raises:
            MachineError: something was still alive after ``timeout`` seconds.
        """
        with self._lock:
            if self._init is None:
                return
            deadline = time.monotonic() + timeout
            _kill(self._tree, deadline, reap=lambda: None)
            self.exit_code  # noqa: B018 - take the agent's last word off the pipe before it closes
            self._close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._init.wait(max(0.1, deadline - time.monotonic()))
            if self._init.poll() is None:
                self._init.kill()
                self._init.wait()
            if self._exit_code is None:
                self._exit_code = -signal.SIGKILL
        self.sweep()

    def terminate(self, grace: float = 10.0) -> bool:
        """Ask the agent to end (SIGTERM), and the whole machine with it.

        Returns whether it did within ``grace`` seconds; what is left then is killed.
        """
        if self._init is None:
            return True
        deadline = time.monotonic() + grace
        self._init.send_signal(signal.SIGTERM)  # the init passes it on to the agent
        while not self._init_ended() and time.monotonic() < deadline:
            time.sleep(_POLL)
        clean = self._init_ended() and not self.processes()
        self.kill()
        return clean

    def sweep(self) -> None:
        """Make sure that nothing of this machine is alive.

        Raises:
            MachineError: naming the processes that are.
        """
        left = self._tree()
        if left:
            raise MachineError(f"machine {self.name} left processes behind: {_names(left)}")

    def _tree(self) -> list[Process]:
        """All living processes of this machine, wherever they hang, without the init."""
        if self._init is None:
            return []
        table = process_table()
        root = self._init.pid
        members = {} if self._init_ended() else descendants(table, root)
        mark = f"{MARK}={self._mark}".encode()
        for pid, process in table.items():
            if pid not in members and pid != root and _is_marked(pid, mark):
                members[pid] = process
        return [p for p in members.values() if p.state not in _DEAD]

    def _init_ended(self) -> bool:
        with self._lock:
            return self._init is None or self._init.poll() is not None

    def _listen(self, enough: Callable[[], bool], timeout: float | None) -> None:
        """Read what the init has to say until ``enough``, at most ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._hear_now() and not enough():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                select.select([self._status], [], [], left)
            except (OSError, ValueError):  # closed by another thread: the machine was killed
                return

    def _hear_now(self) -> bool:
        """Take in what the init has said so far; False when it will say no more."""
        with self._lock:
            if self._status < 0:
                return False
            try:
                told = os.read(self._status, 4096)
            except BlockingIOError:
                return True
            *lines, self._told = (self._told + told).split(b"\n")
            for line in lines:
                self._hear(line)
            if not told and self._init is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._init.wait(1.0)  # it has closed its end, so it is about to be gone
            return bool(told)

    def _hear(self, line: bytes) -> None:
        word, _, value = line.decode().partition(" ")
        if word == "pid":
            self._pid = int(value)
        elif word == "exit":
            self._exit_code = int(value)
        else:
            self._told = value.encode()

    def _close(self) -> None:
        with self._lock:
            for fd in (self._control, self._status):
                if fd >= 0:
                    os.close(fd)
            self._control = self._status = -1


def process_table() -> dict[int, Process]:
    """Every process of this machine that can be seen, by pid."""
    return {process.pid: process for process in _read_table()}


def descendants(table: Mapping[int, Process], root: int) -> dict[int, Process]:
    """The part of ``table`` that descends from ``root``, without ``root``."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    queue = [root]
    while queue:
        for process in children.get(queue.pop(), ()):
            if process.pid != root and process.pid not in found:
                found[process.pid] = process
                queue.append(process.pid)
    return found


def _read_table() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _read(int(name))):
            yield process


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The name in parentheses may hold anything, spaces and parentheses too.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[19]))


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process, not to a later one with its pid."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        now = _read(process.pid)
        if now is not None and now.identity == process.identity:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _freeze(tree: Callable[[], list[Process]], deadline: float) -> list[Process]:
    """SIGSTOP a tree until two looks in a row show the same processes, all stopped.

    A single look is not enough: it is not atomic, and a process may fork while it is taken.
    Returns those that are still awake at the deadline (``time.monotonic``).
    """
    before: set[tuple[int, int]] | None = None
    while True:
        members = tree()
        awake = [p for p in members if p.state not in _STOPPED]
        now = {p.identity for p in members}
        if not awake and now == before:
            return []
        before = now if not awake else None
        if awake and time.monotonic() >= deadline:
            return awake
        for process in awake:
            _signal(process, signal.SIGSTOP)
        if awake:
            time.sleep(_POLL / 5)


def _kill(
    tree: Callable[[], list[Process]], deadline: float, *, reap: Callable[[], object]
) -> list[Process]:
    """Freeze a tree, then SIGKILL it and wait; returns what is alive at the deadline."""
    # A process in uninterruptible sleep cannot be frozen now; it will die when it wakes.
    _freeze(tree, min(deadline, time.monotonic() + 2.0))
    while members := tree():
        for process in members:
            _signal(process, signal.SIGKILL)
        reap()
        if time.monotonic() >= deadline:
            return members
        time.sleep(_POLL / 5)
    return []


def _names(processes: Sequence[Process]) -> str:
    def name(pid: int) -> str:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            return str(pid)
        return f"{pid} ({command.decode(errors='replace').strip()[:80]})"

    return ", ".join(name(p.pid) for p in processes)


# What follows runs in the init process.


def _init(control: int, status: int, argv: Sequence[str]) -> int:
    """Run ``argv``, adopt and reap everything below, and kill it all when ``control`` closes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        _tell(status, f"failed {os.strerror(ctypes.get_errno())}")
        return 1
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    agent, failure = _spawn(libc, argv)
    if failure:
        _tell(status, f"failed {failure}")
        return 127
    _tell(status, f"pid {agent}")

    agent_code: int | None = None

    def reap() -> bool:
        """Bury the dead; whether any child is left."""
        nonlocal agent_code
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == agent:
                agent_code = os.waitstatus_to_exitcode(wait_status)
                _tell(status, f"exit {agent_code}")

    while True:
        ready, _, _ = select.select([control, wake], [], [])
        if wake in ready:
            # SIGTERM is meant for the agent alone; stopping the rest in order is its business.
            if signal.SIGTERM in os.read(wake, 4096) and agent_code is None:
                os.kill(agent, signal.SIGTERM)
            if not reap():
                return 0
        if control in ready:
            break

    def tree() -> list[Process]:
        members = descendants(process_table(), os.getpid()).values()
        return [p for p in members if p.state not in _DEAD]

    while _kill(tree, time.monotonic() + 5.0, reap=reap) or reap():
        time.sleep(_POLL / 5)
    return 0


_CHANGED_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGPIPE,  # these two are changed by the interpreter itself
    signal.SIGXFSZ,
)


def _spawn(libc: ctypes.CDLL, argv: Sequence[str]) -> tuple[int, str]:
    """Fork and execute ``argv``, to be killed with this process. Returns (pid, failure)."""
    me = os.getpid()
    failed, fail = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != me:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in _CHANGED_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.execvp(argv[0], list(argv))
        except OSError as error:
            os.write(fail, (error.strerror or str(error)).encode())
        finally:
            os._exit(127)
    os.close(fail)
    failure = os.read(failed, 4096).decode()
    os.close(failed)
    return pid, failure


def _tell(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more; the control pipe will say so
        os.write(status, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(_init(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
