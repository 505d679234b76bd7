"""A rule that annotates cycle time anomalies, and how unreliable its labels are made.

The paper's labels come from "the classical anomaly detection implementation based on rules", which "did not
yield reliable labels" (arXiv 2507.01077). The rule is CANoe's: the relative cycle time check of its Test
Service Library. It knows one cycle for each message, so a message that is sent faster while a function is
active is annotated all that time, and every start-up violates it as well.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.errors import ConfigError
from training.cycle_time_check import NEVER, CycleEvents, CycleTimeCheck
from training.draws import IntArray, below, bits, exponential, make_key, uniform
from training.labels import Label

__all__ = [
    "KIND",
    "AnnotationSummary",
    "CycleTimeCheck",
    "UnreliableAnnotator",
]

KIND = "cycle_time_violation"

_TOUCH_CYCLES = 1.5
_REACTION_NS = 100_000_000
_SAMPLES = 4096

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """How good annotations are; the counts of faults are None where the true faults are not known.

    Attributes:
        events: violations of the rule (NumEvents of all messages).
        annotations: labels made of them.
        invented: those among them that no event stands behind.
        faults: true faults.
        annotated_faults: those that an annotation meets, before it was made late.
        true_annotations: annotations that meet a true fault.
    """

    events: int
    annotations: int
    invented: int
    faults: int | None
    annotated_faults: int | None
    true_annotations: int | None

    @property
    def recall(self) -> float | None:
        """Share of the true faults that are annotated; None where none is known."""
        return None if self.annotated_faults is None else _share(self.annotated_faults, self.faults)

    @property
    def precision(self) -> float | None:
        """Share of the annotations that meet a true fault; None where that is not known."""
        return None if self.true_annotations is None else _share(self.true_annotations, self.annotations)


def _share(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None


class _Annotations(NamedTuple):
    """Annotations as columns; `number` is what their random numbers are drawn with."""

    number: IntArray
    message: IntArray
    start_ns: IntArray
    end_ns: IntArray

    def take(self, rows: BoolArray | IntArray) -> "_Annotations":
        return _Annotations(*(column[rows] for column in self))


class UnreliableAnnotator:
    """Turns the check's events into labels, and makes these as unreliable as is asked for.

    An annotation begins when the message was allowed at the latest (`max_rel` cycles after the last one), or
    when it came too early, and ends with the message. Events of one message less than 1.5 cycles apart are
    one annotation. An annotation meets a true fault if both concern the same PDU (or the fault several),
    and it begins at most 100 ms after the fault's end, as for episodes in `training.metrics.match`, and ends
    no earlier than its start.

    The knobs, None for the bare rule: of the true faults drawn ones lose their annotations until at most
    `recall` of all have one. Then false annotations are dropped until `precision` of all are true, or
    invented where mode switches and jitter did not yield enough: at the time of a message that was there,
    with the length of another annotation, clear of the faults. Without any true annotation nothing can be
    in proportion to it, and the false ones stay as they are. Last, each annotation is moved to later. The
    same rows and arguments give the same labels, however the rows are divided into calls.

    Args:
        check: the rule, fresh.
        names: PDU name of each of its messages; several messages may have one name.
        recall: 0 to 1.
        precision: above 0, up to 1.
        lateness_ns: mean of the exponential distribution of the move.
        seed: draws which annotations are dropped, invented, and how late they are.

    Attributes:
        summary: what `finish` achieved.

    Raises:
        ConfigError: a knob is out of its range.
    """

    summary: AnnotationSummary

    def __init__(
        self,
        check: CycleTimeCheck,
        names: Sequence[str],
        recall: float | None = None,
        precision: float | None = None,
        lateness_ns: int | None = None,
        seed: int = 0,
    ) -> None:
        if recall is not None and not 0 <= recall <= 1:
            raise ConfigError(f"recall {recall:g} of the annotator is not from 0 to 1")
        if precision is not None and not 0 < precision <= 1:
            raise ConfigError(f"precision {precision:g} of the annotator is not above 0 and at most 1")
        if lateness_ns is not None and not 0 <= lateness_ns < 1 << 36:
            raise ConfigError(f"lateness {lateness_ns / 1e9:g} s of the annotator is not from 0 to 60 s")
        self._check = check
        self._names = list(names)
        self._recall = recall
        self._precision = precision
        self._lateness_ns = lateness_ns
        self._seed = seed
        self._events = 0
        self._merger = _Merger(check)
        self._sampler = _Sampler(self._key("sample"))

    def _key(self, use: str) -> int:
        return make_key("annotator", self._seed, use)

    def feed(self, message: IntArray, time_ns: IntArray) -> None:
        """Take messages in the order in which they came, as `CycleTimeCheck.feed`."""
        if self._precision is not None:
            checked = self._check.cycles_ns[message] > 0
            self._sampler.feed(message[checked], time_ns[checked])
        events = self._check.feed(message, time_ns)
        self._events += len(events.message)
        self._merger.feed(events)

    def finish(self, true_labels: Sequence[Label] | None) -> Iterator[Label]:
        """The labels, sorted by start, once all messages were fed; sets `summary` at once.

        Hours of traffic have so many that they are made one by one.

        Args:
            true_labels: the true faults; None where they are not known: then `recall` and `precision` are
                not applied.
        """
        kept = self._merger.finish()
        truth = None if true_labels is None else _Truth(true_labels, self._names)
        invented = 0
        if truth is not None:
            if self._recall is not None:
                kept = self._forget(kept, truth, self._recall)
            if self._precision is not None:
                honest = len(kept.message)
                kept = self._spoil(kept, truth, self._precision)
                invented = max(0, len(kept.message) - honest)
        self.summary = _summary(self._events, kept, invented, truth)
        late = self._late(kept)
        rank_of_name = {name: rank for rank, name in enumerate(sorted(set(self._names)))}
        rank = np.array([rank_of_name[name] for name in self._names], dtype=np.int64)
        late = late.take(np.lexsort((rank[late.message], late.end_ns, late.start_ns)))
        return (
            Label(int(start_ns), int(end_ns), KIND, [self._names[message]])
            for message, start_ns, end_ns in zip(late.message, late.start_ns, late.end_ns, strict=True)
        )

    def _forget(self, made: _Annotations, truth: "_Truth", recall: float) -> _Annotations:
        """Without the annotations of drawn faults, so that at most `recall` of the faults have one."""
        meeting = truth.meeting(made)
        # A small allowance: 0.7 of 10 faults are 7, though 0.7 * 10 is less.
        most = math.floor(recall * len(meeting) + 1e-9)
        gone = np.zeros(len(made.message), dtype=np.bool_)
        left = sum(len(rows) > 0 for rows in meeting)
        faults_of: dict[int, list[int]] = {}
        for fault, rows in enumerate(meeting):
            for row in rows.tolist():
                faults_of.setdefault(row, []).append(fault)
        holding = [len(rows) for rows in meeting]
        for fault in np.argsort(
            uniform(self._key("recall"), np.arange(len(meeting))), kind="stable"
        ).tolist():
            if left <= most:
                break
            for row in meeting[fault].tolist():
                if not gone[row]:
                    gone[row] = True
                    for other in faults_of[row]:
                        holding[other] -= 1
                        left -= holding[other] == 0
        return made.take(~gone)

    def _spoil(self, made: _Annotations, truth: "_Truth", precision: float) -> _Annotations:
        """With so many false annotations that `precision` of all are true."""
        true = truth.met_by(made)
        if not true.any():
            return made
        wanted = round(int(true.sum()) * (1 - precision) / precision)
        false = np.flatnonzero(~true)
        if len(false) > wanted:
            drawn = np.argsort(uniform(self._key("precision"), made.number[false]), kind="stable")
            true[false[drawn[:wanted]]] = True
            return made.take(true)
        return self._invent(made, truth, wanted - len(false))

    def _invent(self, made: _Annotations, truth: "_Truth", count: int) -> _Annotations:
        message, start_ns = self._sampler.samples()
        number = len(made.message) + np.arange(len(message))
        length_ns = (made.end_ns - made.start_ns)[below(self._key("length"), number, len(made.message))]
        ideas = _Annotations(-1 - number, message, start_ns, start_ns + length_ns)
        ideas = ideas.take(np.flatnonzero(~truth.met_by(ideas))[:count])
        return _Annotations(*(np.concatenate(pair) for pair in zip(made, ideas, strict=True)))

    def _late(self, made: _Annotations) -> _Annotations:
        if self._lateness_ns is None:
            return made
        late_ns = exponential(self._key("lateness"), made.number, self._lateness_ns)
        return made._replace(start_ns=made.start_ns + late_ns, end_ns=made.end_ns + late_ns)


class _Merger:
    """Makes annotations of events; keeps the last one of each message open, as it may go on."""

    def __init__(self, check: CycleTimeCheck) -> None:
        self._check = check
        count = len(check.cycles_ns)
        self._apart_ns = np.rint(check.cycles_ns * _TOUCH_CYCLES).astype(np.int64)
        self._start_ns = np.full(count, NEVER)
        self._end_ns = np.full(count, NEVER)
        self._last_ns = np.full(count, NEVER)
        self._closed: list[tuple[IntArray, IntArray, IntArray]] = []

    def feed(self, events: CycleEvents) -> None:
        """Take events in order."""
        if not len(events.message):
            return
        order = np.argsort(events.message, kind="stable")
        message, previous_ns, end_ns = (column[order] for column in events)
        too_late = end_ns - previous_ns > self._check.longest_ns[message]
        start_ns = end_ns.copy()
        start_ns[too_late] = previous_ns[too_late] + self._check.longest_ns[message[too_late]]
        is_first = np.diff(message, prepend=-1) != 0
        before_ns = np.append(NEVER, end_ns[:-1])
        before_ns[is_first] = self._last_ns[message[is_first]]
        # A clock that was set back a lot begins anew, too.
        touches = (before_ns != NEVER) & (np.abs(start_ns - before_ns) < self._apart_ns[message])
        begin = np.flatnonzero(is_first | ~touches)
        owner = message[begin]
        starts = np.minimum.reduceat(start_ns, begin)
        ends = np.maximum.reduceat(end_ns, begin)
        goes_on = touches[begin]
        starts[goes_on] = np.minimum(starts[goes_on], self._start_ns[owner[goes_on]])
        ends[goes_on] = np.maximum(ends[goes_on], self._end_ns[owner[goes_on]])
        ended = owner[is_first[begin] & ~goes_on & (self._start_ns[owner] != NEVER)]
        self._close(ended, self._start_ns[ended], self._end_ns[ended])
        stays_open = np.append(owner[1:] != owner[:-1], True)
        self._close(owner[~stays_open], starts[~stays_open], ends[~stays_open])
        self._start_ns[owner[stays_open]] = starts[stays_open]
        self._end_ns[owner[stays_open]] = ends[stays_open]
        last = np.append(message[1:] != message[:-1], True)
        self._last_ns[message[last]] = end_ns[last]

    def _close(self, message: IntArray, start_ns: IntArray, end_ns: IntArray) -> None:
        if len(message):
            self._closed.append((message, start_ns, end_ns))

    def finish(self) -> _Annotations:
        """All annotations, sorted by start and message."""
        still = np.flatnonzero(self._start_ns != NEVER)
        self._closed.append((still, self._start_ns[still], self._end_ns[still]))
        message, start_ns, end_ns = (np.concatenate(columns) for columns in zip(*self._closed, strict=True))
        order = np.lexsort((end_ns, message, start_ns))
        return _Annotations(np.arange(len(order)), message[order], start_ns[order], end_ns[order])


class _Sampler:
    """Keeps some messages of all, each as likely: those with the lowest random numbers."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._rows = 0
        self._drawn = np.zeros(0, dtype=np.uint64)
        self._message: IntArray = np.zeros(0, dtype=np.int64)
        self._time_ns: IntArray = np.zeros(0, dtype=np.int64)

    def feed(self, message: IntArray, time_ns: IntArray) -> None:
        """Take messages in order."""
        drawn = bits(self._key, np.arange(self._rows, self._rows + len(message)))
        self._rows += len(message)
        if len(self._drawn) == _SAMPLES:
            low = drawn < self._drawn[-1]
            drawn, message, time_ns = drawn[low], message[low], time_ns[low]
        drawn = np.concatenate([self._drawn, drawn])
        lowest = np.argsort(drawn, kind="stable")[:_SAMPLES]
        self._drawn = drawn[lowest]
        self._message = np.concatenate([self._message, message])[lowest]
        self._time_ns = np.concatenate([self._time_ns, time_ns])[lowest]

    def samples(self) -> tuple[IntArray, IntArray]:
        """Messages and their times, in a random order."""
        return self._message, self._time_ns


