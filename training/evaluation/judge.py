"""Every detector over one trace in one pass of its lines."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.errors import InputError
from training.baselines.beside import RivalResult, RivalsBeside
from training.baselines.columns import PduNumbers, joined
from training.baselines.rival import Rival
from training.evaluation.ahead import ahead
from training.evaluation.candidates import DETECTOR, Candidate, Episode, Running, candidates, told_lines
from training.evaluation.cases import Case
from training.evaluation.drawing import thinned
from training.evaluation.hindsight import quiet_episodes
from training.evaluation.line_scores import EVIDENCE, LineScores, TraceScores
from training.evaluation.ranking import REGION_NS, rank_lines
from training.evaluation.remarks import harm, remarks, unjudged
from training.evaluation.results import (
    Drawing,
    Ranked,
    Regions,
    Row,
    Told,
    TraceResult,
    Triple,
    as_triples,
)
from training.evaluation.scan import Opened, scan
from training.labelled import LabelledTrace
from training.labels import beside
from training.measures.intervals import Bools, Times
from training.measures.regions import by_region

__all__ = ["JUDGES", "Judged", "Plan", "TooShortError", "detector_at", "judge", "told_of"]

JUDGES = ("labels", "annotator")
"""Whose labels count: the true ones first."""

Progress = Callable[[int], None]


class TooShortError(Exception):
    """A trace has no line that can be judged; `str` is the sentence."""


class Plan(NamedTuple):
    """What is the same for all traces.

    Attributes:
        budget_per_hour: of false alarms.
        budgets_per_hour: for the curves; `budget_per_hour` is one of them.
        join_ns: findings at most so far apart are one episode.
    """

    budget_per_hour: float
    budgets_per_hour: tuple[float, ...]
    join_ns: int


class Judged(NamedTuple):
    """One trace.

    Attributes:
        result: what is kept.
        scores: of its lines.
        told: lines that the detector told, shape (lines,).
        labelled: lines that are labelled, by judge, shape (lines,) each.
    """

    result: TraceResult
    scores: TraceScores
    told: Bools
    labelled: dict[str, Bools]


def detector_at(opened: Opened, budget_per_hour: float, join_ns: int) -> Candidate:
    """The whole detector at a budget."""
    thresholds = Thresholds.for_budget(opened.calibration, budget_per_hour)
    return Candidate(
        f"{DETECTOR} at {budget_per_hour:g}",
        lambda: Detector(opened.calibration, thresholds, join_ns, evidence=ALL_EVIDENCE),
    )


def judge(
    case: Case,
    opened: Opened,
    rivals: RivalsBeside,
    numbers: PduNumbers,
    plan: Plan,
    progress: Progress = lambda bytes_read: None,
) -> Judged:
    """Score a trace, and let everything run beside.

    Args:
        case: the trace.
        opened: the bundle.
        rivals: fitted baselines.
        numbers: of PDUs, those the baselines were fitted with.
        plan: of the evaluation.
        progress: is told how many bytes were read.

    Raises:
        InputError: the trace cannot be read, or its labels belong to another one.
        TooShortError: it has no line that the model is warm for.
    """
    started = time.perf_counter()
    running = [Running(c) for c in candidates(opened.calibration, plan.budget_per_hour, plan.join_ns)]
    others = {
        budget: Running(detector_at(opened, budget, plan.join_ns))
        for budget in plan.budgets_per_hour
        if budget != plan.budget_per_hour
    }
    means = {
        by: LabelledTrace(labels, beside(case.path, by).name, case.path.name)
        for by in JUDGES
        if (labels := case.labels_by(by)) is not None
    }
    rivals.begin(ranked=bool(means))
    marks: dict[str, list[Bools]] = {by: [] for by in means}
    scores, columns = LineScores(opened.calibration), []
    set_aside: list[tuple[int, int]] = []
    names: list[str] = []
    damage: list[str] = []
    last_ns = 0
    for scored in ahead(scan(opened, case.path, damage)):
        lines = scored.block.lines
        if scored.gap:
            if 0 < last_ns < lines[0].time_ns:
                set_aside.append((last_ns, lines[0].time_ns))
            rivals.gap(numbers.sources)
        scores.add(scored.block, bool(scored.gap))
        for machine in (*running, *others.values()):
            machine.feed(scored)
        columns.append(numbers.columns(lines))
        rivals.add(columns[-1], numbers.sources)
        for by, mean in means.items():
            marks[by].append(mean(lines))
        if len(names) < len(numbers.keys):
            name_of = {line.stream.key: line.stream.name for line in lines}
            names += [name_of.get(key, "") for key in numbers.keys[len(names) :]]
        last_ns = lines[-1].time_ns if scored.gap else max(last_ns, lines[-1].time_ns)
        progress(scored.bytes_read)
    of_rivals = rivals.finish(numbers.sources)
    pass_s = time.perf_counter() - started
    harmed = harm(case, damage)
    try:
        for mean in means.values():
            mean.finish()
    except InputError as error:
        raise InputError(f"{error}; {harmed}") if harmed else error from None
    every, pdu = scores.finish(), joined(columns).pdu
    why_not = unjudged(case, every, opened.info.receptive_field_tokens, harmed)
    if why_not is not None:
        raise TooShortError(why_not)
    labelled = {by: np.concatenate(parts) for by, parts in marks.items()}
    lines_of = _Lines(case, every, labelled)
    rows = []
    told = np.zeros(len(every.times_ns), np.bool_)
    for machine in running:
        episodes = machine.finish()
        row = Row(machine.name, told_of(episodes))
        if machine.names_pdus:
            told_by_row = lines_of.told(episodes, names, pdu)
            row.lines, row.regions = lines_of.counted(told_by_row), lines_of.regions(told_by_row)
            if machine.name == DETECTOR:
                told = told_by_row
                row.ranked = lines_of.ranked(every.columns[EVIDENCE])
                row.at_budgets = {f"{b:g}": told_of(other.finish()) for b, other in others.items()}
                row.at_budgets[f"{plan.budget_per_hour:g}"] = row.told
        rows.append(row)
    rows += [
        _rival_row(rival, result, lines_of, plan, case.sha256)
        for rival, result in zip(rivals.rivals, of_rivals, strict=True)
    ]
    evidence = every.columns[EVIDENCE][lines_of.order]
    kept = thinned(lines_of.times_ns, evidence)
    result = TraceResult(
        name=case.name,
        path=str(case.path.absolute()),
        sha256=case.sha256,
        truth_sha256=case.truth_sha256,
        lines=len(every.times_ns),
        warming=int(every.warming.sum()),
        first_ns=int(lines_of.times_ns[0]),
        last_ns=int(lines_of.times_ns[-1]),
        set_aside=set_aside,
        fitted_on=case.sha256 in opened.fitted_on(),
        seconds=time.perf_counter() - started,
        pass_seconds=pass_s,
        rows=rows,
        drawing=Drawing(
            DETECTOR,
            "rarity in nats",
            lines_of.times_ns[kept].tolist(),
            evidence[kept].astype(float).tolist(),
        ),
        quiet={} if case.labels else quiet_episodes(every.times_ns, every.columns, plan.join_ns),
        ranked={name: lines_of.ranked(column) for name, column in every.columns.items() if name != EVIDENCE},
        notes=remarks(case, every, labelled, scores.foreign_note(case.path.name), harmed),
    )
    return Judged(result, every, told, labelled)


def told_of(episodes: Sequence[Episode]) -> Told:
    """Episodes as they are kept."""
    return Told(
        as_triples(episode.span for episode in episodes if not episode.unknown),
        as_triples(episode.span for episode in episodes if episode.unknown),
    )


def _rival_row(rival: Rival, result: RivalResult, lines_of: "_Lines", plan: Plan, sha256: str) -> Row:
    at_budgets = {f"{budget:g}": Told(as_triples(told)) for budget, told in result.spans.items()}
    told = result.scores > rival.thresholds[plan.budget_per_hour]
    return Row(
        rival.name,
        at_budgets[f"{plan.budget_per_hour:g}"],
        at_budgets,
        lines_of.counted(told),
        lines_of.regions(told),
        lines_of.ranked(result.scores),
        saw=sha256 in rival.learned_from,
    )


class _Lines:
    """The lines of a trace in the order of time, and which of them each judge labelled."""

    def __init__(self, case: Case, scores: TraceScores, labelled: dict[str, Bools]) -> None:
        self._case = case
        self._labelled = labelled
        self._counted = ~scores.warming
        times = scores.times_ns
        self.order = np.argsort(times, kind="stable") if (np.diff(times) < 0).any() else np.arange(len(times))
        self.times_ns: Times = times[self.order]

    def told(self, episodes: Sequence[Episode], names: Sequence[str], pdu: npt.NDArray[np.integer]) -> Bools:
        """Lines of episodes, in the order of the trace."""
        told = np.zeros(len(self.order), np.bool_)
        told[self.order] = told_lines(episodes, self.times_ns, names, pdu[self.order])
        return told

    def counted(self, told: Bools) -> dict[str, Triple]:
        """By judge: labelled lines told, labelled lines, lines told."""
        return {
            by: (int((told & labelled).sum()), int(labelled.sum()), int(told.sum()))
            for by, labelled in self._labelled.items()
        }

    def regions(self, told: Bools) -> dict[str, Regions]:
        """By judge: labelled regions told, labelled ones, told ones that are labelled, told ones."""
        order = self.order
        return {
            by: by_region(self.times_ns, told[order], labelled[order], REGION_NS)
            for by, labelled in self._labelled.items()
        }

    def ranked(self, scores: npt.NDArray[np.floating]) -> dict[str, Ranked]:
        """By judge: what the ranking is worth."""
        order = self.order
        return {
            by: rank_lines(
                self.times_ns,
                scores[order],
                labelled[order],
                self._counted[order],
                self._case.labels_by(by) or [],
            )
            for by, labelled in self._labelled.items()
        }
