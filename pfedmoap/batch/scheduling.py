"""Several notebooks at once, each in a process of its own, all together on a given number of cores."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import psutil

from pfedmoap.batch import executing, unchanged
from pfedmoap.batch.executing import Ending
from pfedmoap.batch.imports import PRELOADED
from pfedmoap.batch.jobs import Job
from pfedmoap.errors import UserError
from pfedmoap.system import cores

MOST_AT_ONCE = 3  # enough to keep the cores busy while kernels start and draw; each has worker processes in memory
TIME_LIMITS = {"smoke": 10, "quick": 120, "long": 480}  # minutes
STOP_SECONDS = 10
START_PAUSES = 0.1, 0.2, 0.4, 0.8  # seconds before a process that did not start is started again
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        seconds: wall time.
        written: the tables and figures that it wrote.
        failure: None, or what went wrong and what can be done about it, in a few lines.
        skipped: it was not executed, as its inputs did not change since it was.
        restarted: its kernel died once, and everything was executed again.
    """

    job: Job
    seconds: float
    written: tuple[Path, ...]
    failure: str | None = None
    skipped: bool = False
    restarted: bool = False


def time_limit(profile: str) -> float | None:
    """Minutes that a notebook may take unless another limit is set; None: any number."""
    return TIME_LIMITS.get(profile)


def execute(
    jobs: Sequence[Job],
    *,
    processes: int = 0,
    minutes: float | None = None,
    force: bool = False,
    on_start: Callable[[Job], None] = lambda job: None,
) -> Iterator[Outcome]:
    """Executes notebooks; their tables and figures are written by themselves.

    On a CPU several are executed at once. Each may start a worker process per core, but all notebooks together compute
    no more runs at a time than there are cores (`cores.one`). So the last notebook has all cores. On a GPU notebooks
    are executed one after the other.

    Args:
        processes: runs that are computed at the same time; 0: one per core.
        minutes: after which a notebook is stopped; None: never.
        force: executes those too whose inputs did not change.
        on_start: called before a notebook is executed.

    Yields:
        The outcome of each notebook as soon as it is known. Closing the generator stops all kernels.
    """
    todo: deque[Job] = deque()
    for job in jobs:
        if not force and unchanged.is_unchanged(job):
            yield Outcome(job, 0.0, (), skipped=True)
        else:
            todo.append(job)
    number = processes or cores.count()
    at_once = min(number, MOST_AT_ONCE, len(todo)) if all(map(_on_cpu, todo)) else 1
    with TemporaryDirectory(prefix="pfedmoap-") as folder:
        environment = cores.share(number, Path(folder)) if at_once > 1 else {}
        running: list[_Execution] = []
        try:
            while todo or running:
                while todo and len(running) < at_once:
                    on_start(todo[0])
                    running.append(_Execution(todo.popleft(), Path(folder), environment, minutes))
                    running[-1].start()
                for execution in _ended(running):
                    outcome = execution.outcome(jobs)
                    running.remove(execution)
                    yield outcome
        finally:
            _stop(running)


class _Execution:
    """A notebook that is being executed; a dead kernel is replaced once."""

    def __init__(self, job: Job, folder: Path, environment: Mapping[str, str], minutes: float | None):
        self.job, self.folder, self.environment, self.minutes = job, folder, environment, minutes
        self.before, self.started = job.products(), time.monotonic()
        self.restarted = False
        self.ending: Ending | None = None
        self.process = None
        unchanged.forget(job)

    def start(self) -> None:
        processes = multiprocessing.get_context(START)
        processes.set_forkserver_preload(list(PRELOADED))
        self.connection, theirs = processes.Pipe(duplex=False)
        sockets = Path(mkdtemp(dir=self.folder))
        arguments = self.job, {**os.environ, **self.environment}, sockets, theirs
        self.process = processes.Process(target=executing.main, args=arguments)
        with _interrupts_later():
            _start(self.process)
        theirs.close()  # so that the process's end is the connection's end

    @property
    def seconds_left(self) -> float | None:
        return None if self.minutes is None else self.started + 60 * self.minutes - time.monotonic()

    def check(self) -> bool:
        """Whether it has ended; a dead kernel is replaced, and what takes too long is stopped."""
        if self.connection.poll():
            ending = self._receive()
            if ending.died and not self.restarted:
                self.restarted = True
                self.start()
                return False
            self.ending = ending
        elif self.seconds_left is not None and self.seconds_left <= 0:
            _stop([self])
            self.ending = Ending(failure=f"stopped after {self.minutes:g} minutes: what is finished is kept; run the "
                                         f"same again to go on from there, or allow more with --timeout MINUTES")
        return self.ending is not None

    def _receive(self) -> Ending:
        try:
            ending = self.connection.recv()
        except EOFError:
            ending = Ending(died="the process that executes it was killed")
        _stop([self])
        return ending

    def outcome(self, jobs: Collection[Job]) -> Outcome:
        """Of what is new in its folders, that is the notebook's which is not another one's by name."""
        new = [path for path, modified in self.job.products().items() if self.before.get(path) != modified]
        others = [job for job in jobs if job is not self.job]
        written = tuple(sorted(path for path in new if not any(other.owns(path) for other in others)))
        failure = self.ending.failure
        if self.ending.died:
            failure = f"{self.ending.died} twice, perhaps for lack of memory: run the same again, with fewer --jobs"
        if failure is None:
            try:
                unchanged.remember(self.job, written)
            except (UserError, OSError) as error:
                failure = str(error)
        return Outcome(self.job, time.monotonic() - self.started, written, failure, restarted=self.restarted)


def _start(process: multiprocessing.Process) -> None:
    """Starts a process, also when the process that it is forked from was killed: then once that is noticed."""
    for pause in START_PAUSES:
        with suppress(EOFError, ConnectionError):
            process.start()
            return
        time.sleep(pause)


def _on_cpu(job: Job) -> bool:
    return job.parameters.get("device", "cpu") == "cpu"


def _ended(running: Sequence[_Execution]) -> list[_Execution]:
    """Waits until something happens; returns those that have ended."""
    limits = [execution.seconds_left for execution in running if execution.seconds_left is not None]
    connection.wait([execution.connection for execution in running], max(min(limits), 0) if limits else None)
    return [execution for execution in running if execution.check()]


def _stop(running: Sequence[_Execution]) -> None:
    """Kills the kernels and their workers; the processes that executed them then write the copies, and end."""
    deadline = time.monotonic() + STOP_SECONDS
    while alive := [execution.process for execution in running if execution.process and execution.process.is_alive()]:
        for process in alive:
            _kill_descendants(process.pid)
            if time.monotonic() > deadline:
                process.kill()
        connection.wait([process.sentinel for process in alive], timeout=0.2)


def _kill_descendants(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keeps Ctrl-C from a process that starts, which would show a traceback; it comes when that ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
