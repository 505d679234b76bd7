"""Labels become labelled lines."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.decode.names import NameTable
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from ecustream.run.source import TraceLines
from ecustream.traffic import STATE_NORMAL, Line, Stream
from training.labelled import LabelledTrace
from training.labels import Label, read_labels

SECOND = 1_000_000_000


def line(time_ns: int, name: str = "A") -> Line:
    stream = Stream(0, name, name, "ETH1", "a", 1, "b", 2)
    return Line(0, 0, time_ns, stream, STATE_NORMAL, None)


def labelled(labels: Sequence[Label], lines: Sequence[Line], batch: int = 1000) -> list[bool]:
    """What is labelled of lines that come in batches."""
    trace = LabelledTrace(labels, "labels", "trace")
    batches = [trace(lines[at : at + batch]) for at in range(0, len(lines), batch)]
    return [bool(mark) for marks in batches for mark in marks]


def plainly(labels: Sequence[Label], lines: Sequence[Line]) -> list[bool]:
    """The same by the words of its docstring, line by line."""
    out = [
        any(
            label.start_ns <= line.time_ns <= label.end_ns
            and (not label.pdus or line.stream.name in label.pdus)
            for label in labels
        )
        for line in lines
    ]
    for label in labels:
        for name in label.pdus:
            since = [
                i
                for i, line in enumerate(lines)
                if line.stream.name == name and line.time_ns >= label.start_ns
            ]
            if since and lines[since[0]].time_ns <= label.end_ns + 10 * SECOND:
                out[since[0]] = True
    return out


def test_a_label_means_the_lines_of_its_pdus_within_it() -> None:
    """Both ends belong to a label; other PDUs do not, unless it names none."""
    lines = [line(t, name) for t in (9, 10, 15, 20, 21) for name in "AB"]
    named = labelled([Label(10, 20, "delay", ["A"])], lines)
    assert named == [False, False, True, False, True, False, True, False, False, False]
    unnamed = labelled([Label(10, 20, "overload")], lines)
    assert unnamed == [False, False, True, True, True, True, True, True, False, False]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_the_line_after_a_missing_one_is_labelled(batch: int) -> None:
    """A label that holds no line of its PDU means the next one, but none that comes 10 s after its end."""
    lines = [line(0), line(3 * SECOND, "B"), line(5 * SECOND), line(6 * SECOND)]
    missing = Label(1 * SECOND, 2 * SECOND, "missing", ["A"])
    assert labelled([missing], lines, batch) == [False, False, True, False]
    assert labelled([missing], [line(0), line(12 * SECOND)], batch) == [False, True]
    assert labelled([missing], [line(0), line(12 * SECOND + 1)], batch) == [False, False]


def test_each_of_overlapping_labels_waits_for_its_own_line() -> None:
    """A line in one label is not the line that another one, begun since, is about."""
    labels = [Label(0, 10, "delay", ["A"]), Label(5, 20, "missing", ["A"])]
    assert labelled(labels, [line(3), line(25), line(30)]) == [True, True, False]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ABC")), max_size=40),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 12), st.lists(st.sampled_from("ABC"), max_size=2)),
        max_size=6,
    ),
    st.integers(1, 9),
    st.booleans(),
)
def test_labels_mean_what_is_said_of_them(
    lines: list[tuple[int, str]], labels: list[tuple[int, int, list[str]]], batch: int, ordered: bool
) -> None:
    """Whatever the batches, overlaps and order, the same lines are labelled as by a plain loop."""
    made = [line(second * SECOND, name) for second, name in (sorted(lines) if ordered else lines)]
    truths = [
        Label(start * SECOND, (start + seconds) * SECOND, "kind", pdus) for start, seconds, pdus in labels
    ]
    assert labelled(truths, made, batch) == plainly(truths, made)


def test_labels_of_another_trace_are_refused() -> None:
    """The sentence names the label, how far away it is, and the times of the trace."""
    ours = [Label(3 * SECOND, 4 * SECOND, "delay"), Label(112_500_000_000, 120 * SECOND, "drift", ["A"])]
    trace = LabelledTrace(ours, "x.labels.jsonl", "x.pcapng")
    trace([line(2 * SECOND), line(100 * SECOND)])
    said = (
        r"x\.labels\.jsonl: label 2 \(drift, 12\.50 s after its end\) lies outside the trace x\.pcapng, "
        r"which goes from 1970-01-01 00:00:02\.000 UTC to 1970-01-01 00:01:40\.000 UTC"
    )
    with pytest.raises(InputError, match=said):
        trace.finish()
    early = LabelledTrace(ours, "x.labels.jsonl", "x.pcapng")
    early([line(15 * SECOND)])
    with pytest.raises(InputError, match=r"label 1 \(delay, 11\.00 s before its start\)"):
        early.finish()


def test_labels_near_the_ends_of_a_trace_belong_to_it() -> None:
    """The message that should have come last, or first, is labelled outside the lines' times."""
    trace = LabelledTrace([Label(0, 1, "x"), Label(22 * SECOND, 23 * SECOND, "x")], "labels", "trace")
    trace([])
    trace.finish()
    trace([line(9 * SECOND)])
    trace([line(12 * SECOND)])
    trace.finish()


def test_labels_of_simulated_faults_find_their_lines(faulty_trace: Path) -> None:
    """Every fault of a simulated trace labels lines, of a small part of the trace, of its PDUs alone."""
    path = faulty_trace.with_suffix(".labels.jsonl")
    labels = read_labels(path)
    names = NameTable.load(faulty_trace.with_suffix(".names.csv"))
    trace = LabelledTrace(labels, path.name, faulty_trace.name)
    alone = [LabelledTrace([label], path.name, faulty_trace.name) for label in labels]
    total = odd = 0
    found = [0] * len(labels)
    with closing(TraceLines(faulty_trace, Ledger(), names=names)) as lines:
        for batch in lines:
            total += len(batch)
            every = trace(batch)
            odd += int(every.sum())
            each = [one(batch) for one in alone]
            assert (every == np.logical_or.reduce(each)).all()
            for i, marks in enumerate(each):
                found[i] += int(marks.sum())
                pdus = {line.stream.name for line, mark in zip(batch, marks, strict=True) if mark}
                assert not labels[i].pdus or pdus <= set(labels[i].pdus)
    trace.finish()
    assert labels
    assert all(found)
    assert 0 < odd < total / 4
