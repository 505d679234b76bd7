"""A stage hangs: systemd gets no ping any more, and starts the service again."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.namespaces import wait_for
from tests.reliability.live_command import capturing
from tests.reliability.network import own_cable
from tests.reliability.notified import Notifications, notified
from tests.reliability.player import play
from tests.reliability.row import Row, Scale
from tests.reliability.vehicle import drive

__all__ = ["measure"]

WATCHDOG_S: dict[Scale, float] = {"short": 1.2, "long": 30.0}
"""`WatchdogSec` of the unit is 30 s."""


@contextmanager
def _pipe_that_nobody_reads(path: Path) -> Iterator[Callable[[], None]]:
    """A FIFO; once the callable has filled it, an event blocks whoever writes it, for good."""
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    def fill() -> None:
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b" ")

    try:
        yield fill
    finally:
        os.close(writing)
        os.close(reading)


def _blocked(pid: int) -> bool:
    """Whether a thread of the process is stuck in writing to a pipe, as the kernel says."""
    places = Path(f"/proc/{pid}/task").glob("*/wchan")
    return any("pipe_write" in place.read_text() for place in places)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: the thread that scores really blocks, in a write that never ends."""
    watchdog_s = WATCHDOG_S[scale]
    trace = drive(folder / "clean.pcap", 60)
    pipe = folder / "events"
    with own_cable("watchdog"), notified(folder, watchdog_s) as heard:
        with (
            _pipe_that_nobody_reads(pipe) as fill,
            capturing(folder, "--no-publish", "--events", pipe) as run,
        ):
            before = len(heard.at_s("WATCHDOG"))
            play("a0", trace, watchdog_s)
            pings = len(heard.at_s("WATCHDOG")) - before
            fill()
            # At its end the bus is silent, if not before: an event.
            play("a0", trace, 0.5)
            wait_for(lambda: _blocked(run.process.pid), 20)
            hung_s = time.monotonic()
            wait_for(lambda: time.monotonic() - heard.at_s("WATCHDOG")[-1] > watchdog_s, 4 * watchdog_s)
            acts_s = time.monotonic()
            last_s = heard.at_s("WATCHDOG")[-1]
            still_hung = _blocked(run.process.pid)
            # So does systemd then.
            run.process.send_signal(signal.SIGABRT)
            code = run.process.wait(20)
        again = f", ready again {_start_again(folder, heard) - acts_s:.1f} s later" if scale == "long" else ""
    told = [status for status in heard.statuses() if "stood still" in status]
    return Row(
        "the scoring thread hangs",
        f"it writes an event to a pipe that nobody reads; the test listens in systemd's place "
        f"(`NOTIFY_SOCKET`, WatchdogSec {watchdog_s:g} s)",
        f"{pings} pings in {watchdog_s:g} s while all was well, the last one at most "
        f"{max(0.0, last_s - hung_s):.1f} s after the hang; systemd would act {acts_s - hung_s:.1f} s after "
        f"it; SIGABRT ended it{again}; status: {told[-1] if told else 'nothing'}",
        # With one in this time systemd would do nothing; the service sends them more often.
        pings >= 2 and still_hung and code == -signal.SIGABRT and bool(told) and "scoring" in told[-1],
    )


def _start_again(folder: Path, heard: Notifications) -> float:
    """Start it as systemd does; when it was ready, by the monotonic clock in s."""
    ups = len(heard.at_s("READY"))
    with capturing(folder, "--no-publish"):
        wait_for(lambda: len(heard.at_s("READY")) > ups, 60)
        return heard.at_s("READY")[-1]
