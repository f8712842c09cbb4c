"""What worker processes have in common: one torch thread each, and an end when their parent ends."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread: on cores that are shared, several are far slower."""
    import torch  # not above, as notebooks' processes need none of it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def end_with_parent() -> None:
    """Has this process end when its parent is gone, killed without a chance to end it; what it wrote is whole."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
