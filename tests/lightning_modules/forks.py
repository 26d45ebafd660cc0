"""Forks of one process that has imported everything already, alone or as the processes of a launcher."""

import functools
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path


class Aborted(Exception):
    """A process was ended by SIGABRT: native code called ``abort``, no error of Python ended it."""


_PRELOADED = ["capturing", "killable", "reporting", "sharded", "two_processes"]


@functools.cache
def _server():
    """Imports once what takes seconds to import, and runs nothing but forks of itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"tests.lightning_modules.{name}" for name in _PRELOADED])
    return context


def in_a_clean_process(work, *given, seconds=400):
    """What ``work`` returns in a new process, where no test has run yet and forks are safe."""
    receive, send = _server().Pipe(duplex=False)
    process = _server().Process(target=_send, args=(send, work, *given))
    process.start()
    send.close()
    with receive:
        if not receive.poll(seconds):
            process.kill()
        try:
            found = receive.recv()
        except EOFError:
            raise AssertionError(f"{work.__module__} failed; its error is in the captured output") from None
        finally:
            process.join()
            process.close()
    if isinstance(found, Aborted):
        raise found
    return found


def finished(work, tmp_path_factory, name: str) -> Path:
    """A folder in which ``work`` returned true, in a clean process.

    Threads of gloo (torch 2.13) aborted one of many hundred runs of two processes, with an error of C++ that named no
    cause. A run that was aborted so is done once more, in a new folder. Any other failure counts at once.
    """
    folder = tmp_path_factory.mktemp(name)
    try:
        assert in_a_clean_process(work, folder)
    except Aborted:
        # No warning: these are errors here.
        sys.stderr.write(f"{work.__module__} was aborted by native code and is run once more\n")
        folder = tmp_path_factory.mktemp(name)
        assert in_a_clean_process(work, folder)
    return folder


def _send(pipe, work, *given) -> None:
    try:
        pipe.send(work(*given))
    except Aborted as aborted:
        pipe.send(aborted)


def in_a_fork(work, **environment) -> int:
    """Run ``work`` in a fork, with a process group of its own; its exit status is 0 when it returned."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            os.environ |= environment
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def as_processes(count: int, work) -> list[int]:
    """Forks with the environment that a launcher would set: Lightning takes them for its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"NODE_RANK": "0", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [in_a_fork(work, LOCAL_RANK=str(rank), **shared) for rank in range(count)]


def wait(children: list[int]) -> bool:
    """Whether all of them returned.

    Raises:
        Aborted: when native code aborted one of them.
    """
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT for status in statuses):
        raise Aborted(f"statuses {statuses}")
    return not any(statuses)


def kill(children: list[int], started: Path, seconds: float) -> bool:
    """SIGKILL a while after the file is there, workers included; false when a process ended before."""
    while not started.exists():
        if os.waitpid(children[0], os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(seconds)
    for child in children:
        os.killpg(child, signal.SIGKILL)  # a worker of a forkserver would wait for its parent for ever
    return all([os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children])
