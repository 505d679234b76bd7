"""Opens capture files: pcap and pcapng, plain or in gzip, chosen by their first bytes."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ecustream.capture.accounts import Accounts
from ecustream.capture.pcap import PCAP_MAGICS, read_pcap
from ecustream.capture.pcapng import PCAPNG_MAGIC, read_pcapng
from ecustream.capture.window import Window
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from ecustream.traffic import Frame

__all__ = ["CaptureReader", "open_capture"]

PCAP_SOURCE = "eth"


class CaptureReader:
    """The frames of a capture in batches (`for frames in reader`), once, with flat memory.

    Every frame is entered into the ledger. Frames that are handed on are ended by whoever decodes them,
    unreadable ones are ended here. Damage never raises: what comes before it is handed on, and where
    the format allows (one bad packet in sound framing) what comes after it, too.

    Attributes:
        damage: one sentence for each damage met so far; empty for a sound file.
        losses: (frame number, count) where the logger lost so many frames just before that one; whoever
            reads on takes them away. pcap does not tell.
        total_bytes: size on disk; None for a pipe.
    """

    def __init__(self, window: Window, accounts: Accounts, batches: Iterator[list[Frame]]) -> None:
        self._window = window
        self._batches = batches
        self.damage = accounts.damage
        self.losses = accounts.losses
        self.total_bytes = window.total_bytes

    @property
    def bytes_read(self) -> int:
        """How far the file on disk was read (inside gzip: in compressed bytes), for a progress bar."""
        return self._window.bytes_read

    def __iter__(self) -> Iterator[list[Frame]]:
        return self._batches

    def close(self) -> None:
        """Close the file."""
        self._window.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_capture(path: Path, ledger: Ledger, source: str | None = None) -> CaptureReader:
    """Open a pcap or pcapng file, plain or gzip, or a pipe that carries one.

    Args:
        path: the file; `/dev/stdin` and named pipes work.
        ledger: frames are entered here.
        source: name for every interface. By default the name in the file, `if<index>` where a pcapng
            interface has none, and `eth` for pcap, which has no names.

    Raises:
        InputError: the file cannot be opened, is empty, is not a capture, or is of an unknown version.
    """
    window = Window(path)
    accounts = Accounts(window, ledger)
    try:
        window.advance(0, len(PCAPNG_MAGIC))
        magic = window.data[: len(PCAPNG_MAGIC)]
        if not magic:
            clause = window.fault[1] if window.fault else "the file is empty"
            raise InputError(accounts.sentence(0, clause))
        if magic in PCAP_MAGICS:
            batches = read_pcap(window, accounts, source or PCAP_SOURCE)
        elif magic == PCAPNG_MAGIC:
            batches = read_pcapng(window, accounts, source)
        else:
            what = f"not a pcap or pcapng capture, it begins with {magic.hex(' ')}"
            raise InputError(accounts.sentence(0, what))
    except InputError:
        window.close()
        raise
    return CaptureReader(window, accounts, batches)
