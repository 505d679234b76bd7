"""An evaluation from traces to its report, trace by trace, so that it can be resumed."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import ecustream
from ecustream.errors import ConfigError, InputError
from ecustream.progress import WorkProgress
from training.baselines.columns import PduNumbers
from training.baselines.rival import Rival
from training.evaluation.against import compare_lines, differences
from training.evaluation.annotations import quality_note
from training.evaluation.beside import JudgeBeside
from training.evaluation.cases import Case, digest_of, read_cases
from training.evaluation.hindsight import best_rows
from training.evaluation.judge import judge
from training.evaluation.judging import JUDGES, Plan, TooShortError, Yardstick
from training.evaluation.results import Row, TraceResult
from training.evaluation.rivals import annotations_of, chosen_baselines, fit_rivals
from training.evaluation.scan import Opened, open_bundle
from training.evaluation.store import Store
from training.evaluation.summary import covered, curve_rows, curves, facts, outcome, totals
from training.measures.events import EventMeasures

__all__ = ["Study", "evaluate", "run_study"]

_MUCH_COVERED = 0.5
_BUDGETS = (1.0, 10.0, 100.0, 1000.0)
_MUCH_TRAFFIC_BYTES = 4_000_000
"""From here on it is worth seconds to start a process that judges."""
_VERSION = [3, ecustream.__version__]
"""Results of another version are not mixed with these: they may be counted in another way."""


class Study(NamedTuple):
    """An evaluation that is whole.

    Attributes:
        report: what is written down, plain JSON.
        cases: the traces by name.
        results: what each gave.
        curves: what each detector told at each budget.
    """

    report: dict[str, Any]
    cases: dict[str, Case]
    results: dict[str, TraceResult]
    curves: dict[str, dict[str, EventMeasures]]


def evaluate(bundle_path: Path, traces: Sequence[Path], **options: Any) -> dict[str, Any]:
    """The report of `run_study`, whose options it takes."""
    return run_study(bundle_path, traces, **options).report


def run_study(
    bundle_path: Path,
    traces: Sequence[Path],
    *,
    names: Path | None = None,
    source: str | None = None,
    loggers: Mapping[str, str] | None = None,
    false_alarms_per_hour: float = 1.0,
    join_ms: float = 500.0,
    baselines: str = "none",
    clean: Sequence[Path] = (),
    annotated: Sequence[Path] = (),
    against: Path | None = None,
    folder: Path | None = None,
) -> Study:
    """Run every detector over every trace.

    A trace `X.pcapng.gz` with a label file `X.labels.jsonl` beside it is judged by its labels; one
    without, or with an empty one, is taken for clean, and every episode in it is false. Controls in
    `X.context.jsonl` must not be reported. Labels of an annotator in `X.annotator.jsonl` are judged by in
    second place, and are judged themselves.

    Args:
        bundle_path: the bundle.
        traces: to be judged.
        names: PDU names (CSV); None: the bundle's.
        source: bus name to use instead of the traces' own.
        loggers: interface id to bus name, see `ecustream.capture.unwrap`.
        false_alarms_per_hour: budget of every detector that has one.
        join_ms: findings at most so far apart are one episode.
        baselines: `all`, `none`, or their names with commas between.
        clean: traces that baselines learn from; none: the first trace without labels, rather one that the
            bundle has learned from, too.
        annotated: traces whose annotator's labels the classifiers learn from.
        against: another bundle to compare with.
        folder: keeps what is done; traces that it has already are not done again, and are in the report.

    Raises:
        EcustreamError: a file cannot be read, an option is wrong, or no trace can be judged.
    """
    if not false_alarms_per_hour > 0:
        raise ConfigError(f"--false-alarms-per-hour: {false_alarms_per_hour:g} is not above 0")
    opened = open_bundle(bundle_path, names, source, loggers)
    other = None if against is None else open_bundle(against, names, source, loggers)
    if other is not None and other.info.key != opened.info.key:
        raise ConfigError(
            f"--against {against}: a PDU is the same by its {other.info.key}, in {bundle_path} by its "
            f"{opened.info.key}; they cannot be compared line by line"
        )
    budgets = tuple(sorted({*_BUDGETS, false_alarms_per_hour}))
    plan = Plan(false_alarms_per_hour, budgets, round(join_ms * 1e6))
    chosen = chosen_baselines(baselines)
    cases = read_cases(traces)
    store = Store(folder)
    learn = _learn_from(clean, cases, store, opened.fitted_on()) if chosen else []
    store.begin(
        {
            "version of the evaluation": _VERSION,
            "bundle": opened.info.sha256,
            "bundle for --against": None if other is None else other.info.sha256,
            "budget or join": [false_alarms_per_hour, *budgets, plan.join_ns],
            "table of names, bus or logger": [
                None if names is None else digest_of(names),
                source,
                dict(loggers or {}),
            ],
            "set of baselines": [baseline.name for baseline in chosen],
            "choice of clean traffic": [[str(path.absolute()), digest_of(path)] for path in learn],
            "choice of annotated traffic": [
                [digest_of(path), digest_of(annotations_of(path))] for path in annotated if chosen
            ],
        }
    )
    cases, notes = _with_earlier(cases, store)
    open_cases = [case for case in cases if not store.has(case)]
    numbers, rivals, of_rivals = PduNumbers(), list[Rival](), list[str]()
    if chosen and not learn:
        notes.append(
            "the baselines are left out: there is no clean traffic to learn from; name some by --clean"
        )
    elif chosen and open_cases:
        with WorkProgress("fitting baselines", len(chosen)) as progress:
            rivals, of_rivals = fit_rivals(
                chosen,
                learn,
                annotated,
                opened,
                numbers,
                false_alarms_per_hour,
                budgets,
                plan.join_ns,
                progress.update,
            )
    notes += _work(open_cases, opened, other, rivals, numbers, plan, store, of_rivals)
    judged = {case.name: case for case in cases if case.name in store.results}
    if not judged:
        raise InputError(notes[-1])
    return _reported(opened, other, judged, store, plan, notes)


def _learn_from(
    clean: Sequence[Path], cases: Sequence[Case], store: Store, fitted_on: set[str]
) -> list[Path]:
    """What baselines learn from: what was named, else what they learned from before, else a clean trace."""
    if clean:
        return list(clean)
    before = (store.settings() or {}).get("choice of clean traffic")
    if before:
        return [Path(path) for path, _ in before]
    quiet = [case for case in cases if case.labels is None]
    # One that the bundle has learned from is in no total anyway: then all rates are of the same traffic.
    quiet.sort(key=lambda case: case.sha256 not in fitted_on)
    return [case.path for case in quiet[:1]]


def _with_earlier(cases: Sequence[Case], store: Store) -> tuple[list[Case], list[str]]:
    """The traces together with those that the store has of earlier times, and sentences on missing ones."""
    named = {case.name for case in cases}
    earlier, notes = [], []
    for name, result in store.results.items():
        if name in named:
            continue
        if Path(result.path).is_file():
            earlier.append(Path(result.path))
        else:
            notes.append(f"{name} is left out: it was judged before, but {result.path} is no longer there")
    return [*read_cases(earlier), *cases], notes


def _work(
    cases: Sequence[Case],
    opened: Opened,
    other: Opened | None,
    rivals: Sequence[Rival],
    numbers: PduNumbers,
    plan: Plan,
    store: Store,
    of_rivals: Sequence[str],
) -> list[str]:
    """Judge what is not done; sentences on what could not be. Those `of_rivals` are kept with the traces."""
    notes = []
    sizes = [case.path.stat().st_size * (1 if other is None else 2) for case in cases]
    yardstick = Yardstick(
        opened.calibration,
        opened.info.receptive_field_tokens,
        frozenset(opened.fitted_on()),
        plan,
        rivals,
        numbers,
    )
    own_process = sum(sizes) > _MUCH_TRAFFIC_BYTES and (os.cpu_count() or 1) > 1
    with (
        JudgeBeside(yardstick, own_process) as beside,
        WorkProgress("evaluating", sum(sizes)) as progress,
    ):

        def reader(before: int, name: str) -> Callable[[int], None]:
            return lambda bytes_read: progress.update(before + bytes_read, name)

        for number, case in enumerate(cases):
            done = sum(sizes[:number])
            try:
                judged = judge(case, opened, beside, reader(done, case.name))
            except TooShortError as short:
                notes.append(str(short))
                store.results.pop(case.name, None)
                continue
            if other is not None:
                second = reader(done + sizes[number] // 2, case.name)
                judged.result.other = compare_lines(case, judged, other, plan, second)
            judged.result.notes += of_rivals
            store.add(judged.result, (judged.scores.times_ns, judged.scores.columns) if case.labels else None)
    return notes


def _reported(
    opened: Opened,
    other: Opened | None,
    cases: dict[str, Case],
    store: Store,
    plan: Plan,
    notes: list[str],
) -> Study:
    results = {name: store.results[name] for name in cases}
    rows: dict[str, dict[str, Row]] = {}
    for name, result in results.items():
        for row in result.rows:
            rows.setdefault(row.name, {})[name] = row
    scores = {name: arrays for name, arrays in store.scores().items() if name in cases}
    for title, column, told in best_rows(list(results.values()), scores, plan.join_ns):
        rows[title] = {
            name: Row(title, what, ranked=results[name].ranked[column]) for name, what in told.items()
        }
    found = curves(rows, cases, results)
    annotated = any(case.annotator is not None for case in cases.values())
    report = {
        "bundle": str(opened.path),
        "false_alarms_per_hour": plan.budget_per_hour,
        "traces": list(cases),
        "rows": [
            {"name": title}
            | {name: outcome(row.told, cases[name], results[name]) for name, row in of_trace.items()}
            for title, of_trace in rows.items()
        ],
        "totals": {by: totals(by, rows, cases, results) for by in JUDGES if by == "labels" or annotated},
        "curves": curve_rows(found),
        "facts": {name: facts(results[name], case) for name, case in cases.items()},
        "against": None if other is None else differences(str(other.path), cases, results),
    }
    report["notes"] = _notes(cases, results, report) + notes
    # As it is read back: numbers that are none are null, tuples are lists.
    return Study(msgspec.json.decode(msgspec.json.encode(report)), cases, results, found)


def _notes(cases: dict[str, Case], results: dict[str, TraceResult], report: dict[str, Any]) -> list[str]:
    notes = []
    fitted = [name for name, result in results.items() if result.fitted_on]
    if fitted:
        it = "it, so it is" if len(fitted) == 1 else "them, so they are"
        notes.append(f"{', '.join(fitted)}: the bundle has learned from {it} in no total")
    saw = {name: [row.name for row in result.rows if row.saw] for name, result in results.items()}
    for name, who in saw.items():
        if who and name not in fitted:
            notes.append(f"{name}: {', '.join(who)} learned from it, so it is not in their totals")
    if not any(case.labels for case in cases.values()):
        notes.append(
            "no trace has labels: there are rates of alarms alone, and an alarm counts as false even if "
            "it is right"
        )
    elsewhere = report["totals"]["labels"][0]["unknown_pdu_elsewhere"]
    if elsewhere:
        reports = "1 report" if elsewhere == 1 else f"{elsewhere:,} reports"
        notes.append(
            f"{report['totals']['labels'][0]['name']}: {reports} of an unknown PDU where there is no fault; "
            "that it is unknown is so, and is not counted as false"
        )
    left_out = report["against"]["left_out"] if report["against"] else []
    if left_out:
        notes.append(
            f"{', '.join(left_out)}: not in the comparison of the bundles; one of them has learned from it"
        )
    for by, whose in (("labels", "true labels"), ("annotator", "the annotator's labels")):
        share = covered(by, cases, results)
        if share is not None and share > _MUCH_COVERED:
            notes.append(
                f"{whose} cover {share:.0%} of the time: against them nearly every episode is right, by "
                "chance as well, and there is hardly any time for false ones; compare with the random score"
            )
    of_annotator = quality_note(cases)
    if of_annotator is not None:
        notes.append(of_annotator)
    # What is kept with every trace is told once.
    return list(dict.fromkeys([*notes, *(note for result in results.values() for note in result.notes)]))
