"""The rule annotator: CANoe's cycle time check, and labels as unreliable as asked for."""

import statistics
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from training.annotator import KIND, AnnotationSummary, CycleTimeCheck, UnreliableAnnotator
from training.draws import IntArray, below, make_key
from training.labels import Label

MS = 1_000_000
CYCLES_MS = (10, 0, 20, 100)
Row = tuple[int, int]

rows_of_traffic = st.lists(
    st.tuples(st.integers(0, len(CYCLES_MS) - 1), st.integers(-5 * MS, 150 * MS)), max_size=60
)
cuts = st.lists(st.integers(0, 60), max_size=4)


def columns(rows: Sequence[Row]) -> tuple[IntArray, IntArray]:
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def at_times(steps: Sequence[Row]) -> list[Row]:
    """Messages with the time that has gone by since the message before, as rows; a clock may go back."""
    times = accumulate(step for _, step in steps)
    return [(message, time) for (message, _), time in zip(steps, times, strict=True)]


def pieces(rows: Sequence[Row], at: Sequence[int]) -> list[Sequence[Row]]:
    edges = [0, *sorted(min(cut, len(rows)) for cut in at), len(rows)]
    return [rows[start:stop] for start, stop in pairwise(edges)]


def check(min_rel: float = 0.8, max_rel: float = 1.2) -> CycleTimeCheck:
    return CycleTimeCheck([cycle * MS for cycle in CYCLES_MS], min_rel, max_rel)


