"""What an interface that goes down, away, or changes costs under traffic."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from ecustream.capture import live
from ecustream.capture.breaks import Break
from ecustream.capture.live import LiveCapture
from ecustream.traffic import Frame
from tests.namespaces import ip, lay_cable, sender, wait_for
from tests.reliability.live_run import LiveRun, live_run
from tests.reliability.network import own_cable
from tests.reliability.row import Row, Scale, amount, times
from tests.reliability.vehicle import drive, frames_of

__all__ = ["measure"]

TIMES: dict[Scale, int] = {"short": 1, "long": 20}
_FRAMES_PER_S = 500
_OUTAGE_S = 0.3
_CALM_S = 0.3
_OFTEN = bytes.fromhex("03a30084")
"""The id of a PDU that the bundle knows."""


class _Numbered:
    """Sends frames that bear numbers, on `a0` as long as there is one, and knows when each went."""

    def __init__(self, frame: bytes) -> None:
        self.sent_ns: dict[int, int] = {}
        self._frame = frame
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, name="sender")
        self._thread.start()

    def _send(self) -> None:
        numbers = itertools.count()
        due_s = time.monotonic()
        while not self._stopped.is_set():
            try:
                with sender("a0") as wire:
                    while not self._stopped.is_set():
                        time.sleep(max(0.0, due_s - time.monotonic()))
                        # What an outage held up is not made up for.
                        due_s = max(due_s + 1 / _FRAMES_PER_S, time.monotonic())
                        number = next(numbers)
                        wire.send(self._frame[:-8] + number.to_bytes(8, "big"))
                        self.sent_ns[number] = time.monotonic_ns()
            except OSError:
                time.sleep(0.001)

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()
        self._thread.join()


class _Taps:
    """Sees what a capture hands on: when each numbered frame was."""

    def __init__(self) -> None:
        self.came_ns: dict[int, int] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Every capture is tapped."""
        came_ns = self.came_ns

        class Tapped(LiveCapture):
            def __iter__(self) -> Iterator[list[Frame] | Break]:
                for piece in super().__iter__():
                    now_ns = time.monotonic_ns()
                    if not isinstance(piece, Break):
                        came_ns.update((int.from_bytes(frame.data[-8:], "big"), now_ns) for frame in piece)
                    yield piece

        with mock.patch.object(live, "LiveCapture", Tapped):
            yield


class _Change(NamedTuple):
    """A change of the interface.

    Attributes:
        kind: what was done.
        from_ns: when it began.
        until_ns: when the interface could carry frames again.
        back_ns: when the first frame that was sent after that was handed on.
        sentences: how many were said.
    """

    kind: str
    from_ns: int
    until_ns: int
    back_ns: int
    sentences: int


def _down_and_up() -> None:
    ip("link set b0 down")
    time.sleep(_OUTAGE_S)
    ip("link set b0 up")


def _deleted_and_made_anew() -> None:
    ip("link del b0")
    time.sleep(_OUTAGE_S)
    lay_cable()


def _renamed_and_back() -> None:
    ip("link set b0 name c0")
    time.sleep(1.2)  # the name is looked at once a second
    ip("link set c0 name b0")
    time.sleep(1.2)


def _mtu_and_back() -> None:
    ip("link set b0 mtu 1400")
    time.sleep(_OUTAGE_S)
    ip("link set b0 mtu 1500")


_CHANGES: dict[str, tuple[Callable[[], None], int, int]] = {
    "down and up": (_down_and_up, 1, 2),
    "deleted and made anew": (_deleted_and_made_anew, 1, 2),
    "renamed and back": (_renamed_and_back, 0, 2),
    "MTU changed": (_mtu_and_back, 0, 0),
}
"""By kind: what is done, how many capture_gap are expected of it, and how many sentences."""


def _change(kind: str, run: LiveRun, sent_ns: dict[int, int], came_ns: dict[int, int]) -> _Change:
    """Do it, and wait until frames come again."""

    def come_again() -> list[int]:
        return [came_ns[number] for number in list(came_ns) if sent_ns.get(number, 0) > until_ns]

    said = len(run.said)
    from_ns = time.monotonic_ns()
    _CHANGES[kind][0]()
    until_ns = time.monotonic_ns()
    wait_for(come_again)
    time.sleep(_CALM_S)
    return _Change(kind, from_ns, until_ns, min(come_again()), len(run.said) - said)


def _sentence(kind: str, changes: Sequence[_Change], lost_ns: Sequence[int]) -> tuple[str, bool]:
    """What a kind of change cost, and whether that is what it may cost."""
    _, outage, sentences = _CHANGES[kind]
    holds = {change.sentences for change in changes} == {sentences}
    said = "" if holds else f", sentences {[change.sentences for change in changes]}"
    if not outage:
        lost = sum(change.from_ns <= ns <= change.back_ns for ns in lost_ns for change in changes)
        return f"{kind}: {amount(lost)} lost{said}", holds and not lost
    back_ms = [(change.back_ns - change.until_ns) / 1e6 for change in changes]
    lost = sum(change.until_ns < ns <= change.back_ns for ns in lost_ns for change in changes)
    took = f"{np.median(back_ms):.0f} ms" + (f", longest {max(back_ms):.0f} ms" if len(back_ms) > 1 else "")
    return f"{kind}: captured again after {took}, {amount(lost)} lost until then{said}", holds


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: what is lost is what was sent while the interface could not carry it."""
    frames = frames_of(drive(folder / "one.pcap", 1))
    frame = next(frame.data for frame in frames if _OFTEN in frame.data)
    taps = _Taps()
    with own_cable("interface"), taps(), live_run(folder) as run:
        numbered = _Numbered(frame)
        try:
            wait_for(lambda: taps.came_ns)
            changes = [
                _change(kind, run, numbered.sent_ns, taps.came_ns)
                for kind in _CHANGES
                for _ in range(TIMES[scale])
            ]
        finally:
            numbered.stop()
        time.sleep(0.2)
        ledger = run.stop().ledger
        gaps = [event for event in run.events() if (event.kind, event.phase) == ("capture_gap", "open")]
    lost_ns = [sent_ns for number, sent_ns in numbered.sent_ns.items() if number not in taps.came_ns]
    elsewhere = [
        ns for ns in lost_ns if not any(change.from_ns <= ns <= change.back_ns for change in changes)
    ]
    told = [
        _sentence(kind, [change for change in changes if change.kind == kind], lost_ns) for kind in _CHANGES
    ]
    outages = sum(_CHANGES[change.kind][1] for change in changes)
    exact = len(taps.came_ns) == ledger.entered["frames"] and ledger.balanced()
    return Row(
        "the interface goes down or away, gets another name or MTU",
        f"under traffic of {_FRAMES_PER_S} numbered frames/s; each change {times(TIMES[scale])}, each outage "
        f"{_OUTAGE_S:g} s; counted as lost: frames sent while the interface could carry them",
        "; ".join(sentence for sentence, _ in told)
        + f"; {amount(len(elsewhere))} lost at any other time; {len(gaps)} capture_gap for {outages} "
        "outages; " + ("the ledger balances" if exact else "COUNTS DIFFER"),
        all(holds for _, holds in told) and len(gaps) == outages and not elsewhere and exact,
    )
