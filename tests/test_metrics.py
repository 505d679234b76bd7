"""Metrics as a reader of Prometheus' text format sees them, by a parser of our own."""

import re
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecustream.ledger import Ledger
from ecustream.metrics import CONTENT_TYPE, render_metrics
from ecustream.publish.messages import JournalStatus, PublishStatus, Status, TraceStatus

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)")
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Exposition(NamedTuple):
    """Samples by name and labels, and the kind of each metric."""

    samples: dict[Sample, float]
    kinds: dict[str, str]


def parse(text: str) -> Exposition:
    """Reads the whole text, or fails: each metric is one group, HELP and TYPE before its samples."""
    assert text.endswith("\n")
    samples: dict[Sample, float] = {}
    kinds: dict[str, str] = {}
    helped: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            name, words = line.removeprefix("# HELP ").split(" ", 1)
            assert name not in helped
            assert words
            helped.append(name)
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name == helped[-1]
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == helped[-1]
            labels = tuple(
                (key, re.sub(r"\\.", lambda escape: UNESCAPED[escape[0]], value))
                for key, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")
            )
            assert (match[1], labels) not in samples
            samples[match[1], labels] = float(match[3])
    assert list(kinds) == helped
    return Exposition(samples, kinds)


def status(**changes: object) -> Status:
    ledger = Ledger()
    ledger.enter("frames", 12)
    ledger.end("frames", "decoded", 10)
    ledger.end("frames", "unreadable", 2, reason="truncated_ip")
    ledger.note("time_backwards", 3)
    fields = {
        "run": "01JD",
        "source": "eth1",
        "state": "running",
        "seq": 4,
        "lines_per_s": 20.5,
        "lag_s": 0.125,
        "wall_ns": 1_700_000_000_500_000_000,
        "ledger": ledger.as_dict(),
    }
    return Status(**(fields | changes))  # type: ignore[arg-type]


def test_the_ledger() -> None:
    """Each end is a sample, its reason a label; what came in is another metric, so that sums make sense."""
    samples, kinds = parse(render_metrics(status()))
    assert samples["ecustream_frames_entered_total", ()] == 12
    assert samples["ecustream_frames_total", (("end", "decoded"),)] == 10
    assert samples["ecustream_frames_total", (("end", "unreadable"), ("reason", "truncated_ip"))] == 2
    assert sum(value for (name, _), value in samples.items() if name == "ecustream_frames_total") == 12
    assert samples["ecustream_notes_total", (("note", "time_backwards"),)] == 3
    assert kinds["ecustream_frames_total"] == "counter"
    # What alerts ask for is there before it has happened once.
    assert samples["ecustream_frames_total", (("end", "kernel_dropped"),)] == 0
    assert samples["ecustream_notes_total", (("note", "capture_outages"),)] == 0
    assert "ecustream_pdus_total" not in kinds, "a metric without a sample is left out"


def test_the_run() -> None:
    """Lag and time are in seconds; exactly one state is 1."""
    samples, kinds = parse(render_metrics(status(state="overloaded")))
    assert samples["ecustream_run_info", (("run", "01JD"), ("source", "eth1"))] == 1
    assert samples["ecustream_lag_seconds", ()] == 0.125
    assert samples["ecustream_status_timestamp_seconds", ()] == 1_700_000_000.5
    states = {labels[0][1]: value for (name, labels), value in samples.items() if name == "ecustream_state"}
    assert {state for state, value in states.items() if value} == {"overloaded"}
    assert {"running", "degraded", "done"} < set(states)
    assert kinds["ecustream_lag_seconds"] == "gauge"


def test_stages() -> None:
    """A stage that stands still is 1; nothing is said where nothing is watched."""
    samples, _ = parse(render_metrics(status(), {"capture": False, "scoring": True}))
    assert samples["ecustream_stage_stalled", (("stage", "capture"),)] == 0
    assert samples["ecustream_stage_stalled", (("stage", "scoring"),)] == 1
    assert "stage_stalled" not in render_metrics(status())


def test_the_journal() -> None:
    """A journal that cannot be written is a gauge at 0."""
    journal = JournalStatus(
        journalled=7, missing=2, torn=1, damaged=3, write_errors=4, size_bytes=1000, problem="no room"
    )
    samples, _ = parse(render_metrics(status(journal=journal)))
    values = {name.removeprefix("ecustream_journal_"): value for (name, _), value in samples.items()}
    expected = {
        "events_total": 7,
        "missing_events": 2,
        "torn_segments": 1,
        "damaged_lines": 3,
        "write_errors_total": 4,
        "size_bytes": 1000,
        "writable": 0,
    }
    assert expected.items() <= values.items()


def test_the_sockets() -> None:
    """Counters of the publisher, and the subscribers of the moment."""
    publish = PublishStatus(
        subscribers=1,
        queue_full=2,
        scores_dropped=3,
        requests=4,
        bad_requests=5,
        answers_dropped=6,
        refused=7,
    )
    samples, kinds = parse(render_metrics(status(publish=publish)))
    values = {name.removeprefix("ecustream_publish_"): value for (name, _), value in samples.items()}
    expected = {
        "subscribers": 1,
        "queue_full_total": 2,
        "scores_dropped_total": 3,
        "requests_total": 4,
        "bad_requests_total": 5,
        "answers_dropped_total": 6,
        "refused_connections_total": 7,
    }
    assert expected.items() <= values.items()
    assert kinds["ecustream_publish_subscribers"] == "gauge"


def test_traces() -> None:
    """Each of several traces has its own samples."""
    traces = [
        TraceStatus(trace="a.pcapng", lines=5, lag_s=1.5, ended=False),
        TraceStatus(trace="b.pcapng", lines=6, lag_s=0.0, ended=True),
    ]
    samples, _ = parse(render_metrics(status(traces=traces)))
    assert samples["ecustream_trace_lines_total", (("trace", "a.pcapng"),)] == 5
    assert samples["ecustream_trace_lag_seconds", (("trace", "a.pcapng"),)] == 1.5
    assert samples["ecustream_trace_ended", (("trace", "b.pcapng"),)] == 1


def test_names_follow_the_guidelines() -> None:
    """Counters end in _total and nothing else does; every name has the program's prefix."""
    _, kinds = parse(render_metrics(status()))
    assert all(name.startswith("ecustream_") for name in kinds)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())


def test_the_version_of_the_format() -> None:
    """Prometheus chooses its parser by it."""
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("count", [0, 2**53 + 1, 10**15])
def test_counts_are_written_in_full(count: int) -> None:
    """Without an exponent, to the last digit."""
    text = render_metrics(status(ledger={"frames": {"entered": count}}))
    assert f"ecustream_frames_entered_total {count}\n" in text


@given(st.text(), st.text(max_size=8))
@example('a"b\\c\nd', "x\ny")
def test_any_text_is_a_label(source: str, reason: str) -> None:
    """Names come from interfaces and files; quotes, backslashes and line feeds in them are escaped."""
    ledger = {"frames": {"entered": 1, f"unreadable{{{reason}}}": 1}}
    samples, _ = parse(render_metrics(status(source=source, ledger=ledger)))
    assert samples["ecustream_run_info", (("run", "01JD"), ("source", source))] == 1
    assert samples["ecustream_frames_total", (("end", "unreadable"), ("reason", reason))] == 1
