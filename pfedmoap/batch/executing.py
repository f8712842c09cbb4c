"""One notebook, executed by papermill in a process of its own."""

import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from traitlets.config import Config

from pfedmoap.batch import forking
from pfedmoap.batch.jobs import KERNEL, Job
from pfedmoap.system import end_with_parent

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError

SHOWN_LINES = 3
START_SECONDS = 180  # on cores that are busy with other notebooks
LONGEST_SOCKET = 100  # characters that all systems allow in the path of a socket


@dataclass(frozen=True)
class Ending:
    """How an execution ended: with neither a failure nor a death, all is well.

    Attributes:
        failure: a few lines: the cell's number, its first lines, the last line of the error.
        died: why there was no kernel any more.
    """

    failure: str | None = None
    died: str | None = None


def main(job: Job, environment: Mapping[str, str], folder: Path, ending: Connection) -> None:
    """What the process does: executes the notebook and says how it ended.

    Args:
        environment: the kernel's.
        folder: for the kernel's sockets.
    """
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the parent, which ends the kernels
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    fork = forking.prepare()
    end_with_parent()  # the kernel ends with this process, its workers with the kernel
    os.environ.clear()  # a server that processes are forked from may have an older one
    os.environ.update(environment)
    ending.send(execute(job, folder))
    if fork is not None:
        fork.release()


def execute(job: Job, folder: Path) -> Ending:
    """Executes the notebook; its copy is written after every cell, so that a failure leaves what was done before."""
    import papermill  # not above, as the parent imports this module too
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else each kernel warns about missed breakpoints
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it warns of parameters, which `plan` has checked
    try:
        papermill.execute_notebook(
            job.notebook,
            job.output,
            job.parameters,
            kernel_name=KERNEL,
            language="python",
            cwd=job.notebook.parent,
            progress_bar=False,
            start_timeout=START_SECONDS,
            config=_sockets(folder),
            extra_arguments=["--log-level=CRITICAL"],  # kernels talk about themselves on our standard error
        )
    except PapermillExecutionError as error:
        return Ending(failure=_describe(error))
    except DeadKernelError:
        return Ending(died="its kernel was killed")
    except RuntimeError as error:
        return Ending(died=f"its kernel did not start ({error})")
    except TimeoutError as error:  # an OSError too, but nothing that could not be written
        return Ending(died=f"its kernel did not answer in time ({str(error) or 'the machine may be too busy'})")
    except OSError as error:
        return Ending(failure=f"{error.filename or job.output} cannot be written ({error.strerror or error})")
    except Exception as error:  # whatever it is, it is this notebook's
        return Ending(failure=f"{type(error).__name__}: {error}")
    return Ending()


def _sockets(folder: Path) -> Config:
    """Sockets in the folder where the system has them: kernels that start at once may choose the same TCP ports."""
    file = folder / "kernel.json"
    local = os.name == "posix" and len(f"{file}-ipc-1") < LONGEST_SOCKET
    return Config(KernelManager={"connection_file": str(file), "transport": "ipc" if local else "tcp"})


def _describe(error: "PapermillExecutionError") -> str:
    lines = error.source.strip().splitlines()
    shown = lines[:SHOWN_LINES] + ["..."] * (len(lines) > SHOWN_LINES)
    message = (error.evalue.strip().splitlines() or [""])[-1]
    return "\n".join([f"cell [{error.exec_count}]:", *(f"    {line}" for line in shown), f"{error.ename}: {message}"])