class _Truth:
    """The true faults and which annotations meet them."""

    def __init__(self, labels: Sequence[Label], names: Sequence[str]) -> None:
        self._labels = sorted(
            labels, key=lambda label: (label.start_ns, label.end_ns, label.kind, label.pdus)
        )
        messages: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            messages.setdefault(name, []).append(number)
        self._messages = messages

    def meeting(self, made: _Annotations) -> list[IntArray]:
        """For each fault the rows of the annotations that meet it."""
        order = np.argsort(made.start_ns, kind="stable")
        starts = made.start_ns[order]
        # The annotations before this row have all ended by then.
        latest_end = np.maximum.accumulate(made.end_ns[order])
        return [self._rows_of(label, made, order, starts, latest_end) for label in self._labels]

    def _rows_of(
        self, label: Label, made: _Annotations, order: IntArray, starts: IntArray, latest_end: IntArray
    ) -> IntArray:
        lower = int(np.searchsorted(latest_end, label.start_ns, "left"))
        upper = int(np.searchsorted(starts, label.end_ns + _REACTION_NS, "right"))
        rows = order[lower:upper]
        rows = rows[made.end_ns[rows] >= label.start_ns]
        if label.pdus:
            concerned = [number for name in label.pdus for number in self._messages.get(name, [])]
            rows = rows[np.isin(made.message[rows], concerned)]
        return rows

    def met_by(self, made: _Annotations) -> BoolArray:
        """Which annotations meet a fault."""
        true = np.zeros(len(made.message), dtype=np.bool_)
        for rows in self.meeting(made):
            true[rows] = True
        return true


def _summary(events: int, made: _Annotations, invented: int, truth: _Truth | None) -> AnnotationSummary:
    count = len(made.message)
    if truth is None:
        return AnnotationSummary(events, count, invented, None, None, None)
    meeting = truth.meeting(made)
    annotated = sum(len(rows) > 0 for rows in meeting)
    true = len(np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *meeting])))
    return AnnotationSummary(events, count, invented, len(meeting), annotated, true)
