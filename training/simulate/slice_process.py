"""Make slices of a simulation in another process, ahead of those that are being sent."""

import mmap
import multiprocessing
import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import FrameType
from typing import Self

import numpy as np
import numpy.typing as npt

from ecustream.errors import EcustreamError, OutputError
from training.draws import IntArray

__all__ = ["LONGEST_SLEEP_NS", "LiveSlice", "MakeSlices", "MappedSlice", "SliceProcess", "StopSignals"]

LEAD_NS = 2_000_000_000
"""From the other process's being ready to the start of the trace; the first slice is made in it."""
SLICES_AHEAD = 3
LONGEST_SLEEP_NS = 100_000_000
"""A request to stop is noticed after so long at the latest."""
END_S = 0.7
"""So long the other process may take to close its files before it is killed."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SLICE_HEAD = struct.Struct("=qq")
START = struct.Struct("=q")
READY, SLICE, DONE, ERROR = b"R", b"S", b"D", b"E"


@dataclass(frozen=True, slots=True)
class LiveSlice:
    """Prepared frames of a stretch of time, about a second.

    Attributes:
        until_ns: no frame of a later slice is due before, nanoseconds since 1970.
        time_ns: when each frame is due, nanoseconds since 1970, ascending, shape (frames,).
        data: uint8; frame i is `data[start[i] : start[i] + length[i]]`, from its destination MAC address on.
        start: shape (frames,).
        length: shape (frames,).
    """

    until_ns: int
    time_ns: IntArray
    data: npt.NDArray[np.uint8]
    start: IntArray
    length: IntArray


MakeSlices = Callable[[int], Generator[LiveSlice, None, None]]
"""Makes the slices of a trace that starts at a given time, nanoseconds since 1970."""


class StopSignals:
    """While entered, signals that would end the program only ask for it."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class MappedSlice:
    """A slice in memory that both processes share."""

    def __init__(self, fd: int) -> None:
        try:
            memory = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        finally:
            os.close(fd)
        self.until_ns, frames = SLICE_HEAD.unpack_from(memory)
        end = SLICE_HEAD.size + 24 * frames
        columns = memory[SLICE_HEAD.size : end].cast("q")
        self.time_ns = columns[:frames]
        self.start = columns[frames : 2 * frames]
        self.length = columns[2 * frames :]
        self.data = memory[end:]


class SliceProcess:
    """Another process which makes slices, up to `SLICES_AHEAD` of them before they are asked for."""

    def __init__(self, make_slices: MakeSlices, stop: StopSignals) -> None:
        self._stop = stop
        # Each process notices the other's end, however it comes, as the end of the messages.
        self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_make_slices, args=(theirs, make_slices))
        # What is blocked is inherited: a Ctrl-C goes to both, and the other one must first close its files.
        # (This helper of multiprocessing unblocks it when it is started.)
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(END_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def start(self) -> tuple[int, int]:
        """Begin the trace: its start, ns since 1970, and what turns such times into the monotonic clock's."""
        self._receive()
        # An interruption between the two clocks' readings makes a difference too large, never too small.
        shift_ns = min(-time.time_ns() + time.monotonic_ns() for _ in range(10))
        start_ns = time.time_ns() + LEAD_NS
        self._deadline_ns = start_ns + shift_ns
        self._send(START.pack(start_ns))
        return start_ns, shift_ns

    def slices(self) -> Iterator[MappedSlice]:
        """The slices, until there are no more or a stop is requested."""
        fds = self._receive()
        if time.monotonic_ns() > self._deadline_ns and not self._stop.requested:
            raise OutputError(f"the first second of traffic was not ready within {LEAD_NS / 1e9:g} s")
        while fds:
            self._send(b"+")
            yield MappedSlice(fds[0])
            fds = self._receive()

    def _send(self, message: bytes) -> None:
        # Why the other one has ended is what it said last, which is read next.
        with suppress(BrokenPipeError):
            self._pipe.send(message)

    def _receive(self) -> list[int]:
        while not self._stop.requested:
            if select.select([self._pipe], [], [], LONGEST_SLEEP_NS / 1e9)[0]:
                try:
                    message, fds, _, _ = socket.recv_fds(self._pipe, 65_536, 1)
                except ConnectionResetError:
                    continue  # It ended before it read all of ours; what it said before is still to be read.
                if not message:
                    self._process.join(END_S)
                    code = self._process.exitcode
                    raise OutputError(f"the process that simulates the traffic died with exit code {code}")
                if message.startswith(ERROR):
                    raise pickle.loads(message[len(ERROR) :])
                return fds
        return []


def _make_slices(pipe: socket.socket, make_slices: MakeSlices) -> None:
    """The other process."""
    with pipe, suppress(BrokenPipeError, ConnectionResetError):
        try:
            pipe.send(READY)
            start = pipe.recv(START.size)
            if start:
                with closing(make_slices(*START.unpack(start))) as slices:
                    _send_slices(pipe, slices)
            pipe.send(DONE)
        except EcustreamError as error:
            pipe.send(ERROR + pickle.dumps(error))


def _send_slices(pipe: socket.socket, slices: Iterator[LiveSlice]) -> None:
    ahead = 0
    for piece in slices:
        fd = os.memfd_create("slice")
        with open(fd, "wb") as memory:
            memory.write(SLICE_HEAD.pack(piece.until_ns, len(piece.time_ns)))
            columns = (piece.time_ns, piece.start, piece.length)
            memory.writelines(np.ascontiguousarray(column, np.int64).data for column in columns)
            memory.write(np.ascontiguousarray(piece.data).data)
            memory.flush()
            socket.send_fds(pipe, [SLICE], [fd])
        ahead += 1
        if ahead >= SLICES_AHEAD:
            if not pipe.recv(1):
                return
            ahead -= 1
