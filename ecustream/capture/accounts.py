"""Accounts for the frames of a capture file: those handed on, and what cannot be read."""

from collections import deque

from ecustream.capture.window import Window
from ecustream.ledger import Ledger
from ecustream.traffic import Frame

__all__ = ["MAX_LOSSES", "MAX_SENTENCES", "Accounts"]

MAX_SENTENCES = 100
"""How many sentences are kept, so that a file with a million bad packets does not fill the memory."""
MAX_LOSSES = 4096
"""How many places where frames were lost are kept until someone takes them; the oldest go first."""


class Accounts:
    """Enters frames into the ledger, ends the unreadable ones there, and keeps a sentence about each damage.

    Damage that hides an unknown number of packets (the rest of a cut file) is counted as one unreadable
    frame, so that the ledger shows that something is missing.

    Attributes:
        damage: one sentence for each damage with file and offset, the first `MAX_SENTENCES`.
        losses: (frame number, count) where the logger lost so many frames just before that one, the last
            `MAX_LOSSES`; a loss is there before its frame is handed on.
    """

    def __init__(self, window: Window, ledger: Ledger) -> None:
        self._window = window
        self._ledger = ledger
        self.damage: list[str] = []
        self.losses: deque[tuple[int, int]] = deque(maxlen=MAX_LOSSES)

    def sentence(self, at: int, what: str) -> str:
        """One sentence that names the file and the place, `at` bytes into the window."""
        return f"{self._window.path}: {self._window.unit} {self._window.offset + at}: {what}"

    def deliver(self, frames: list[Frame]) -> list[Frame]:
        """Enter frames that are handed on; the decoder will end them."""
        self._ledger.enter("frames", len(frames))
        return frames

    def unreadable(self, reason: str, at: int, what: str) -> None:
        """Count one frame, or all that a cut hides, as unreadable."""
        self._ledger.enter("frames")
        self._ledger.end("frames", "unreadable", reason=reason)
        self.tell(at, what)

    def lost(self, number: int, count: int) -> None:
        """Count frames that the capture lost just before frame `number`."""
        self._ledger.enter("frames", count)
        self._ledger.end("frames", "kernel_dropped", count)
        self.losses.append((number, count))

    def note(self, circumstance: str) -> None:
        """Count something worth telling that costs no frame."""
        self._ledger.note(circumstance)

    def end_of_file(self, unit: str) -> None:
        """Count what is lost where the file ends within a `unit` or its bytes stop early."""
        window = self._window
        if window.fault is not None:
            reason, clause = window.fault
            self.unreadable(reason, len(window.data), clause)
        elif window.data:
            self.unreadable("truncated_file", 0, f"the file ends {len(window.data)} bytes into a {unit}")

    def tell(self, at: int, what: str) -> None:
        """Keep a sentence for the user."""
        if len(self.damage) < MAX_SENTENCES:
            self.damage.append(self.sentence(at, what))
        elif len(self.damage) == MAX_SENTENCES:
            self.damage.append(f"{self._window.path}: more damage follows, which is only counted")
