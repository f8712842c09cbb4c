"""The harness: commands as real processes, SIGKILL at random moments, and what is left held to what should be.

It knows nothing of the package. A `Work` names the commands that do something in a folder, and what of that folder must
be as after an undisturbed run. Every process that a command starts inherits a mark in its environment, by which it is
found again whoever its parent is.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MARK = "SOAK_MARK"  # "LIFE COMMAND START" in the environment of a command and of all that it starts
POLL = 0.1
INTERRUPTED = 130  # the exit code after Ctrl-C, which nobody pressed
KINDS = {"process": 0.6, "group": 0.25, "all": 0.15}  # what a SIGKILL hits, and how often


@dataclass(frozen=True)
class Command:
    """A command of a work.

    Attributes:
        attends: it runs until it is interrupted, which happens when all others are done.
        needs: file that has to be there before it is started.
    """

    name: str
    words: Sequence[str]
    attends: bool = False
    needs: Path | None = None


@dataclass(frozen=True)
class Work:
    """Something that is done in a folder, by commands that can be given again.

    Attributes:
        commands: of a folder; they are started together.
        left: of a folder, what must be the same as after an undisturbed run, by name.
        asks: of a folder, commands that look at what is there.
        shown: of what these print and the folder, what is compared too.
        compared: what is compared, in words.
        differs: what is wrong with one life's content, held against that of the undisturbed one.
        limit: seconds after which a work in which nothing was killed or started is taken for hanging.
        grace: seconds that a process may outlive the command that started it.
        most: kills of one life, after which it may go on to its end.
    """

    name: str
    commands: Callable[[Path], Sequence[Command]]
    left: Callable[[Path], dict[str, str]]
    compared: str
    asks: Callable[[Path], Sequence[Command]] = lambda folder: ()
    shown: Callable[[str, Path], str] = lambda text, folder: text
    differs: Callable[[dict[str, str], dict[str, str]], list[str]] | None = None
    limit: float = 900.0
    grace: float = 60.0
    most: int = 5


@dataclass(frozen=True)
class Strike:
    """A SIGKILL that is to come.

    Attributes:
        kind: one `process`, the process `group` of one command, or `all` processes of the work at once.
        after: what its moment is counted from: the last `start`, or the first `write` into the folder after it.
        seconds: from then on.
        which: 0 to 1, the process or the command among those that are there.
    """

    kind: str
    after: str
    seconds: float
    which: float


@dataclass
class Hit:
    """A SIGKILL that was sent: what it hit, and what became of the commands that it hit."""

    strike: Strike
    hit: str
    ended: dict[str, int | None] = field(default_factory=dict)


@dataclass
class Start:
    """A command that was started."""

    command: Command
    process: subprocess.Popen
    mark: str
    errors: Path
    shown: Path
    hits: list[Hit] = field(default_factory=list)

    @property
    def said(self) -> str:
        return self.errors.read_text(errors="replace")


@dataclass
class Life:
    """What became of one work in one folder."""

    hits: list[Hit] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    content: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    extra: list[str] = field(default_factory=list)


def strikes(moments: random.Random, seconds: float, most: int) -> list[Strike]:
    """Up to `most` kills of a work that takes so many seconds undisturbed, early enough that most of them come."""
    drawn = []
    for _ in range(moments.randint((most + 1) // 2, most)):
        kind, = moments.choices(list(KINDS), list(KINDS.values()))
        after = moments.choice(("start", "write"))
        latest = seconds / 2 if after == "start" else seconds / 4
        drawn.append(Strike(kind, after, moments.uniform(0, latest), moments.random()))
    return drawn


def live(work: Work, folder: Path, planned: Sequence[Strike] = (), whole: Life | None = None) -> Life:
    """Has a work done in a folder, with kills, and starts again what they ended.

    Args:
        whole: the undisturbed life, which everything is held to; None: this is it.
    """
    folder.mkdir(parents=True)
    life = Life()
    _Run(work, folder, life, list(planned)).go()
    if not life.problems:
        _compare(work, folder, life, whole)
    life.problems = [problem.replace(str(folder), "FOLDER") for problem in life.problems]
    return life


def _compare(work: Work, folder: Path, life: Life, whole: Life | None) -> None:
    life.content = work.left(folder)
    life.files = set(_files(folder))
    for command in work.asks(folder):
        start = _start(command, folder, 1)
        try:
            code = start.process.wait(work.limit)
        except subprocess.TimeoutExpired:
            _kill(start.mark)
            code = "hang"
        if code != 0 or "Traceback" in start.said:
            life.problems.append(f"{command.name} ended with {code}: {_last(start.said)}")
        else:
            life.content[f"what {command.name} shows"] = work.shown(start.shown.read_text(), folder)
    if whole is not None:
        differs = work.differs or differences
        life.problems += differs(life.content, whole.content)
        life.extra = sorted(life.files - whole.files)
        life.problems += [f"left over: {name}" for name in life.extra]


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """What is missing, too much or different, by name."""
    both = sorted(expected.keys() & found.keys())
    return [*(f"missing: {name}" for name in sorted(expected.keys() - found.keys())),
            *(f"too much: {name}" for name in sorted(found.keys() - expected.keys())),
            *(f"different: {name}" for name in both if expected[name] != found[name])]


class _Run:
    """The supervisor of one life."""

    def __init__(self, work: Work, folder: Path, life: Life, planned: list[Strike]):
        self.work, self.folder, self.life, self.planned = work, folder, life, planned
        self.running: dict[str, Start] = {}
        self.waiting = list(work.commands(folder))
        self.done: set[str] = set()
        self.touched()

    def touched(self) -> None:
        """Something was started or killed: moments and the limit count from now."""
        self.since, self.before, self.written = time.monotonic(), _state(self.folder), None

    def go(self) -> None:
        began = time.monotonic()
        try:
            while not self.life.problems and (self.waiting or self.running):
                self.start_what_can()
                self.look_after()
                self.strike_if_due()
                if time.monotonic() - self.since > self.work.limit:
                    self.life.problems.append(f"hang: {', '.join(sorted(self.running))} after {self._last_hit()}")
                time.sleep(POLL)
            self.life.seconds = time.monotonic() - began
            if not self.life.problems:
                self.life.problems += self.survivors()
        finally:
            _kill(_mark(self.folder))

    def start_what_can(self) -> None:
        for command in [each for each in self.waiting if each.needs is None or each.needs.exists()]:
            self.waiting.remove(command)
            self.life.starts += 1
            self.running[command.name] = _start(command, self.folder, self.life.starts)
            self.touched()

    def look_after(self) -> None:
        """Starts again what a kill has ended; ends attendants when the others are done."""
        for name, start in list(self.running.items()):
            code = start.process.poll()
            if code is None:
                continue
            del self.running[name]
            for hit in start.hits:
                hit.ended[name] = code
            stopping = start.command.attends and code in (0, INTERRUPTED) and not self.wanted()
            if "Traceback" in start.said and not start.hits:
                self.life.problems.append(f"traceback of {name}: {_last(start.said)}")
            elif code == 0 or stopping:
                self.done.add(name)
            elif code == INTERRUPTED:
                self.life.problems.append(f"{name} spoke of Ctrl-C after {self._last_hit()}: {_last(start.said)}")
            elif start.hits:
                self.waiting.append(start.command)
            else:
                self.life.problems.append(f"{name} ended with {code}, unhurt: {_last(start.said)}")
        if not self.wanted():
            for start in self.running.values():
                if start.command.name not in self.done:
                    self.done.add(start.command.name)
                    start.process.send_signal(signal.SIGINT)
            self.waiting.clear()

    def wanted(self) -> bool:
        """Whether anything but attendants is still at work."""
        return any(not command.attends for command in self.waiting) or any(
            not start.command.attends for start in self.running.values())

    def strike_if_due(self) -> None:
        if not self.planned or not self.running or not self.wanted():
            return
        strike, now = self.planned[0], time.monotonic()
        if strike.after == "write":
            if self.written is None and _state(self.folder) != self.before:
                self.written = now
            due = self.written is not None and now >= self.written + strike.seconds
        else:
            due = now >= self.since + strike.seconds
        if due:
            self.planned.pop(0)
            self.hit(strike)
            self.touched()

    def hit(self, strike: Strike) -> None:
        starts = [self.running[name] for name in sorted(self.running)]
        if strike.kind == "all":
            _kill(_mark(self.folder))
            struck, what = starts, "all processes"
        elif strike.kind == "group":
            struck = [starts[int(strike.which * len(starts))]]
            what = f"group of {struck[0].command.name}"
            with suppress(ProcessLookupError):
                os.killpg(struck[0].process.pid, signal.SIGKILL)
        else:
            processes = [(start, process) for start in starts for process in _marked(start.mark)]
            if not processes:
                return
            start, victim = processes[int(strike.which * len(processes))]
            struck, what = [start], _role(victim)
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        self.life.hits.append(Hit(strike, what))
        for start in struck:
            start.hits.append(self.life.hits[-1])

    def survivors(self) -> list[str]:
        until = time.monotonic() + self.work.grace
        while (left := _marked(_mark(self.folder))) and time.monotonic() < until:
            time.sleep(POLL)
        return [f"process left: {_role(process)}" for process in left]

    def _last_hit(self) -> str:
        return f"a kill of {self.life.hits[-1].hit}" if self.life.hits else "no kill"


def _mark(folder: Path) -> str:
    return str(folder.absolute())


def _start(command: Command, folder: Path, number: int) -> Start:
    logs = folder.parent / f"{folder.name}.logs"
    logs.mkdir(exist_ok=True)
    errors, shown = (logs / f"{number:03d}-{command.name.replace(' ', '-')}.{end}" for end in ("err", "out"))
    mark = f"{_mark(folder)} {command.name} {number}"
    with open(errors, "wb") as to_errors, open(shown, "wb") as to_shown:
        process = subprocess.Popen(
            list(command.words), start_new_session=True, stdin=subprocess.DEVNULL, stdout=to_shown, stderr=to_errors,
            env=os.environ | {MARK: mark, "OMP_NUM_THREADS": "1"}, preexec_fn=_hear_interrupts)
    return Start(command, process, mark, errors, shown)


def _hear_interrupts() -> None:
    """Shells start background jobs deaf to Ctrl-C, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _marked(mark: str) -> list[psutil.Process]:
    """The living processes whose mark begins so, in the order in which they were started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            its = process.environ().get(MARK, "")
            if (its == mark or its.startswith(f"{mark} ")) and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.create_time(), process.pid, process))
    return [process for _, _, process in sorted(found, key=lambda each: each[:2])]


def _kill(mark: str) -> None:
    """All processes of a mark, and what they start meanwhile."""
    while found := _marked(mark):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()  # it starts nothing more
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(POLL)  # `psutil.wait_procs` would take the exit codes from those who started them


def _role(process: psutil.Process) -> str:
    """What a process is, without paths."""
    with suppress(psutil.NoSuchProcess):
        words = process.cmdline()
        for word in words:
            name = Path(word).name
            if name.startswith(("flower-", "flwr", "ipykernel")):
                return name
        if "pfedmoap" in words:
            return " ".join(["pfedmoap", *words[words.index("pfedmoap") + 1 :][:2]])
        text = " ".join(words)
        if "resource_tracker" in text:
            return "resource tracker"
        if "forkserver" in text:
            parent = process.parent()
            above = parent is not None and "forkserver" in " ".join(parent.cmdline())
            return "worker" if above else "server of workers"
        return " ".join(Path(word).name for word in words[:2])
    return "a process that has just ended"


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _state(folder: Path) -> set[tuple[str, int, int]]:
    found = set()
    for name in _files(folder):
        with suppress(FileNotFoundError):
            status = (folder / name).stat()
            found.add((name, status.st_mtime_ns, status.st_size))
    return found


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["nothing said"])[-1][-300:]


def pfedmoap(*words: str) -> list[str]:
    """The public command, of the Python that runs this."""
    return [sys.executable, "-m", "pfedmoap", *map(str, words)]
