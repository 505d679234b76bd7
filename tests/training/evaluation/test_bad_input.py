"""What cannot be judged: one sentence, that names the file, and says what is missing."""

import shutil
from pathlib import Path

import pytest

import ecustream
from ecustream.errors import ConfigError, InputError
from training.evaluation.cases import overlap_note, read_cases
from training.evaluation.study import run_study
from training.labels import Label, beside, encode, read_labels
from training.simulate import draw_vehicle, write_trace


def write_labels(trace: Path, *labels: Label) -> None:
    """Labels beside a trace."""
    beside(trace, "labels").write_bytes(b"".join(map(encode, labels)))


def test_labels_outside_the_trace(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """Those of another drive are refused, with where the trace is."""
    first = read_labels(beside(faulty_trace, "labels"))[0]
    hour = 3_600_000_000_000
    write_labels(copied, Label(first.start_ns + hour, first.end_ns + hour, "delay"))
    with pytest.raises(InputError, match=r"copy\.labels\.jsonl: label 1 \(delay, .* after its end\)"):
        run_study(bundle_path, [copied])


def test_overlapping_labels(copied: Path) -> None:
    """Of one PDU they are told; of two PDUs, or one after the other, they are as good as any."""
    write_labels(
        copied, Label(0, 10, "delay", ["A"]), Label(5, 20, "early", ["B"]), Label(21, 30, "x", ["B"])
    )
    assert overlap_note(read_cases([copied])[0]) is None
    write_labels(
        copied,
        Label(0, 10, "delay", ["A"]),
        Label(1, 2, "x", ["B"]),
        Label(5, 20, "early", ["A", "B"]),
        Label(19, 30, "drift"),
    )
    note = overlap_note(read_cases([copied])[0])
    assert note is not None
    assert "copy.labels.jsonl: 2 labels overlap" in note
    assert "(label 3, early of A, B)" in note


def test_overlap_is_in_the_report(copied: Path, faulty_trace: Path, bundle_path: Path) -> None:
    """The evaluation goes on, and says it."""
    first = read_labels(beside(faulty_trace, "labels"))[0]
    write_labels(copied, first, first)
    report = run_study(bundle_path, [copied]).report
    assert sum("1 label overlaps" in note for note in report["notes"]) == 1


def test_no_labels_at_all(copied: Path, bundle_path: Path) -> None:
    """Then there are rates alone: no share of anything, and hours."""
    report = run_study(bundle_path, [copied]).report
    assert any(note.startswith("no trace has labels: there are rates") for note in report["notes"])
    assert list(report["totals"]) == ["labels"]
    for row in report["totals"]["labels"]:
        assert row["recall"] is row["precision"] is row["average_precision"] is None
        assert row["false_alarms"]["hours"] > 0


def test_shorter_than_the_receptive_field(tmp_path: Path, bundle_path: Path, unseen_clean: Path) -> None:
    """It is left out with a sentence; alone it is refused."""
    short = tmp_path / "short.pcapng"
    write_trace(draw_vehicle("bench"), short, seconds=0.05, drive=4)
    with pytest.raises(InputError, match=r"short\.pcapng is left out: all its .* receptive field") as refused:
        run_study(bundle_path, [short])
    report = run_study(bundle_path, [short, unseen_clean]).report
    assert report["traces"] == ["unseen"]
    assert str(refused.value) in report["notes"]


def test_two_traces_of_one_name(copied: Path, tmp_path: Path) -> None:
    """Their results could not be told apart."""
    (tmp_path / "more").mkdir()
    twin = Path(shutil.copy(copied, tmp_path / "more" / "copy.pcapng"))
    with pytest.raises(InputError, match="is called copy as well"):
        read_cases([copied, twin])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"baselines": "random,tarot"}, "no baseline is called 'tarot'; there are random, interval rule"),
        ({"false_alarms_per_hour": 0.0}, "--false-alarms-per-hour: 0 is not above 0"),
    ],
)
def test_wrong_options(options: dict[str, object], sentence: str, copied: Path, bundle_path: Path) -> None:
    """Refused before the trace is read."""
    copied.write_bytes(b"garbage")
    with pytest.raises(ConfigError, match=sentence):
        run_study(bundle_path, [copied], **options)  # type: ignore[arg-type]


def test_annotated_trace_without_annotations(copied: Path, unseen_clean: Path, bundle_path: Path) -> None:
    """It says what makes them."""
    with pytest.raises(InputError, match=r"copy\.annotator\.jsonl: .*training annotate"):
        run_study(bundle_path, [unseen_clean], baselines="random", clean=[unseen_clean], annotated=[copied])


def test_missing_trace(tmp_path: Path, bundle_path: Path) -> None:
    """It is named."""
    with pytest.raises(InputError, match=r"nothing\.pcapng: cannot be read: No such file"):
        run_study(bundle_path, [tmp_path / "nothing.pcapng"])


def test_other_vehicle(unseen_clean: Path) -> None:
    """Traffic of PDUs that a bundle does not know is judged, and that is told."""
    demo = Path(ecustream.__file__).parent / "bundles" / "demo"
    report = run_study(demo, [unseen_clean], source="ETH9").report
    assert any("unseen.pcapng: 100% of its lines are of PDUs that the bundle" in n for n in report["notes"])
