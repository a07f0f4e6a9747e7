"""Python commands that begin with everything imported: forked off a process that has done it.

Most of a short command's time goes into imports. A test that is about anything else starts its
commands here. What is forked goes on as the interpreter would, to its very end.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path

import dask.config

IMPORTED = (
    "dask.array",
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "geomsae.cli.main",
    "geomsae.conversion",
    "geomsae.pictures",
    "geomsae.results",
    "geomsae.tables",
    "s3fs",
)
"""What most commands need. Not ``huggingface_hub``, which reads the environment once it begins."""

_LARGEST = 1 << 20

_one_at_a_time = threading.Lock()


def start(words, **where) -> Fork | subprocess.Popen[str]:
    """Start a command of Python.

    Parameters
    ----------
    words : sequence
        What follows the name of Python: ``-W`` and an action, if need be, then ``-m`` and a module
        or ``-c`` and code, and their words.
    **where
        ``stdout``, ``stderr``, ``env`` and ``cwd``, as `subprocess.Popen` takes them.
    """
    if hasattr(os, "pidfd_open"):
        return Fork(words, **where)
    return subprocess.Popen([sys.executable, *map(str, words)], text=True, **where)


class Fork:
    """A command that was started, which can be asked and told what a `subprocess.Popen` can."""

    def __init__(self, words, *, stdout=None, stderr=None, env=None, cwd=None):
        wanted = {"words": [*map(str, words)], "cwd": str(cwd or Path.cwd())}
        wanted["env"] = dict(os.environ if env is None else env)
        self.returncode: int | None = None
        with contextlib.ExitStack() as its, _one_at_a_time:
            self.stdout, out = _to(stdout, 1, its)
            self.stderr, err = _to(stderr, 2, its)
            self._ended, ends = os.pipe()
            its.callback(os.close, ends)
            server = _server()
            socket.send_fds(server, [json.dumps(wanted).encode()], [out, err, ends])
            self.pid = int(server.recv(_LARGEST))

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout)
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._ended, 32)))
            os.close(self._ended)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> list[str]:
        """What it says through pipes, once it has ended."""
        with ThreadPoolExecutor(2) as pool:
            said = [pool.submit(_read, pipe) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return [each.result() for each in said]

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _to(place, usual: int, its: contextlib.ExitStack):
    """A pipe's end to read from, if that is wanted, and what a fork is to write to."""
    if place != subprocess.PIPE:
        return None, usual if place is None else place.fileno()
    read, write = os.pipe()
    its.callback(os.close, write)
    return open(read), write


def _read(pipe) -> str:
    """All that comes through a pipe."""
    with pipe or contextlib.nullcontext():
        return pipe.read() if pipe else ""


@cache
def _server() -> socket.socket:
    """The process that forks, for as long as this one lives."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-m", "tests.forks", str(its.fileno())]
        root = Path(__file__).parents[1]
        process = subprocess.Popen(command, cwd=root, pass_fds=[its.fileno()])
    atexit.register(process.wait)
    atexit.register(mine.close)
    return mine


def _serve(requests: socket.socket) -> dict[str, object]:
    """Fork for each request, and tell how each fork ended; returns in the forks alone."""
    forks: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests, *forks], [], [])[0]:
            if ready is not requests:
                pid, ends = forks.pop(ready)
                with contextlib.suppress(BrokenPipeError):
                    os.write(ends, str(os.waitpid(pid, 0)[1]).encode())
                os.close(ends)
                os.close(ready)
                continue
            message, fds, _, _ = socket.recv_fds(requests, _LARGEST, 3)
            if not message:
                sys.exit()
            *given, ends = fds
            pid = os.fork()
            if pid == 0:
                requests.close()
                for fd in (ends, *forks, *(end for _, end in forks.values())):
                    os.close(fd)
                return {**json.loads(message), "fds": given}
            requests.send(str(pid).encode())
            for fd in given:
                os.close(fd)
            forks[os.pidfd_open(pid)] = pid, ends


def _become(wanted: dict) -> None:
    """Be the command that was asked for."""
    for place, fd in enumerate(wanted["fds"], 1):
        os.dup2(fd, place)
        os.close(fd)
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.path[0] = wanted["cwd"]
    dask.config.refresh()  # which had read another environment
    how, what, *words = wanted["words"]
    if how == "-W":
        warnings.simplefilter(what)
        how, what, *words = words
    sys.argv = [how, *words]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in IMPORTED:
            with contextlib.suppress(ImportError):
                import_module(module)
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
