"""Work that is spread over processes: one torch thread each, and an end when their parent ends.

Torch is imported where it is used, as notebooks' processes need none of it.
"""

import ctypes
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import TypeVar

from tqdm.auto import tqdm

from pfedmoap.errors import PfedmoapError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
Task, Result = TypeVar("Task"), TypeVar("Result")
Work = Callable[[Task, Callable[[], None]], Result]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread: on cores that are shared, several are far slower."""
    import torch

    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next tensors.

    Large ones it would give back to the system, which fills the next one's pages with zeros: a tenth of a run's time.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def end_with_parent() -> None:
    """Has this process end when its parent is gone, killed without a chance to end it; what it wrote is whole."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def in_processes(work: Work, tasks: Sequence[Task], jobs: int, bar: tqdm) -> list[Result]:
    """Does all tasks in worker processes.

    Args:
        work: does one, and calls its second argument whenever the bar is to move; a function of a module.

    Returns:
        What the work returns, in the tasks' order.

    Raises:
        PfedmoapError: a worker was killed. What the work itself raises comes after all other tasks are done.
    """
    if not tasks:
        return []
    start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    processes = multiprocessing.get_context(start)
    processes.set_forkserver_preload(["pfedmoap.experiments.runs"])
    steps = processes.Queue()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), processes, _start_worker, (steps,))
    try:
        try:
            futures = [executor.submit(_call, work, task) for task in tasks]
        except (EOFError, ConnectionError) as error:  # the server that workers are forked from was killed
            raise BrokenProcessPool from error
        _watch(futures, steps, bar)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise PfedmoapError("A worker process was killed, perhaps for lack of memory; what is finished is kept. Run "
                            "the same again, with fewer --jobs if memory is short.") from error
    except BaseException:  # Ctrl-C among others: nobody waits for what is in progress
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)  # else its thread complains when the interpreter exits


def _watch(futures: Sequence[Future], steps, bar: tqdm) -> None:
    while True:
        done = all(future.done() for future in futures)
        try:
            while True:
                bar.update(steps.get(timeout=0 if done else 0.1))
        except queue.Empty:
            if done:
                return


def _start_worker(steps) -> None:
    import torch

    global _steps  # a worker process's own, set once at its start
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)


def _call(work: Work, task: Task) -> Result:
    return work(task, lambda: _steps.put(1))
