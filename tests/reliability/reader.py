"""Captures on an interface and decodes to lines, nothing else, in a process of its own."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Read", "read_by", "reading"]

ROOT = Path(__file__).resolve().parents[2]


class Read(NamedTuple):
    """What a reader has seen.

    Attributes:
        books: the ledger, as `Ledger.as_dict` gives it; it balances.
        names: how many lines of each PDU.
        cpu_s: processor time from when it was ready.
        kernel_frames: frames that the kernel had for it, by the kernel's own count.
        balanced: whether each frame and PDU has ended.
    """

    books: dict[str, dict[str, int]]
    names: dict[str, int]
    cpu_s: float
    kernel_frames: int
    balanced: bool

    @property
    def entered(self) -> int:
        """Frames that came in."""
        return self.books["frames"]["entered"]

    @property
    def dropped(self) -> int:
        """Frames that the kernel dropped."""
        return self.books["frames"].get("kernel_dropped", 0)


@contextmanager
def reading(
    interface: str, core: int | None = None, ring_mib: int = 64, idle: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A process that captures in the network namespace of this thread until `read_by`; killed at the end.

    Args:
        interface: its name.
        core: the CPU core that the process is bound to.
        ring_mib: size of the kernel's ring.
        idle: takes nothing out of the ring before `read_by`.
    """
    command = [sys.executable, "-m", "tests.reliability.reader", interface, f"--ring-mib={ring_mib}"]
    command += [] if core is None else [f"--core={core}"]
    command += ["--idle"] if idle else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the reader of {interface} has ended with {process.wait()}")
            yield process
        finally:
            process.kill()


def read_by(process: subprocess.Popen[str]) -> Read:
    """End a reader and take what it has seen."""
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the reader has ended with {process.returncode}")
    return Read(**json.loads(out))


def _read(interface: str, ring_mib: int, idle: bool) -> Read:
    """Read in this process."""
    from ecustream.capture.breaks import Break
    from ecustream.capture.frame_source import FrameSource
    from ecustream.capture.live import LiveCapture
    from ecustream.decode.lines import LineBuilder
    from ecustream.decode.packets import PacketDecoder
    from ecustream.decode.state import ActivityState
    from ecustream.ledger import Ledger

    rings: list[FrameSource] = []

    class Remembering(LiveCapture):
        """Keeps its ring at hand for the kernel's count, which the capture itself does not tell."""

        def _open(self, index: int) -> FrameSource:
            rings.append(super()._open(index))
            return rings[-1]

    ledger = Ledger()
    capture = Remembering(interface, ledger, ring_bytes=ring_mib << 20)
    decoder, builder = PacketDecoder(ledger), LineBuilder(ledger, state=ActivityState())
    names: Counter[str] = Counter()
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        capture.stop()

    signal.signal(signal.SIGTERM, stop)
    rings[0].start()
    print("ready", flush=True)
    began_s = time.process_time()
    while idle and not stopped:
        time.sleep(0.01)
    for piece in capture:
        if not isinstance(piece, Break):
            names.update(line.stream.name for line in builder.build(decoder.decode(piece)))
    decoder.flush()
    capture.close()
    cpu_s = time.process_time() - began_s
    books = {book: dict(ends) for book, ends in ledger.as_dict().items()}
    balanced = ledger.balanced(["frames", "pdus"])
    return Read(books, dict(names), cpu_s, sum(ring.packets for ring in rings), balanced)


def main() -> None:
    """Read as the arguments say, and print what was seen as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interface")
    parser.add_argument("--ring-mib", type=int, default=64)
    parser.add_argument("--core", type=int)
    parser.add_argument("--idle", action="store_true")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    print(json.dumps(_read(given.interface, given.ring_mib, given.idle)._asdict()))


if __name__ == "__main__":
    main()
