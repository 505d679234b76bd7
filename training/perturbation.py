"""How far a single line must be moved until a detector notices: figure 6 of the paper with many places.

Of clean traffic one line at a time is moved into its future by some milliseconds or lines, everything else
stays. Nothing but the surroundings is scored: the model reads its receptive field before the line once, and
from there on a copy of its state, and of each detector's, reads every variant, all variants in one batch.
"""

import copy
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.errors import ConfigError, InputError
from ecustream.events import Event
from ecustream.knowledge import calibration_of
from ecustream.progress import WorkProgress
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELDS, ScoreBlock
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.scorer import ScoredStream, Scorer
from ecustream.traffic import STATE_NORMAL, Line
from training.base import Base, open_base
from training.baselines import IntervalRule
from training.measures.shares import Share, crossing, share
from training.moved_line import later_by_lines, later_by_ns

__all__ = ["LEVEL", "Sensitivity", "Sizes", "Study", "moved", "perturb", "read_pieces"]

LEVEL = 0.9
_JOIN_NS = 500_000_000
_RULE_MARGIN = 0.1
_SETTLE_CYCLES, _SETTLE_NS = 2.5, 50_000_000
_HISTORY_NS = 1_000_000_000
_LONGEST_CYCLE_NS = 1_000_000_000
_MOST_VARIANTS = 16
_QUIET_LINES, _CHUNK_LINES = 100_000, 512
_ONE_LINE = ("surprisal of one line", "perplexity of one line")

Machine = Detector | IntervalRule


