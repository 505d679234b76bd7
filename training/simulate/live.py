"""Send simulated traffic on a network interface in real time, every frame at its own absolute time."""

import errno
import math
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ecustream.errors import ConfigError, OutputError
from training.simulate.slice_process import (
    LONGEST_SLEEP_NS,
    LiveSlice,
    MakeSlices,
    MappedSlice,
    SliceProcess,
    StopSignals,
)

__all__ = ["Lateness", "LiveReport", "LiveSlice", "MakeSlices", "send_live"]

SPIN_NS = 60_000
"""A sleep ends so long before a frame is due; the rest is waited for in a loop, which is exact."""
FETCH_NS = 50_000_000
"""So long before a slice ends the next one is fetched."""
RETRY_S = 0.0005
RETRIES = 1_000

TIMER_SLACK = Path("/proc/self/timerslack_ns")
SIOCGIFFLAGS = 0x8913
IFF_UP, IFF_RUNNING = 0x1, 0x40


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What was sent, and how late.

    Attributes:
        start_ns: start of the trace, nanoseconds since 1970.
        end_ns: when sending ended, nanoseconds since 1970.
        sent: frames sent.
        p50_us: half of them were no later than this; whole microseconds, like the following.
        p99_us: 99 % of them were no later than this.
        p999_us: 99.9 % of them were no later than this.
        max_us: none was later than this.
        late: frames that were 1 ms late or more.
        send_errors: how often the interface's queue was full; the frame was then offered again.
        stopped: a signal ended it before the trace did.
    """

    start_ns: int
    end_ns: int
    sent: int
    p50_us: int
    p99_us: int
    p999_us: int
    max_us: int
    late: int
    send_errors: int
    stopped: bool

    def __str__(self) -> str:
        seconds = max(self.end_ns - self.start_ns, 0) / 1e9
        return (
            f"{self.sent} frames in {seconds:.1f} s, late by {self.p50_us} us (p50), {self.p99_us} us (p99), "
            f"{self.p999_us} us (p99.9), {self.max_us} us (max); {self.late} of them by 1 ms or more; "
            f"queue full {self.send_errors} times"
        )


class Lateness:
    """How late frames were, counted in steps of 1 us up to 100 ms: its size does not grow.

    Attributes:
        count: frames counted.
        max_ns: the latest one; 0 for none.
    """

    STEPS = 100_000

    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._counts = [0] * (self.STEPS + 1)

    def add(self, late_ns: int) -> None:
        """Count a frame that was sent `late_ns`, 0 or more, after it was due."""
        self.count += 1
        if late_ns > self.max_ns:
            self.max_ns = late_ns
        step = late_ns // 1_000
        self._counts[min(step, self.STEPS)] += 1

    def quantile_us(self, share: float) -> int:
        """What `share` of the frames did not exceed, in whole us; beyond 100 ms, the latest; 0 for none."""
        left = math.ceil(share * self.count)
        for step, count in enumerate(self._counts[: self.STEPS]):
            left -= count
            if left <= 0:
                return step
        return self.max_ns // 1_000

    def at_least(self, late_us: int) -> int:
        """How many frames were `late_us` late or more; up to 100 ms."""
        return sum(self._counts[late_us:])


def send_live(interface: str, make_slices: MakeSlices) -> LiveReport:
    """Send a trace as it would go over the wire, until it ends, or until SIGINT or SIGTERM.

    The slices are made in another process, a few of them ahead, so that making them delays no frame.
    `make_slices` is called there, with the start of the trace, and its generator is closed there when
    sending stops. To be called from the main thread.

    Args:
        interface: name of a network interface that is up, for instance `eth1`.
        make_slices: what can be pickled: a function of a module, or a `functools.partial` of one.

    Raises:
        ConfigError: there is no such interface.
        OutputError: frames cannot be sent on it, or the other process was too slow or died.
        EcustreamError: what `make_slices` raised.
    """
    with (
        _open_interface(interface) as wire,
        StopSignals() as stop,
        SliceProcess(make_slices, stop) as process,
        _real_time(),
    ):
        start_ns, shift_ns = process.start()
        sender = _Sender(wire, interface, shift_ns, stop)
        for piece in process.slices():
            sender.send(piece)
            sender.wait_until(piece.until_ns + shift_ns - FETCH_NS)
        lateness = sender.lateness
        return LiveReport(
            start_ns=start_ns,
            end_ns=time.monotonic_ns() - shift_ns,
            sent=lateness.count,
            p50_us=lateness.quantile_us(0.5),
            p99_us=lateness.quantile_us(0.99),
            p999_us=lateness.quantile_us(0.999),
            max_us=lateness.max_ns // 1_000,
            late=lateness.at_least(1_000),
            send_errors=sender.send_errors,
            stopped=stop.requested,
        )


def _open_interface(interface: str) -> socket.socket:
    """A socket that sends whole frames on an interface that is up, and receives nothing."""
    if not hasattr(socket, "AF_PACKET"):
        raise OutputError("sending frames on an interface is possible on Linux only")
    from fcntl import ioctl

    names = [name for _, name in socket.if_nameindex()]
    if interface not in names:
        raise ConfigError(f"interface {interface} does not exist; there are: {', '.join(names)}")
    try:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except PermissionError:
        raise OutputError(f"interface {interface}: sending frames needs CAP_NET_RAW (or root)") from None
    try:
        request = struct.pack("16s24x", interface.encode())
        flags = int.from_bytes(ioctl(wire, SIOCGIFFLAGS, request)[16:18], "little")
        if not flags & IFF_UP:
            raise OutputError(f"interface {interface} is down: `ip link set {interface} up`")
        if not flags & IFF_RUNNING:
            raise OutputError(f"interface {interface} has no link: is the cable in and the other end up?")
        wire.bind((interface, 0))
    except OSError as error:
        wire.close()
        raise OutputError(f"interface {interface}: cannot send on it: {error.strerror}") from None
    except OutputError:
        wire.close()
        raise
    return wire


@contextmanager
def _real_time() -> Iterator[None]:
    """This thread is woken at the time it asked for, as far as its rights allow that.

    That is: not up to 50 us later (its timer slack), and before ordinary work on the same core.
    """
    with ExitStack() as after:
        with suppress(OSError):
            slack = TIMER_SLACK.read_text()
            TIMER_SLACK.write_text("1")
            after.callback(TIMER_SLACK.write_text, slack)
            policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            after.callback(os.sched_setscheduler, 0, policy, parameters)
        yield


class _Sender:
    """Sends frames when they are due, and counts how late they were."""

    def __init__(self, wire: socket.socket, interface: str, shift_ns: int, stop: StopSignals) -> None:
        self._wire = wire
        self._interface = interface
        self._shift_ns = shift_ns
        self._stop = stop
        self.lateness = Lateness()
        self.send_errors = 0

    def send(self, piece: MappedSlice) -> None:
        """Send a slice's frames, unless a stop is requested."""
        data, shift_ns, add = piece.data, self._shift_ns, self.lateness.add
        now_ns = time.monotonic_ns()
        for time_ns, start, length in zip(piece.time_ns, piece.start, piece.length, strict=True):
            due_ns = time_ns + shift_ns
            if now_ns < due_ns:
                self.wait_until(due_ns)
            if self._stop.requested:
                return
            self._send_frame(data[start : start + length])
            now_ns = time.monotonic_ns()
            add(now_ns - due_ns)

    def wait_until(self, due_ns: int) -> None:
        """Wait until a time of the monotonic clock, or until a stop is requested."""
        while (left_ns := due_ns - time.monotonic_ns()) > 0 and not self._stop.requested:
            if left_ns > SPIN_NS:
                time.sleep(min(left_ns - SPIN_NS, LONGEST_SLEEP_NS) / 1e9)

    def _send_frame(self, frame: memoryview) -> None:
        for _ in range(RETRIES):
            try:
                self._wire.send(frame)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise OutputError(f"interface {self._interface}: cannot send: {error.strerror}") from None
                self.send_errors += 1
                time.sleep(RETRY_S)
            else:
                return
        raise OutputError(f"interface {self._interface}: its queue was full for {RETRIES * RETRY_S:g} s")
