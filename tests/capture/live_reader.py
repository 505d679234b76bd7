"""A live capture read in a thread, for the tests of live capture."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ecustream.capture.breaks import Break
from ecustream.capture.live import LiveCapture
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.test_afpacket import SENT, send
from tests.namespaces import ip, lay_cable, wait_for


@contextmanager
def own_cable() -> Iterator[None]:
    """The ends `a0` and `b0` in this namespace, gone afterwards, whatever the test has made of them."""
    lay_cable()
    try:
        yield
    finally:
        for end in ("b0", "c0"):
            # The test may have renamed or deleted it.
            with suppress(subprocess.CalledProcessError):
                ip(f"link del {end}")


backends = pytest.mark.parametrize("backend", ["afpacket", "scapy"])


class Reader:
    """Iterates a capture in a thread, as a lane does, and keeps what it gives."""

    def __init__(self, **options: object) -> None:
        self.said: list[str] = []
        self.ledger = Ledger()
        self.pieces: list[list[Frame] | Break] = []
        self.capture = LiveCapture("b0", self.ledger, say=self.said.append, **options)  # type: ignore[arg-type]
        self.limits, self.said[:] = tuple(self.said), []
        self.before_piece: Callable[[], object] = bool
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_for(lambda: self.capture.reached.time_ns)

    def _read(self) -> None:
        for piece in self.capture:
            self.before_piece()
            self.pieces.append(piece)

    @property
    def frames(self) -> list[Frame]:
        """All frames until now."""
        return [frame for piece in self.pieces if isinstance(piece, list) for frame in piece]

    @property
    def breaks(self) -> list[Break]:
        """All breaks until now."""
        return [piece for piece in self.pieces if isinstance(piece, Break)]

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.capture.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.capture.close()


def stalled(**options: object) -> tuple[Reader, threading.Event]:
    """A reader that has one frame in its hands and goes on when the event is set; its ring is tiny."""
    reader = Reader(ring_bytes=1 << 18, **options)
    busy, free = threading.Event(), threading.Event()

    def stall() -> None:
        busy.set()
        assert free.wait(20)

    reader.before_piece = stall
    send(SENT[:1])
    assert busy.wait(10)
    return reader, free
