"""Work in processes: what is said when what they are forked from is killed."""

from concurrent.futures import ProcessPoolExecutor

import pytest
from tqdm.auto import tqdm

from pfedmoap.errors import PfedmoapError
from pfedmoap.system import in_processes


def double(task, on_done):
    on_done()
    return 2 * task


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_killed_server_of_workers_is_no_interruption(error, monkeypatch):
    """An EOFError that came through would look to the command line like Ctrl-C."""
    def killed(*_):
        raise error

    monkeypatch.setattr(ProcessPoolExecutor, "submit", killed)
    with pytest.raises(PfedmoapError, match="A worker process was killed.*what is finished is kept"):
        in_processes(double, [1, 2], 2, tqdm(disable=True))
