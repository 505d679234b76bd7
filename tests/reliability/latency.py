"""How soon a missing message is told to a subscriber, and how soon a line has its score."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from ecustream.scores import ScoreBlock
from ecustream.scoring.scorer import ScoredStream, Scorer
from ecustream.traffic import Line
from tests.reliability.live_run import live_run
from tests.reliability.network import own_cable
from tests.reliability.player import play
from tests.reliability.row import Row, Scale
from tests.reliability.subscriber import Received, received_by, subscribing
from tests.reliability.vehicle import drive, frames_of
from training.labels import Label, read_labels
from training.simulate.faults.spec import ExplicitFault

__all__ = ["measure"]

MISSING: dict[Scale, int] = {"short": 2, "long": 60}
EVEN_S: dict[Scale, float] = {"short": 0.3, "long": 30.0}
LINES_PER_S = (100, 2000)
LINES_A_FRAME = 1.59
_FIRST_S, _EVERY_S = 1.2, 1.2
_PDUS = ("FPK_26", "Fahrwerk_72", "Kombi_75", "ESP_24")
"""Cycles of 10, 20, 20 and 30 ms; three messages in a row are left out."""
_STARTS_IN_NS = 700_000_000
_TOLD_WITHIN_NS = 1_000_000_000
_PROMISED_MS = 100
"""From the deadline to the subscriber, half of the time, also on a machine that others use as well."""


class _Told(NamedTuple):
    """A message that was missing: ns from when it was due, and from its deadline, to the subscriber."""

    after_due_ns: int
    after_deadline_ns: int


@contextmanager
def _scores_timed(late_ns: list[int]) -> Iterator[None]:
    """Of each line: from the kernel's stamp until it is scored."""
    score = Scorer.score

    def timed(self: Scorer, batch: Sequence[tuple[ScoredStream, Sequence[Line]]]) -> list[ScoreBlock]:
        blocks = score(self, batch)
        now_ns = time.time_ns()
        late_ns.extend(now_ns - line.time_ns for _, lines in batch for line in lines)
        return blocks

    with mock.patch.object(Scorer, "score", timed):
        yield


def _told_of(label: Label, shift_ns: int, received: Sequence[Received]) -> _Told | None:
    """When the subscriber was told of a fault; None where it never was."""
    due_ns = label.start_ns + shift_ns
    for at_ns, event in received:
        named = {pdu.name for pdu in event.pdus} & set(label.pdus)
        missing = event.phase == "open" and event.evidence == "missing"
        if named and missing and due_ns < at_ns < due_ns + _TOLD_WITHIN_NS:
            return _Told(at_ns - due_ns, at_ns - event.decided_ns)
    return None


def _joined(label: Label, shift_ns: int, received: Sequence[Received]) -> bool:
    """Whether an episode that was open already took the fault in: it has the PDU and is told after it."""
    due_ns = label.start_ns + shift_ns
    return any(
        due_ns < at_ns < due_ns + _TOLD_WITHIN_NS and set(label.pdus) <= {pdu.name for pdu in event.pdus}
        for at_ns, event in received
    )


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: the traffic is the vehicle's, in real time, from a process of its own."""
    count = MISSING[scale]
    faults = [
        ExplicitFault("missing", _FIRST_S + i * _EVERY_S, _PDUS[i % len(_PDUS)], 3) for i in range(count)
    ]
    seconds = _FIRST_S + count * _EVERY_S
    trace = drive(folder / "missing.pcap", seconds, faults)
    labels = read_labels(folder / "missing.labels.jsonl")
    late_ns: list[int] = []
    even: dict[int, list[int]] = {}
    pub = f"ipc://{folder}/pub"
    keys = {"publish_enabled": True, "publish_pub": pub, "publish_reply": f"ipc://{folder}/reply"}
    with own_cable("latency"), _scores_timed(late_ns), live_run(folder, **keys) as run:
        with subscribing(pub) as subscriber:
            start_ns = time.time_ns() + _STARTS_IN_NS
            play("a0", trace, seconds, start_ns=start_ns)
            even[550] = late_ns[:]
            for lines_per_s in LINES_PER_S:
                late_ns.clear()
                play("a0", trace, EVEN_S[scale], frames_per_s=lines_per_s / LINES_A_FRAME)
                time.sleep(0.1)
                even[lines_per_s] = late_ns[:]
            received = received_by(subscriber)
        ledger = run.stop().ledger
    shift_ns = start_ns - frames_of(trace)[0].time_ns
    told_of = [_told_of(label, shift_ns, received) for label in labels]
    told = [one for one in told_of if one is not None]
    joined = sum(
        one is None and _joined(label, shift_ns, received) for one, label in zip(told_of, labels, strict=True)
    )
    deadline_ms = np.array([one.after_deadline_ns for one in told]) / 1e6
    due_ms = np.array([one.after_due_ns for one in told]) / 1e6
    prompt = bool(told) and float(np.median(deadline_ms)) < _PROMISED_MS
    scores = "; ".join(
        f"{lines_per_s:,} lines/s {_quantiles(np.array(late) / 1e6)}"
        for lines_per_s, late in sorted(even.items())
    )
    return Row(
        "how soon a missing message is told",
        f"{count} times three messages in a row are left out of real-time traffic; until the event is at a "
        "subscriber in another process; lines from the kernel's time stamp until they are scored; promised: "
        f"half of the events within {_PROMISED_MS} ms of the deadline",
        f"{len(told)} of {count} told by an event of their own, {_quantiles(deadline_ms)} after the "
        "deadline, "
        f"{_quantiles(due_ms)} after the first was due; {joined} in an episode that was open "
        f"already, since the sender was late; line to score at {scores}",
        # In seconds on a busy machine a latency says nothing.
        len(told) + joined == count
        and len(told) >= joined
        and ledger.balanced()
        and (scale == "short" or prompt),
    )


def _quantiles(values_ms: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> str:
    """The middle, the 99th percentile where there are enough values, and the largest, in ms."""
    if not len(values_ms):
        return "never"
    p99 = f", p99 {np.percentile(values_ms, 99):.1f}" if len(values_ms) >= 50 else ""
    return f"p50 {np.median(values_ms):.1f}{p99}, max {max(values_ms):.1f} ms"
