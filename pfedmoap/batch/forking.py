"""A notebook's kernel, forked from a process that has imported what kernels import.

A kernel of its own needs as long for its imports as a small notebook for everything else.
"""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from pathlib import Path

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from traitlets.config import Config

from pfedmoap.system import end_with_parent

NAME = "pfedmoap-forked"
LAUNCHER = "ipykernel_launcher"


def prepare() -> "Fork | None":
    """Forks a process that may become this process's kernel, while this process has no threads yet.

    Returns:
        None where processes cannot be forked; kernels are then started as usual.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or multiprocessing.current_process().daemon:
        return None
    processes = multiprocessing.get_context("fork")
    theirs, ours = processes.Pipe(duplex=False)
    process = processes.Process(target=_wait_and_serve, args=(theirs, ours))
    process.start()
    theirs.close()
    fork = Fork(process, ours)
    factory = KernelProvisionerFactory.instance(config=Config({"KernelProvisionerFactory": {
        "default_provisioner_name": NAME}}))
    factory.provisioners[NAME] = EntryPoint(NAME, f"{__name__}:ForkedKernel", factory.GROUP_NAME)
    ForkedKernel.fork = fork
    return fork


class Fork:
    """The process that waits to become a kernel, with what a provisioner asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process, connection: Connection):
        self._process, self._connection = process, connection
        self.pid = process.pid

    def serve(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        """Makes it the kernel that this command line would start."""
        self._connection.send((arguments, environment, folder))

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def release(self) -> None:
        """Ends it if it was never asked to serve, or has not ended yet."""
        self._connection.close()
        self._process.join(1)
        self._process.kill()


class ForkedKernel(LocalProvisioner):
    """Has the prepared process serve; a second kernel of the same process is started as usual."""

    fork: Fork | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs) -> KernelConnectionInfo:
        fork, ForkedKernel.fork = ForkedKernel.fork, None
        if fork is None or fork.poll() is not None or LAUNCHER not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = kwargs.get("cwd") or os.getcwd()
        fork.serve(cmd[cmd.index(LAUNCHER) + 1 :], dict(kwargs.get("env") or os.environ), Path(self.cwd))
        self.process, self.pid, self.pgid = fork, fork.pid, fork.pid
        return self.connection_info


def _wait_and_serve(connection: Connection, others_end: Connection) -> None:
    others_end.close()  # so that the other process's end is the connection's end
    os.setsid()  # Ctrl-C in a terminal is for those who started this
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent()
    try:
        arguments, environment, folder = connection.recv()
    except EOFError:
        return
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(arguments)
