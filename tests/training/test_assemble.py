"""Parts of traces are read, and calibrated on, line for line."""

import pytest

from ecustream.scoring.fields import FieldsTokenizer
from tests.scoring.tiny import make_line, make_stream, oracle
from training.assemble import Knowledge, calibrated, checkpoint_of, learn, read_parts
from training.simulate import draw_vehicle, write_trace
from training.splits import Part, split_drives
from training.traces import Traces, lines_between


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Three short drives of one vehicle, of different lengths."""
    paths = []
    for drive, seconds in enumerate((2, 1, 3), 1):
        paths.append(tmp_path_factory.mktemp("drives") / f"{drive}.pcapng")
        write_trace(draw_vehicle("bench"), paths[-1], seconds=seconds, drive=drive)
    return Traces(paths, None)


@pytest.fixture(scope="module")
def known(traces: Traces) -> Knowledge:
    """What they say without a model."""
    return learn(traces)


def test_lines_between_are_cut_out_of_batches() -> None:
    """Whatever the batches; what lies behind is not read."""
    lines = [make_line(i, make_stream(0, "fast"), None) for i in range(10)]
    for first in range(11):
        for stop in range(first, 11):
            batches = iter([lines[:1], [], lines[1:4], lines[4:9], lines[9:]])
            got = [line.number for part in lines_between(batches, first, stop) for line in part]
            assert got == list(range(first, stop))
            assert stop > 4 or next(batches, None) is not None


def test_parts_are_read_by_their_numbers(traces: Traces, known: Knowledge) -> None:
    """The lines of each part, numbered within its trace, and no trace without a part."""
    first, second, third = known.line_counts
    parts = [Part(5, 9), Part(first + second + 7, first + second + third)]
    read = [
        [line.number for lines in batches for line in lines]
        for batches in read_parts(traces, "reading", known, parts)
    ]
    assert read == [[5, 6, 7, 8], list(range(7, third))]


@pytest.mark.parametrize("by", ["time", "drive"])
def test_only_held_out_lines_calibrate(traces: Traces, known: Knowledge, by: str) -> None:
    """Not one of those that warm the model up before them, nor of a trace that was trained on."""
    tokenizer = FieldsTokenizer(known.cycles_ns)
    checkpoint = checkpoint_of(oracle(24, layers=2, vocabulary=tokenizer.vocabulary_size))
    network = checkpoint.open(24, 0)
    parts = split_drives(known.line_counts, by="drive" if by == "drive" else "time").test
    calibration, seconds = calibrated(traces, known, tokenizer, known.cycles_ns, network, parts)
    lines = sum(part.stop_line - part.first_line for part in parts)
    assert calibration.clean_lines == lines
    assert seconds == pytest.approx(lines / sum(known.line_counts) * 6, rel=0.05)
    assert (lines == known.line_counts[2]) == (by == "drive")
