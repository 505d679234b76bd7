"""`ecustream run` in a process of its own, and what it says of itself on its reply socket."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from tests.reliability.row import Skipped

__all__ = ["ROOT", "Running", "ask", "needs_root", "run_to_end", "running", "wait_for"]

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = (sys.executable, "-m", "ecustream", "run")
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class Running(NamedTuple):
    """A run that was started.

    Attributes:
        process: it; with a prefix that is replaced by it, as `nsenter` is.
        pub: address of its event socket.
        reply: address of its reply socket.
        out: file that gets its standard output.
        err: file that gets its standard error.
    """

    process: subprocess.Popen[bytes]
    pub: str
    reply: str
    out: Path
    err: Path


@contextmanager
def running(
    folder: Path, *arguments: object, prefix: Sequence[str] = (), tag: str = "run"
) -> Iterator[Running]:
    """Starts `ecustream run` with sockets in `folder`; kills it at the end, if it still runs.

    Args:
        folder: for sockets and output; may be short of space only where that is meant.
        arguments: of the command, without those for its sockets.
        prefix: a command that runs another one.
        tag: names the files of output.
    """
    pub, reply = (f"ipc://{folder / name}" for name in ("pub", "reply"))
    out, err = (folder / f"{tag}.{name}" for name in ("out", "err"))
    command = [*prefix, *_COMMAND, "--pub", pub, "--reply", reply, *map(str, arguments)]
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            command, stdout=to_out, stderr=to_err, cwd=ROOT, env={**os.environ, **_ONE_THREAD}
        )
    try:
        yield Running(process, pub, reply, out, err)
    finally:
        process.kill()
        process.wait()


def run_to_end(*arguments: object, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """`ecustream run` to its end."""
    command = [*prefix, *_COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **_ONE_THREAD}, check=False
    )


def ask(run: Running, op: str = "status", seconds: float = 2.0, **fields: object) -> Any:
    """The answer to a request, as decoded JSON; None where none came in time."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(run.reply)
        socket.send(msgspec.json.encode({"op": op, **fields}))
        return msgspec.json.decode(socket.recv()) if socket.poll(round(seconds * 1000)) else None


def wait_for(run: Running, condition: Callable[[Any], object], seconds: float = 60.0) -> Any:
    """The first status of which the condition holds.

    Raises:
        RuntimeError: the run ended before, or it took too long; the text has what it said last.
    """
    end_s = time.monotonic() + seconds
    status: Any = None
    while time.monotonic() < end_s:
        # Short, as a socket that is not there yet answers nothing.
        status = ask(run, seconds=0.2) or status
        if status is not None and condition(status):
            return status
        if run.process.poll() is not None:
            break
        time.sleep(0.01)
    said = run.err.read_text(errors="replace").strip().rsplit("\n", 1)[-1]
    how = "did not come to it" if run.process.returncode is None else f"ended with {run.process.returncode}"
    raise RuntimeError(f"the run {how}; it said {said!r}, its last status was {status}")


def needs_root(what: str) -> None:
    """Only root can do it.

    Raises:
        Skipped: this is somebody else.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        raise Skipped(f"{what} needs root and Linux")
