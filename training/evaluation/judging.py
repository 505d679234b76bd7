"""Every detector over one trace, fed with its scored lines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.errors import InputError
from training.baselines.columns import Columns, PduNumbers, joined
from training.baselines.rival import Rival, RivalRun
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
from training.evaluation.scored import Scored
from training.labelled import LabelledTrace
from training.labels import beside
from training.measures.intervals import Bools, Times
from training.measures.regions import by_region

__all__ = ["JUDGES", "Judged", "Judging", "Plan", "TooShortError", "Yardstick", "detector_at", "told_of"]

JUDGES = ("labels", "annotator")
"""Whose labels count: the true ones first."""


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


class Yardstick(NamedTuple):
    """What traces are judged by.

    Attributes:
        calibration: of the bundle.
        receptive_field_tokens: of the bundle.
        learned_from: SHA-256 of the traces that the bundle has learned from.
        plan: of the evaluation.
        rivals: fitted baselines.
        numbers: of PDUs, those the baselines were fitted with.
    """

    calibration: Calibration
    receptive_field_tokens: int
    learned_from: frozenset[str]
    plan: Plan
    rivals: Sequence[Rival]
    numbers: PduNumbers


def detector_at(calibration: Calibration, budget_per_hour: float, join_ns: int) -> Candidate:
    """The whole detector at a budget."""
    thresholds = Thresholds.for_budget(calibration, budget_per_hour)
    return Candidate(
        f"{DETECTOR} at {budget_per_hour:g}",
        lambda: Detector(calibration, thresholds, join_ns, evidence=ALL_EVIDENCE),
    )


class Judging:
    """Everything that judges one trace, fed with its scored lines.

    Args:
        case: the trace.
        yardstick: what it is judged by.
    """

    def __init__(self, case: Case, yardstick: Yardstick) -> None:
        calibration, plan = yardstick.calibration, yardstick.plan
        self._case = case
        self._by = yardstick
        self._running = [Running(c) for c in candidates(calibration, plan.budget_per_hour, plan.join_ns)]
        self._others = {
            budget: Running(detector_at(calibration, budget, plan.join_ns))
            for budget in plan.budgets_per_hour
            if budget != plan.budget_per_hour
        }
        self._means = {
            by: LabelledTrace(labels, beside(case.path, by).name, case.path.name)
            for by in JUDGES
            if (labels := case.labels_by(by)) is not None
        }
        # Where nobody judges lines, scores of lines are not kept.
        ranked = bool(self._means)
        self._runs = [
            RivalRun(rival, yardstick.numbers.sources, plan.join_ns, ranked) for rival in yardstick.rivals
        ]
        self._marks: dict[str, list[Bools]] = {by: [] for by in self._means}
        self._scores = LineScores(calibration)
        self._columns: list[Columns] = []
        self._set_aside: list[tuple[int, int]] = []
        self._last_ns = 0

    def add(self, scored: Scored) -> None:
        """Take the next lines."""
        lines, numbers = scored.block.lines, self._by.numbers
        if scored.gap:
            if 0 < self._last_ns < lines[0].time_ns:
                self._set_aside.append((self._last_ns, lines[0].time_ns))
            for run in self._runs:
                run.gap()
        self._scores.add(scored.block, bool(scored.gap))
        for machine in (*self._running, *self._others.values()):
            machine.feed(scored)
        columns = numbers.columns(lines)
        self._columns.append(columns)
        for run in self._runs:
            run.add(columns)
        for by, mean in self._means.items():
            self._marks[by].append(mean(lines))
        newest_ns = lines[-1].time_ns
        self._last_ns = newest_ns if scored.gap else max(self._last_ns, newest_ns)

    def finish(self, damage: Sequence[str]) -> Judged:
        """What everything told; its seconds are not known here.

        Args:
            damage: sentences on what could not be read of the trace.

        Raises:
            InputError: labels belong to another trace.
            TooShortError: there is no line that the model is warm for.
        """
        case, plan = self._case, self._by.plan
        harmed = harm(case, damage)
        try:
            for mean in self._means.values():
                mean.finish()
        except InputError as error:
            raise InputError(f"{error}; {harmed}") if harmed else error from None
        every, pdu = self._scores.finish(), joined(self._columns).pdu
        why_not = unjudged(case, every, self._by.receptive_field_tokens, harmed)
        if why_not is not None:
            raise TooShortError(why_not)
        labelled = {by: np.concatenate(parts) for by, parts in self._marks.items()}
        lines_of = _Lines(case, every, labelled)
        rows = []
        told = np.zeros(len(every.times_ns), np.bool_)
        for machine in self._running:
            episodes = machine.finish()
            row = Row(machine.name, told_of(episodes))
            if machine.names_pdus:
                told_by_row = lines_of.told(episodes, self._by.numbers.names, pdu)
                row.lines, row.regions = lines_of.counted(told_by_row), lines_of.regions(told_by_row)
                if machine.name == DETECTOR:
                    told = told_by_row
                    row.ranked = lines_of.ranked(every.columns[EVIDENCE])
                    row.at_budgets = {f"{b:g}": told_of(o.finish()) for b, o in self._others.items()}
                    row.at_budgets[f"{plan.budget_per_hour:g}"] = row.told
            rows.append(row)
        rows += [_rival_row(run, lines_of, plan, case.sha256) for run in self._runs]
        evidence = every.columns[EVIDENCE][lines_of.order]
        kept = thinned(lines_of.times_ns, evidence)
        ranked = {name: lines_of.ranked(c) for name, c in every.columns.items() if name != EVIDENCE}
        result = TraceResult(
            name=case.name,
            path=str(case.path.absolute()),
            sha256=case.sha256,
            truth_sha256=case.truth_sha256,
            lines=len(every.times_ns),
            warming=int(every.warming.sum()),
            first_ns=int(lines_of.times_ns[0]),
            last_ns=int(lines_of.times_ns[-1]),
            set_aside=self._set_aside,
            fitted_on=case.sha256 in self._by.learned_from,
            seconds=0.0,
            pass_seconds=0.0,
            rows=rows,
            drawing=Drawing(
                DETECTOR,
                "rarity in nats",
                lines_of.times_ns[kept].tolist(),
                evidence[kept].astype(float).tolist(),
            ),
            quiet={} if case.labels else quiet_episodes(every.times_ns, every.columns, plan.join_ns),
            ranked=ranked,
            notes=remarks(case, every, labelled, self._scores.foreign_note(case.path.name), harmed),
        )
        return Judged(result, every, told, labelled)


def told_of(episodes: Sequence[Episode]) -> Told:
    """Episodes as they are kept."""
    return Told(
        as_triples(episode.span for episode in episodes if not episode.unknown),
        as_triples(episode.span for episode in episodes if episode.unknown),
    )


def _rival_row(run: RivalRun, lines_of: "_Lines", plan: Plan, sha256: str) -> Row:
    scores, spans = run.finish()
    at_budgets = {f"{budget:g}": Told(as_triples(told)) for budget, told in spans.items()}
    told = scores > run.rival.thresholds[plan.budget_per_hour]
    return Row(
        run.rival.name,
        at_budgets[f"{plan.budget_per_hour:g}"],
        at_budgets,
        lines_of.counted(told),
        lines_of.regions(told),
        lines_of.ranked(scores),
        saw=sha256 in run.rival.learned_from,
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