def events_of(rule: CycleTimeCheck, parts: Sequence[Sequence[Row]]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for part in parts:
        events = rule.feed(*columns(part))
        found += zip(*(column.tolist() for column in events), strict=True)
    return found


class TestCycleTimeCheck:
    @given(
        rows_of_traffic, cuts, st.sampled_from(["0", "0.5", "0.8", "1"]), st.sampled_from(["0", "1", "1.2"])
    )
    @settings(deadline=None)
    def test_is_the_rule(self, steps: list[Row], at: list[int], low: str, high: str) -> None:
        """Whatever comes, in whatever pieces: the events of a loop that does what CANoe's help says."""
        rows = at_times(steps)
        expected = []
        last: dict[int, int] = {}
        for message, time in rows:
            cycle = CYCLES_MS[message] * MS
            if cycle and message in last:
                distance = time - last[message]
                too_early = Fraction(low) and distance < Fraction(low) * cycle
                too_late = Fraction(high) and distance > Fraction(high) * cycle
                if too_early or too_late:
                    expected.append((message, last[message], time))
            last[message] = time
        assert events_of(check(float(low), float(high)), pieces(rows, at)) == expected

    def test_limits_themselves_are_allowed(self) -> None:
        """8 ms and 12 ms are within 0.8 to 1.2 of 10 ms; a nanosecond less or more is not."""
        rows = [(0, 0), (0, 8 * MS), (0, 20 * MS), (0, 28 * MS - 1), (0, 40 * MS)]
        assert [event[2] for event in events_of(check(), [rows])] == [28 * MS - 1, 40 * MS]

    @given(rows_of_traffic, cuts)
    @settings(deadline=None)
    def test_statistics(self, steps: list[Row], at: list[int]) -> None:
        """NumEvents, min, max, avg and stddev are those of all distances of the checked messages."""
        rows = at_times(steps)
        rule = check()
        events = events_of(rule, pieces(rows, at))
        distances = {
            message: np.diff([time for other, time in rows if other == message]).tolist()
            for message, cycle in enumerate(CYCLES_MS)
            if cycle
        }
        found = {row.message: row for row in rule.statistics()}
        assert set(found) == {message for message, of_one in distances.items() if of_one}
        for message, row in found.items():
            of_one = distances[message]
            assert row.cycle_ns == CYCLES_MS[message] * MS
            assert row.num_events == sum(event[0] == message for event in events)
            assert (row.distances, row.min_ns, row.max_ns) == (len(of_one), min(of_one), max(of_one))
            assert row.avg_ns == pytest.approx(statistics.fmean(of_one), rel=1e-12, abs=1e-3)
            assert row.stddev_ns == pytest.approx(statistics.pstdev(of_one), rel=1e-6, abs=10)

    def test_more_messages_than_sixteen_bits(self) -> None:
        """Message numbers above 65535 are not mixed up with low ones."""
        rule = CycleTimeCheck([10 * MS] * 70_000)
        rows = [(1, 0), (65_537, 5 * MS), (1, 20 * MS), (65_537, 15 * MS)]
        assert events_of(rule, [rows]) == [(1, 0, 20 * MS)]

    @pytest.mark.parametrize(("low", "high"), [(-0.1, 1.2), (0.8, float("nan")), (1.3, 1.2)])
    def test_impossible_limits(self, low: float, high: float) -> None:
        """Limits that cannot be are refused."""
        with pytest.raises(ConfigError, match="-rel"):
            CycleTimeCheck([MS], low, high)


NAMES = ("ESC_01", "Event", "Motor_02", "Body_03")


def annotate(
    parts: Sequence[Sequence[Row]],
    truth: Sequence[Label] | None = None,
    recall: float | None = None,
    precision: float | None = None,
    lateness_ns: int | None = None,
    seed: int = 0,
) -> tuple[list[Label], AnnotationSummary]:
    annotator = UnreliableAnnotator(check(), NAMES, recall, precision, lateness_ns, seed)
    for part in parts:
        annotator.feed(*columns(part))
    return list(annotator.finish(truth)), annotator.summary


def cyclic(message: int, times_ms: Sequence[float]) -> list[Row]:
    return [(message, round(time * MS)) for time in times_ms]


class TestAnnotations:
    def test_late_message(self) -> None:
        """From when it was due at the latest until it came; of the PDU alone."""
        labels, summary = annotate([cyclic(0, [0, 10, 20, 45, 55])])
        assert labels == [Label(32 * MS, 45 * MS, KIND, ["ESC_01"])]
        assert (summary.events, summary.annotations) == (1, 1)
        assert summary.recall is None
        assert summary.precision is None

    def test_early_message(self) -> None:
        """A message sent twice: from the early one to the regular one, which is too close to it as well."""
        labels, summary = annotate([cyclic(0, [0, 10, 14, 20, 30])])
        assert labels == [Label(14 * MS, 20 * MS, KIND, ["ESC_01"])]
        assert summary.events == 2

    def test_fast_phase_is_one_annotation(self) -> None:
        """A PDU of 100 ms that is sent every 10 ms for a while is annotated all that time."""
        labels, summary = annotate([cyclic(3, [0, 100, *range(110, 310, 10), 400, 500])])
        assert labels == [Label(110 * MS, 300 * MS, KIND, ["Body_03"])]
        assert summary.events == 20

    def test_violations_farther_apart_are_two(self) -> None:
        """Between them the message came as it should."""
        labels, _ = annotate([cyclic(0, [0, 20, 30, 50])])
        assert [(label.start_ns, label.end_ns) for label in labels] == [
            (12 * MS, 20 * MS),
            (42 * MS, 50 * MS),
        ]

    def test_clock_set_back(self) -> None:
        """A clock that goes back an hour makes no annotation of an hour."""
        hour_ms = 3_600_000
        times = [hour_ms, hour_ms + 15, 0, 10, 25]
        labels, _ = annotate([cyclic(0, times)])
        assert max(label.end_ns - label.start_ns for label in labels) <= 5 * MS

    @given(rows_of_traffic, cuts, st.booleans())
    @settings(deadline=None)
    def test_division_into_calls_is_no_matter(self, steps: list[Row], at: list[int], knobs: bool) -> None:
        """Labels and summary are the same however the traffic is divided, with and without the knobs."""
        rows = at_times([(message, abs(step)) for message, step in steps])
        truth = [Label(k * 200 * MS, k * 200 * MS + 50 * MS, "delay") for k in range(20)]
        settings_ = (truth, 0.5, 0.5, 5 * MS, 3) if knobs else (truth,)
        assert annotate(pieces(rows, at), *settings_) == annotate([rows], *settings_)

    def test_division_is_no_matter_where_annotations_are_invented(self) -> None:
        """More messages than are kept as samples, in pieces and at once."""
        rows, truth = drive(60, 5)
        knobs = (truth, 0.9, 0.3, 5 * MS, 3)
        whole, summary = annotate([rows], *knobs)
        assert summary.invented > 50
        assert annotate(pieces(rows, [1, 700, 5000, 5003]), *knobs) == (whole, summary)

    def test_recall_and_precision_of_the_bare_rule(self) -> None:
        """A fault of another PDU is not met; one that names no PDU is; each annotation counts once."""
        rows = cyclic(0, [0, 10, *range(35, 255, 10), 295])
        truth = [
            Label(15 * MS, 40 * MS, "delay", ["ESC_01"]),
            Label(15 * MS, 40 * MS, "delay", ["Motor_02"]),
            Label(30 * MS, 40 * MS, "stuck_ecu"),
        ]
        labels, summary = annotate([rows], truth)
        assert len(labels) == 2
        assert summary == AnnotationSummary(2, 2, 0, 3, 2, 1)
        assert summary.recall == pytest.approx(2 / 3)
        assert summary.precision == pytest.approx(1 / 2)

    def test_fault_amid_a_long_annotation(self) -> None:
        """It is met although another annotation began and ended after the start of the long one."""
        rows = cyclic(3, [0, 100, *range(110, 1000, 10)]) + cyclic(0, [200, 220])
        truth = [Label(600 * MS, 610 * MS, "delay", ["Body_03"])]
        labels, summary = annotate([sorted(rows, key=lambda row: row[1])], truth)
        assert [label.pdus for label in labels] == [["Body_03"], ["ESC_01"]]
        assert (summary.annotated_faults, summary.true_annotations) == (1, 1)

    def test_annotation_soon_after_a_fault_is_its(self) -> None:
        """100 ms after the end of the fault it still counts, a nanosecond later not."""
        rows = cyclic(0, [0, 10, 20, 45])
        start_ns = 32 * MS - 100 * MS
        for end_ns, met in ((start_ns, 1), (start_ns - 1, 0)):
            _, summary = annotate([rows], [Label(start_ns - MS, end_ns, "delay")])
            assert summary.true_annotations == met


def drive(faults: int, switches: int) -> tuple[list[Row], list[Label]]:
    """A PDU of 10 ms that as many times stays away for 20 to 60 ms, and one of 100 ms with fast phases."""
    gone_ms = 10 + 10 * below(make_key("test drive"), np.arange(faults), 5)
    rows: list[Row] = []
    truth = []
    for number, gone in enumerate(gone_ms.tolist()):
        start = 2_000 * number
        rows += cyclic(0, [*range(start, start + 1000, 10), *range(start + 1000 + gone, start + 2000, 10)])
        truth.append(Label((start + 1000) * MS, (start + 1000 + gone) * MS, "missing", ["ESC_01"]))
    for number in range(switches):
        start = 2_000 * number
        rows += cyclic(3, [*range(start, start + 1000, 100), *range(start + 1000, start + 1500, 20)])
        rows += cyclic(3, range(start + 1500, start + 2000, 100))
    return sorted(rows, key=lambda row: row[1]), truth


class TestKnobs:
    @pytest.mark.parametrize("recall", [0.0, 0.35, 0.7, 1.0])
    def test_recall(self, recall: float) -> None:
        """So many of 400 faults keep their annotations; those which keep them are drawn by the seed."""
        rows, truth = drive(400, 0)
        found = []
        for seed in (1, 2):
            labels, summary = annotate([rows], truth, recall=recall, seed=seed)
            assert summary.recall == pytest.approx(recall, abs=1e-9)
            assert summary.precision == (1 if labels else None)
            found.append(labels)
        assert (found[0] == found[1]) == (recall in (0.0, 1.0))

    def test_recall_drops_no_false_annotation(self) -> None:
        """Mode switches are annotated as before."""
        rows, truth = drive(100, 100)
        bare = {label.start_ns for label in annotate([rows], truth)[0] if label.pdus == ["Body_03"]}
        labels, _ = annotate([rows], truth, recall=0.2)
        assert {label.start_ns for label in labels if label.pdus == ["Body_03"]} == bare
        assert len(bare) >= 100

    def test_recall_holds_where_annotations_meet_several_faults(self) -> None:
        """Overlapping faults share annotations; the share that is left is at most the one asked for."""
        rows, truth = drive(200, 0)
        doubled = truth + [Label(fault.start_ns, fault.end_ns, "stuck_ecu") for fault in truth]
        _, summary = annotate([rows], doubled, recall=0.5)
        assert summary.recall == 0.5

    def test_recall_holds_where_faults_have_several_annotations(self) -> None:
        """A fault is forgotten with all of its annotations, and counts once."""
        rows, truth = drive(200, 0)
        wide = [
            Label(one.start_ns, other.end_ns, "stall")
            for one, other in zip(truth[::2], truth[1::2], strict=True)
        ]
        labels, summary = annotate([rows], wide, recall=0.5)
        assert summary.recall == 0.5
        assert len(labels) == 100

    @pytest.mark.parametrize(("switches", "precision"), [(0, 0.9), (0, 0.5), (400, 0.9), (400, 0.3)])
    def test_precision(self, switches: int, precision: float) -> None:
        """Mode switches are false annotations; some are dropped, or others are invented, as needed."""
        rows, truth = drive(300, switches)
        bare, bare_summary = annotate([rows], truth)
        labels, summary = annotate([rows], truth, precision=precision)
        assert summary.precision == pytest.approx(precision, abs=0.005)
        assert summary.recall == 1
        enough = bare_summary.precision is not None and bare_summary.precision <= precision
        assert (summary.invented == 0) == enough
        assert enough == (set(map(str, labels)) <= set(map(str, bare)))

    def test_invented_annotations_are_like_the_others(self) -> None:
        """They lie where the messages are, have lengths that occur, and do not meet a fault."""
        rows, truth = drive(200, 0)
        bare, _ = annotate([rows], truth)
        labels, summary = annotate([rows], truth, recall=0.5, precision=0.5)
        assert summary.recall == pytest.approx(0.5)
        assert summary.precision == pytest.approx(0.5)
        invented = [label for label in labels if label not in bare]
        assert len(invented) == summary.invented == 100
        times = {time for _, time in rows}
        lengths = {label.end_ns - label.start_ns for label in bare}
        assert all(label.start_ns in times and label.end_ns - label.start_ns in lengths for label in invented)
        assert len({label.start_ns // (50_000 * MS) for label in invented}) == 8

    def test_trace_without_faults_keeps_its_false_annotations(self) -> None:
        """Nothing can be in proportion to no true annotation."""
        rows, _ = drive(0, 50)
        bare, _ = annotate([rows], [])
        labels, summary = annotate([rows], [], recall=0.5, precision=0.5)
        assert labels == bare
        assert summary.precision == 0
        assert summary.recall is None

    def test_lateness(self) -> None:
        """Start and end move by the same time, 50 ms in the mean, and differ from label to label."""
        rows, truth = drive(800, 0)
        bare, _ = annotate([rows], truth)
        late, summary = annotate([rows], truth, lateness_ns=50 * MS)
        assert summary.recall == 1
        moves = [after.start_ns - before.start_ns for before, after in zip(bare, late, strict=True)]
        assert [after.end_ns - before.end_ns for before, after in zip(bare, late, strict=True)] == moves
        assert min(moves) >= 0
        # The mean of 800 exponential values is within 12 % in all but one of a thousand cases.
        assert statistics.fmean(moves) == pytest.approx(50 * MS, rel=0.12)
        assert statistics.pstdev(moves) == pytest.approx(50 * MS, rel=0.2)

    @pytest.mark.parametrize("knob", [{"recall": 1.1}, {"precision": 0.0}, {"lateness_ns": -1}])
    def test_impossible_knobs(self, knob: dict[str, float]) -> None:
        """Knobs out of range are refused."""
        with pytest.raises(ConfigError, match=next(iter(knob)).removesuffix("_ns")):
            UnreliableAnnotator(check(), NAMES, **knob)  # type: ignore[arg-type]
