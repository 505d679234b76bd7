"""The driver over baselines, and traces that are read for it."""

from pathlib import Path

import numpy as np
import pytest

from ecustream.decode.names import NameTable
from ecustream.errors import InputError
from ecustream.traffic import STATE_INIT, STATE_NORMAL
from tests.training.baseline_traffic import NUMBERS, clean, injected, labelled
from tests.training.clean_traffic import MS
from training.baselines.columns import PduNumbers
from training.baselines.every import every_baseline
from training.baselines.interval_score import IntervalScore
from training.baselines.random_score import RandomScore
from training.baselines.reading import cycles_of, read_labelled, read_pieces
from training.baselines.rhythm import learn_rhythms
from training.baselines.table import baseline_rows

DEMO = Path(__file__).parents[2] / "demo"


def test_row_has_the_scores_and_episodes_of_each_trace() -> None:
    """Pieces one after the other, the interruption between them no fault; speed and progress are told."""
    late, start_ns, _ = injected("late")
    pieces = [clean(6, 4), late]
    told: list[tuple[float, str]] = []
    rows = list(
        baseline_rows(
            [RandomScore(), IntervalScore()],
            [clean(1, 60)],
            [],
            [[clean(4, 60)]],
            [pieces, [clean(5)]],
            NUMBERS.sources,
            progress=lambda share, name: told.append((share, name)),
        )
    )
    assert [row.name for row in rows] == ["random", "interval rule"]
    for row in rows:
        assert [len(scores) for scores in row.scores] == [
            sum(len(piece.time_ns) for piece in pieces),
            len(clean(5).time_ns),
        ]
        assert row.lines_per_s > 0
    alone = IntervalScore().fit([clean(1, 60)], []).begin().scores(late)
    assert np.array_equal(rows[1].scores[0][-len(alone) :], alone)
    (span,) = rows[1].spans[0]
    assert start_ns <= span.start_ns <= start_ns + 20 * MS
    assert rows[1].spans[1] == []
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {name for _, name in told} == {"random", "interval rule"}


def test_without_labels_classifiers_are_left_out() -> None:
    """Those that learn from clean traffic alone remain; all are there with labels."""
    arguments = [clean(1)], [[clean(4)]], [[clean(5, 5)]]
    rows = baseline_rows(every_baseline(), arguments[0], [], *arguments[1:], NUMBERS.sources)
    names = [row.name for row in rows]
    assert names == ["random", "interval rule", "window counts", "EWMA", "CUSUM", "isolation forest"]
    rows = baseline_rows(every_baseline(), arguments[0], [labelled(3)], *arguments[1:], NUMBERS.sources)
    assert len(list(rows)) == 11


def test_silence_at_the_end_of_clean_traffic_raises_the_threshold() -> None:
    """A PDU that stays away from held-out traffic is no false alarm where it stays away as long."""
    quiet = injected("silent")[0]
    (row,) = baseline_rows([IntervalScore()], [clean(1, 60)], [], [[quiet]], [[quiet]], NUMBERS.sources)
    assert row.spans == [[]]
    assert row.threshold > 100


def test_demo_with_its_annotator() -> None:
    """Labelled lines of the demo are columns with labels; all its lines are there, with states."""
    numbers, names = PduNumbers(), NameTable.load(DEMO / "demo.names.csv")
    pieces = read_pieces(DEMO / "demo.pcapng.gz", numbers, names)
    cycles = cycles_of(learn_rhythms(pieces), numbers.keys)
    assert sum(cycle > 0 for cycle in cycles.values()) > 10
    marked = read_labelled(
        DEMO / "demo.pcapng.gz", DEMO / "demo.annotator.jsonl", numbers, names, cycles_ns=cycles
    )
    assert [len(piece.labels) for piece in marked] == [len(piece.time_ns) for piece in pieces]
    for piece, plain in zip(marked, pieces, strict=True):
        assert np.array_equal(piece.columns.time_ns, plain.time_ns)
        assert np.array_equal(piece.columns.pdu, plain.pdu)
    labels = np.concatenate([piece.labels for piece in marked])
    assert 0.001 < labels.mean() < 0.5


def test_states_come_with_the_cycles() -> None:
    """Without cycles all is normal operation; where most known PDUs never come the vehicle is not awake."""
    numbers, trace = PduNumbers(), DEMO / "demo.pcapng.gz"
    absent = {f"PDU {number}": 10 * MS for number in range(1000)}
    normal = read_pieces(trace, numbers, None)
    asleep = read_pieces(trace, numbers, None, absent)
    marked = read_labelled(trace, DEMO / "demo.annotator.jsonl", numbers, None, absent)
    assert {state for piece in normal for state in piece.state.tolist()} == {STATE_NORMAL}
    for pieces in (asleep, [piece.columns for piece in marked]):
        assert STATE_INIT in {state for piece in pieces for state in piece.state.tolist()}


def test_labels_of_another_trace(tmp_path: Path) -> None:
    """Labels that lie outside the trace are refused."""
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"start_ns": 5, "end_ns": 6, "kind": "x"}\n')
    with pytest.raises(InputError, match="lies outside the trace"):
        read_labelled(DEMO / "demo.pcapng.gz", wrong, PduNumbers(), None)