class Sizes(msgspec.Struct, frozen=True):
    """How far a line is moved: ascending amounts, the first of them 0, of a unit."""

    unit: Literal["ms", "lines"]
    amounts: tuple[float, ...]

    def check(self) -> None:
        """Refuse amounts that cannot be.

        Raises:
            ConfigError: so.
        """
        amounts = self.amounts
        if len(amounts) < 2 or amounts[0] != 0 or list(amounts) != sorted(set(amounts)):
            raise ConfigError(
                "sizes must ascend from 0, which moves nothing and shows what is noticed anyway"
            )
        if not amounts[-1] < float("inf"):
            raise ConfigError("sizes must be finite")
        if self.unit == "lines" and any(amount != int(amount) for amount in amounts):
            raise ConfigError("a line can be moved by whole lines only")


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What one detector noticed.

    Attributes:
        detector: its name.
        hits: of each size, at how many places it noticed.
        trials: places.
        size: from which on it notices 90 %; None: not within the sizes.
        low: the same where its rates are at the upper ends of their exact 95 % intervals.
        high: the same at the lower ends; None: not within the sizes.
    """

    detector: str
    hits: list[int]
    trials: int
    size: float | None
    low: float | None
    high: float | None

    def shares(self) -> list[Share]:
        """Hits of trials of each size, with intervals."""
        return [share(hits, self.trials) for hits in self.hits]


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """A perturbation study.

    Attributes:
        sizes: how far lines were moved.
        places: lines that were moved, one at a time.
        dropped: further ones where something was told before anything was moved.
        sensitivities: of each detector.
        quiet_lines: as they are, whose highest score is the threshold of single lines.
        lines: that the model read around the places.
        seconds: that it took.
    """

    sizes: Sizes
    places: int
    dropped: int
    sensitivities: list[Sensitivity]
    quiet_lines: int
    lines: int
    seconds: float


class _Place(NamedTuple):
    """A line that can be moved: in which piece, its index there, and the cycle of its PDU."""

    piece: int
    at: int
    cycle_ns: int


def perturb(
    bundle_path: Path,
    traces: Sequence[Path],
    sizes: Sizes,
    *,
    places: int = 200,
    seed: int = 0,
    source: str | None = None,
    false_alarms_per_hour: float = 1.0,
) -> Study:
    """Move lines of clean traces and count which detectors notice.

    Places are drawn from all lines of cyclic PDUs up to a cycle of 1 s in normal operation, so a PDU is drawn
    as often as it comes. Noticed is what opens an episode from the moment at which the line was due until 2.5
    cycles after it came. Of single lines noticed is what exceeds the highest score of the traces as they are
    (100,000 lines at most): a choice made on the test, in their favour, which the detectors do not have.

    Args:
        bundle_path: model and calibration.
        traces: clean traffic of its vehicle, which neither was made from.
        sizes: how far.
        places: how many lines.
        seed: draws them.
        source: bus name to use instead of the traces' own.
        false_alarms_per_hour: budget of the detectors; the interval rule has none.

    Raises:
        ConfigError: sizes cannot be.
        InputError: a trace is damaged or too short, or has no cyclic PDU that the bundle knows.
        BundleError: the bundle is damaged.
    """
    sizes.check()
    if places < 1:
        raise ConfigError(f"places is {places}, but must be 1 at least")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, but must be 0 at least")
    if not 0 < false_alarms_per_hour < float("inf"):
        raise ConfigError(f"false_alarms_per_hour is {false_alarms_per_hour:g}, but must be more than 0")
    started = time.monotonic()
    base = open_base(bundle_path)
    calibration = calibration_of(base.files)
    pieces = read_pieces(base, traces, source)
    study = _Study(base, calibration, sizes, Thresholds.for_budget(calibration, false_alarms_per_hour))
    eligible = [place for number, lines in enumerate(pieces) for place in study.places(number, lines)]
    if not eligible:
        raise InputError(
            f"{traces[0]}: no line can be moved: it takes a cyclic PDU that the bundle knows, in normal "
            f"operation, with {study.context_lines} lines before it and the largest size after it"
        )
    order = np.random.default_rng(seed).permutation(len(eligible))
    for lines in pieces:
        study.learn_quiet(lines)
    with WorkProgress("perturbing", places) as progress:
        for number in order.tolist():
            if study.done >= places:
                break
            study.take(pieces[eligible[number].piece], eligible[number])
            progress.update(study.done)
    return study.result(time.monotonic() - started)


def read_pieces(base: Base, traces: Sequence[Path], source: str | None = None) -> list[list[Line]]:
    """Lines of traces as a bundle reads them, cut where they are interrupted.

    Raises:
        InputError: a trace is damaged.
    """
    read = base.traces(traces, source).read_pieces("reading", base.cycles_ns)
    return [[line for lines in batches for line in lines] for _, batches in read]


def moved(lines: Sequence[Line], at: int, size: float, unit: str) -> list[Line]:
    """The lines with one of them moved, see `training.moved_line`."""
    return later_by_ns(lines, at, round(size * 1e6)) if unit == "ms" else later_by_lines(lines, at, int(size))


class _Study:
    """Counts what is noticed, place by place."""

    def __init__(self, base: Base, calibration: Calibration, sizes: Sizes, thresholds: Thresholds) -> None:
        self._sizes = sizes
        self._base = base
        self._cycles = {pdu.key: pdu.cycle_ns for pdu in calibration.pdus if pdu.cycle_ns}
        # What is never changed needs no copy.
        self._shared = [calibration, thresholds, *calibration.pdus, *calibration.buses]
        self._scorer: Scorer = Bundle(base.files).new_scorer()
        info = base.files.info
        self.context_lines = -(-info.receptive_field_tokens // max(1, int(info.tokens_per_line))) + 1

        def detector(*evidence: str) -> Callable[[], Machine]:
            return lambda: Detector(calibration, thresholds, _JOIN_NS, evidence=frozenset(evidence))

        self._make: dict[str, Callable[[], Machine]] = {
            "ecustream": detector(*ALL_EVIDENCE),
            "only model (delta, name)": detector("delta", "name"),
            "without model": detector("interval", "deadline"),
            f"interval rule, margin {_RULE_MARGIN:g}": lambda: IntervalRule(calibration, _RULE_MARGIN),
        }
        self._hits = {name: [0] * len(sizes.amounts) for name in self._make}
        self._pdus = {pdu.key: pdu for pdu in calibration.pdus}
        # Of single lines the threshold is the highest score of lines that nothing happened to.
        self._quiet = dict.fromkeys(_ONE_LINE, -np.inf)
        self._peaks = {name: [list[float]() for _ in sizes.amounts] for name in _ONE_LINE}
        self._quiet_lines = 0
        self.done = 0
        self._dropped = 0
        self._lines = 0

    def places(self, piece: int, lines: Sequence[Line]) -> list[_Place]:
        """Lines that have context enough before them and room enough after."""
        if len(lines) <= self.context_lines:
            return []
        first_ns, last_ns = lines[0].time_ns, lines[-1].time_ns
        largest = self._sizes.amounts[-1]
        out = []
        for at in range(self.context_lines, len(lines)):
            line = lines[at]
            cycle_ns = self._cycles.get(line.stream.key, 0)
            if not 0 < cycle_ns <= _LONGEST_CYCLE_NS or line.state != STATE_NORMAL:
                continue
            if line.time_ns - first_ns < _history_ns(cycle_ns):
                continue
            if self._sizes.unit == "lines":
                if at + largest >= len(lines):
                    break
                came_ns = lines[at + int(largest)].time_ns
            else:
                came_ns = line.time_ns + round(largest * 1e6)
            if came_ns + _settle_ns(cycle_ns) < last_ns:
                out.append(_Place(piece, at, cycle_ns))
        return out

    def learn_quiet(self, lines: Sequence[Line]) -> None:
        """Score a piece to which nothing happens, as far as `_QUIET_LINES` allow."""
        lines = lines[: max(0, _QUIET_LINES - self._quiet_lines)]
        stream = self._scorer.open_stream()
        for first in range(0, len(lines), _CHUNK_LINES):
            block = self._scorer.score([(stream, lines[first : first + _CHUNK_LINES])])[0]
            for name, peak in self._peaks_of(block).items():
                self._quiet[name] = max(self._quiet[name], peak)
        self._quiet_lines += len(lines)

    def take(self, lines: Sequence[Line], place: _Place) -> None:
        """Count what is noticed at one place."""
        at = place.at
        due_ns = lines[at].time_ns
        context = at - self.context_lines
        first = min(context, _first_after(lines, due_ns - _history_ns(place.cycle_ns)))
        machines = {name: make() for name, make in self._make.items()}
        stream = self._scorer.open_stream()
        if first < context:
            # Detectors must know the last intervals; of the model only its receptive field matters.
            stream.tokenizer.encode(lines[first:context])
            _feed(machines, _unscored(lines[first:context]))
        block = self._scorer.score([(stream, lines[context:at])])[0]
        if any(_feed(machines, block).values()):
            self._dropped += 1
            return
        self._lines += len(block.lines)
        variants = [self._tail(lines, place, size) for size in self._sizes.amounts]
        for start in range(0, len(variants), _MOST_VARIANTS):
            chunk = variants[start : start + _MOST_VARIANTS]
            streams = [_copied(stream) for _ in chunk]
            blocks = self._scorer.score(list(zip(streams, chunk, strict=True)))
            for number, block in enumerate(blocks, start):
                self._lines += len(block.lines)
                copies = self._copies(machines)
                told = _feed(copies, block)
                for name, peak in self._peaks_of(block).items():
                    self._peaks[name][number].append(peak)
                for name, machine in copies.items():
                    noticed = (
                        any(span.end_ns >= due_ns for span in machine.spans())
                        if isinstance(machine, IntervalRule)
                        else bool(told[name])
                    )
                    self._hits[name][number] += noticed
        self.done += 1

    def result(self, seconds: float) -> Study:
        """All that was counted."""
        alone = {
            name: [sum(peak > self._quiet[name] for peak in peaks) for peaks in of_sizes]
            for name, of_sizes in self._peaks.items()
        }
        return Study(
            sizes=self._sizes,
            places=self.done,
            dropped=self._dropped,
            sensitivities=[
                _sensitivity(name, hits, self.done, self._sizes.amounts)
                for name, hits in (self._hits | alone).items()
            ],
            quiet_lines=self._quiet_lines,
            lines=self._lines,
            seconds=round(seconds, 1),
        )

    def _tail(self, lines: Sequence[Line], place: _Place, size: float) -> list[Line]:
        """From the place on, with its line moved, until what follows from it is over."""
        at = place.at
        due_ns = lines[at].time_ns
        came_ns = due_ns + round(size * 1e6) if self._sizes.unit == "ms" else lines[at + int(size)].time_ns
        stop = _first_after(lines, came_ns + _settle_ns(place.cycle_ns))
        return moved(lines[at:stop], 0, size, self._sizes.unit)

    def _peaks_of(self, block: ScoreBlock) -> dict[str, float]:
        """The highest scores of single lines: surprisal in mean excesses of the PDU, and perplexity."""
        settled = ~block.warming
        if not settled.any():
            return dict.fromkeys(_ONE_LINE, -np.inf)
        pdus = [self._pdus.get(line.stream.key) for line in block.lines]
        highest = -np.inf
        for name, column in (("delta", FIELD_DELTA), ("name", FIELD_NAME)):
            onset = np.array([getattr(pdu, f"{name}_onset_nats", np.inf) for pdu in pdus])
            scale = np.array([getattr(pdu, f"{name}_scale_nats", 1.0) for pdu in pdus])
            excess = np.nan_to_num((block.field_nats[:, column] - onset) / scale, nan=-np.inf)
            highest = max(highest, float(excess[settled].max()))
        return dict(zip(_ONE_LINE, (highest, float(block.perplexity()[settled].max())), strict=True))

    def _copies(self, machines: dict[str, Machine]) -> dict[str, Machine]:
        memo: dict[int, Any] = {id(shared): shared for shared in self._shared}
        return copy.deepcopy(machines, memo)


def _sensitivity(name: str, hits: list[int], trials: int, amounts: Sequence[float]) -> Sensitivity:
    shares = [share(count, trials) for count in hits]
    return Sensitivity(
        detector=name,
        hits=hits,
        trials=trials,
        size=crossing(amounts, [one.value for one in shares], LEVEL),
        low=crossing(amounts, [one.high for one in shares], LEVEL),
        high=crossing(amounts, [one.low for one in shares], LEVEL),
    )


def _settle_ns(cycle_ns: int) -> int:
    return round(_SETTLE_CYCLES * cycle_ns) + _SETTLE_NS


def _history_ns(cycle_ns: int) -> int:
    return max(_HISTORY_NS, round(_SETTLE_CYCLES * cycle_ns))


def _first_after(lines: Sequence[Line], time_ns: int) -> int:
    return bisect_right(lines, time_ns, key=lambda line: line.time_ns)


def _unscored(lines: Sequence[Line]) -> ScoreBlock:
    """Lines for detectors to know, of which no model says anything."""
    shape = len(lines), len(FIELDS)
    return ScoreBlock(
        list(lines),
        np.zeros(shape, np.float32),
        np.ones(len(lines), np.int64),
        np.full(shape, -1, np.int64),
        np.ones(len(lines), np.bool_),
    )


def _feed(machines: dict[str, Machine], block: ScoreBlock) -> dict[str, list[Event]]:
    """Episodes that each detector opens; the interval rule says nothing yet."""
    told: dict[str, list[Event]] = {}
    for name, machine in machines.items():
        if isinstance(machine, IntervalRule):
            machine.add(block.lines)
            told[name] = []
        else:
            told[name] = [event for event in machine.step_block(block) if event.phase == "open"]
    return told


def _copied(stream: ScoredStream) -> ScoredStream:
    """A stream that goes on from here by itself."""
    return ScoredStream(copy.deepcopy(stream.tokenizer), copy.deepcopy(stream.state))
